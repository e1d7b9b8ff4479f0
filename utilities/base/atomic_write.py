"""Write files that appear whole or not at all."""

import os
import re
import zlib
from contextlib import contextmanager
from pathlib import Path


def process_tag():
    """Numbers of this process and its machine, for the names of half-written files."""
    return f'{os.getpid()}-{zlib.crc32(os.uname().nodename.encode())}'


def remove_parts_in(folder, tag):
    """Remove what a process left half-written in a folder and its subfolders, by the names of atomic_write."""
    # a subfolder with a lock is another claim's
    for place in [folder, *(path for path in folder.iterdir() if path.is_dir() and not (path / '.lock').exists())]:
        for part in place.glob(f'.part-{tag}-?*'):
            part.unlink(missing_ok=True)


PART = re.compile(r'\.part-\d+-\d+-.+')  # names of files not yet whole


def reserve_space(part, room, path):
    """Ask the file system for the room (bytes) of a file: ITK tells no errno, and of NIfTI not even that it failed."""
    try:
        with open(part, 'ab') as file:
            os.posix_fallocate(file.fileno(), 0, room)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def atomic_write(path):
    """`with atomic_write(path) as part:` write to part; path appears complete at the end, or not at all. An OSError names path or part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.part-{process_tag()}-{path.name}')
    try:
        yield part
        with open(part, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)  # of whatever failed; once renamed it is gone
