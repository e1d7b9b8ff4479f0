"""Write files that appear whole or not at all.

A file is written under a temporary name, .part-PROCESS-MACHINE-NAME in the same folder, and renamed when it is
complete.
"""

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = re.compile(r'\.part-\d+-\d+-.+')  # names of files that are not complete


def process_tag() -> str:
    """Return the numbers that identify this process and its machine in the names of partial files."""
    return f'{os.getpid()}-{zlib.crc32(os.uname().nodename.encode())}'


def remove_parts_in(folder: Path, tag: str) -> None:
    """Remove the partial files in a folder and its subfolders.

    tag: a process_tag(), or '[0-9]*' for the files of all processes. A subfolder that has its own lock is left alone.
    """
    subfolders = [path for path in folder.iterdir() if path.is_dir() and not (path / '.lock').exists()]
    for searched in [folder, *subfolders]:
        for part in searched.glob(f'.part-{tag}-?*'):
            part.unlink(missing_ok=True)


def reserve_space(part: Path, size: int, path: Path) -> None:
    """Ask the file system for `size` bytes of disk space before ITK writes a file.

    ITK reports no error number, and for NIfTI not even that writing failed.
    Raises OSError, which names `path`, the final name of `part`.
    """
    try:
        with open(part, 'ab') as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path to write to; at the end of the `with` block it is renamed to `path`.

    If the block raises, nothing appears at `path`. An OSError names the path or its temporary file.
    """
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
        part.unlink(missing_ok=True)  # It is still there only if something failed.
