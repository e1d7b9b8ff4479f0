"""The cores, threads and memory that a run may use, and the description of the machine."""

import os
import platform
from math import inf
from pathlib import Path

import joblib
import numpy

from utilities.base import environment


def cores() -> int:
    """Return the number of cores that this process may use, 1 or more.

    Both its affinity and the quota of its control group count.
    """
    return joblib.cpu_count()


def threads() -> int:
    """Return the number of threads that a function of ours may start: limit_threads()'s number, else one per core."""
    return environment.thread_limit or cores()


def free_memory(root: Path | str = '/') -> int:
    """Return the bytes that this process and others it starts may still use.

    This is the smaller of the memory that the machine has available and what is left under the limit of each memory
    control group (versions 1 and 2), from the group of this process up to the topmost, since batch systems set the
    limit some levels up. Pages that only cache files count as free.
    root: the folder in which proc and sys are found. A file that is missing limits nothing.
    """
    root = Path(root)
    free = [_read_numbers(root / 'proc/meminfo').get('MemAvailable:', inf) * 1024]
    for line in _read_lines(root / 'proc/self/cgroup'):
        _, controllers, path = line.split(':', 2)
        if 'memory' in controllers.split(','):
            top = root / 'sys/fs/cgroup/memory'
            file_names = 'memory.limit_in_bytes', 'memory.usage_in_bytes'
            prefix = 'total_'
        elif not controllers:
            top = root / 'sys/fs/cgroup'
            file_names = 'memory.max', 'memory.current'
            prefix = ''
        else:
            continue
        group = top / path.strip('/')
        levels = len(group.parts) - len(top.parts) + 1
        free += [_free_in_group(folder, *file_names, prefix) for folder in (group, *group.parents)[:levels]]
    return max(0, min(free))


def _free_in_group(folder: Path, limit_name: str, usage_name: str, prefix: str) -> float:
    """Return the bytes that are left under the limit of a memory control group; infinity if it has no limit."""
    limit, usage = _read_lines(folder / limit_name), _read_lines(folder / usage_name)
    if not limit or not usage or limit[0] == 'max':
        return inf
    pages = _read_numbers(folder / 'memory.stat')
    file_cache = pages.get(f'{prefix}active_file', 0) + pages.get(f'{prefix}inactive_file', 0)
    return int(limit[0]) - int(usage[0]) + file_cache


def _read_numbers(path: Path) -> dict[str, int]:
    """Return the lines 'name number ...' of a file as a dict; {} if the file is missing."""
    return {name: int(number) for name, number, *_ in map(str.split, _read_lines(path))}


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a file; [] if the file is missing."""
    return path.read_text().splitlines() if path.is_file() else []


def describe_machine() -> dict[str, str]:
    """Return the versions and the hardware of this run, as they are stored beside its results."""
    import torch  # here, so that scripts which need no PyTorch start without it

    models = [
        line.split(':')[1].strip() for line in _read_lines(Path('/proc/cpuinfo')) if line.startswith('model name')
    ]
    model = models[0] if models else platform.machine()
    gpus = ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or 'no GPU'
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return {
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': numpy.__version__,
        'machine': f'{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {gpus}',
    }
