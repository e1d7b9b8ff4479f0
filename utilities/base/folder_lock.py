"""One run at a time writes into a folder."""

import errno
import fcntl
import os
from pathlib import Path

from utilities.base import distributed
from utilities.base.atomic_write import process_tag, remove_parts_in
from utilities.base.errors import InputError
from utilities.base.log import log

NOT_SUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
held_locks = {}  # (device, inode) of a lock file -> (its descriptor, is it exclusive?, folder)
written_folders = set()  # folders claimed exclusively, by this process or by the first rank


def lock_folder(folder, parameter, shared=False):
    """Lock a folder until this process ends, however it ends: exclusive, to write, or shared, while we read what must not change.

    An exclusive claim makes the folder, and removes what killed runs left half-written in it and its subfolders. A shared one of a folder
    that is missing, read-only or was never claimed to write does nothing. A folder may be claimed again. On file systems that know no
    locks: a warning, no lock.
    Raises InputError, which names the parameter and the other run, if the folder is taken, and if it cannot be made or written to.
    """
    folder = Path(folder)
    if not shared and not distributed.is_main_process():
        written_folders.add(folder)  # the first rank claims it for all
        return
    try:
        if not shared:
            folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / '.lock', os.O_RDWR | (0 if shared else os.O_CREAT), 0o666)
    except OSError as error:
        if shared:
            return
        raise InputError(f'{folder}: wanted a folder to write to, got {error.strerror}; set {parameter}') from None
    status = os.fstat(lock)
    key = status.st_dev, status.st_ino
    if key in held_locks:
        os.close(lock)
        lock, exclusive, _ = held_locks[key]
        if exclusive or shared:
            return
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        other = os.pread(lock, 300, 0).decode(errors='replace') or 'another process'
        if key not in held_locks:
            os.close(lock)
        if error.errno in NOT_SUPPORTED:
            log.warning(f'warning: {folder}: its file system knows no locks; start no second run on it')
            return
        raise InputError(
            f'{folder}: {other} is at work in it; wait for its end, or set {parameter} to another folder'
        ) from None
    held_locks[key] = lock, not shared, folder
    if not shared:
        written_folders.add(folder)
        remove_parts_in(folder, '[0-9]*')
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f'process {os.getpid()} on {os.uname().nodename}'.encode(), 0)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder / '.lock')) from None


def remove_partial_files():
    """For a process that ends in the middle of its work: remove its parts in all folders that it claimed to write to.

    Its workers' as well, which write into no other; of several ranks each removes its own.
    """
    for folder in written_folders:
        remove_parts_in(folder, '[0-9]*' if distributed.world_size() == 1 else process_tag())


def release_locks():
    """A worker process holds no lock: it may outlive a run that was killed."""
    for lock, *_ in held_locks.values():
        os.close(lock)
    held_locks.clear()


os.register_at_fork(after_in_child=release_locks)
