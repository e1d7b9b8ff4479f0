"""Locks on folders, so that only one run at a time writes into a folder.

A lock is a POSIX flock on the file .lock of the folder; the system releases it when the process ends, however it ends.
"""

import errno
import fcntl
import os
from functools import cache
from pathlib import Path

from utilities.base import distributed
from utilities.base.atomic_write import process_tag, remove_parts_in
from utilities.base.errors import InputError
from utilities.base.log import log

NOT_SUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
ANY_PROCESS = '[0-9]*'  # matches every process_tag()
held_locks = {}  # (device, inode) of a lock file -> (its descriptor, whether it is exclusive, its folder)
written_folders = set()  # folders that this run has locked exclusively


def lock_folder(folder: Path | str, parameter: str, shared: bool = False) -> None:
    """Lock a folder until this process ends.

    An exclusive lock, to write, creates the folder and removes the partial files that killed runs left in it and in its
    subfolders. Under torchrun the main process locks for all ranks.
    A shared lock, to read files that must not change, does nothing for a folder that is missing or read-only, or that
    no run has ever locked to write. A process may lock a folder again. A file system without locks is a warning.

    Raises InputError, which names the parameter, if another run has locked the folder, and if the folder cannot be
    created or written to.
    """
    folder = Path(folder)
    if not shared and not distributed.is_main_process():
        written_folders.add(folder)
        return
    release_locks_in_forked_processes()
    lock = open_lock_file(folder, parameter, shared)
    if lock is None:
        return
    status = os.fstat(lock)
    key = status.st_dev, status.st_ino
    if key in held_locks:
        os.close(lock)
        lock, is_exclusive, _ = held_locks[key]
        if is_exclusive or shared:
            return
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        other = os.pread(lock, 300, 0).decode(errors='replace') or 'another process'
        if key not in held_locks:
            os.close(lock)
        if error.errno in NOT_SUPPORTED:
            log.warning(f'warning: {folder}: its file system supports no locks; start no second run on it')
            return
        raise InputError(
            f'{folder}: {other} is at work in it; wait for its end, or set {parameter} to another folder'
        ) from None
    held_locks[key] = lock, not shared, folder
    if not shared:
        written_folders.add(folder)
        remove_parts_in(folder, ANY_PROCESS)
    write_owner(lock, folder)


def open_lock_file(folder: Path, parameter: str, shared: bool) -> int | None:
    """Return the descriptor of a folder's lock file; None if a shared lock finds no such file that it can open."""
    try:
        if not shared:
            folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / '.lock', os.O_RDWR | (0 if shared else os.O_CREAT), 0o666)
    except OSError as error:
        if shared:
            return None
        raise InputError(f'{folder}: wanted a folder to write to, got {error.strerror}; set {parameter}') from None


def write_owner(lock: int, folder: Path) -> None:
    """Write this process and its machine into the lock file, for the message that another run prints."""
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f'process {os.getpid()} on {os.uname().nodename}'.encode(), 0)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder / '.lock')) from None


def remove_partial_files() -> None:
    """Remove the partial files of this run and its workers from all folders that it has locked to write.

    For a process that ends in the middle of its work. Under torchrun each rank removes its own files only.
    """
    for folder in written_folders:
        remove_parts_in(folder, ANY_PROCESS if distributed.world_size() == 1 else process_tag())


def release_locks() -> None:
    """Release all locks of this process."""
    for lock, *_ in held_locks.values():
        os.close(lock)
    held_locks.clear()


@cache
def release_locks_in_forked_processes() -> None:
    """Let processes that are forked from this one hold no lock, since they may outlive a run that was killed."""
    os.register_at_fork(after_in_child=release_locks)
