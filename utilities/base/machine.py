"""What a run may take of its machine: cores, memory, threads."""

import os
import platform
import sys
from math import inf
from pathlib import Path

import joblib
import numpy
import torch

# of the pools of libraries that are loaded later, in this process or in those it starts
VARIABLES = 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'
limit = None


def cores():
    """Cores that this process may use, by its affinity and its control group's quota; at least 1."""
    return joblib.cpu_count()


def threads():
    """Threads that a function of ours may start: what limit_threads said, else a thread a core."""
    return limit or cores()


def limit_threads(number):
    """From now on `number` threads (1 or more) in this process's pools, ours, ITK's and torch's; BLAS has one in any case.

    What runs already keeps its threads. The results of our own functions do not depend on the number.
    """
    global limit
    limit = number
    os.environ.update(dict.fromkeys(VARIABLES, str(number)))
    if 'SimpleITK' in sys.modules:
        sys.modules['SimpleITK'].ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    if 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(number)


def free_memory(root='/'):
    """Bytes that this process and others it starts may still take before the machine or a memory limit runs out.

    The least of what the machine has available and what is left under the limit of each memory control group, versions 1 and 2, from this
    process's up to the topmost: a batch system sets it some levels up. Pages that only keep files in memory count as free.
    root: where proc and sys are found. What is not there limits nothing.
    """
    root = Path(root)
    free = [_numbers(root / 'proc/meminfo').get('MemAvailable:', inf) * 1024]
    for line in _lines(root / 'proc/self/cgroup'):
        _, controllers, path = line.split(':', 2)
        if 'memory' in controllers.split(','):
            top, most, used, prefix = (
                root / 'sys/fs/cgroup/memory',
                'memory.limit_in_bytes',
                'memory.usage_in_bytes',
                'total_',
            )
        elif not controllers:
            top, most, used, prefix = root / 'sys/fs/cgroup', 'memory.max', 'memory.current', ''
        else:
            continue
        group = top / path.strip('/')
        for folder in (group, *group.parents)[: len(group.parts) - len(top.parts) + 1]:
            limits, usage = _lines(folder / most), _lines(folder / used)
            if limits and usage and limits[0] != 'max':
                pages = _numbers(folder / 'memory.stat')
                free.append(
                    int(limits[0])
                    - int(usage[0])
                    + sum(pages.get(f'{prefix}{kind}_file', 0) for kind in ('active', 'inactive'))
                )
    return max(0, min(free))


def _numbers(path):
    """The lines 'name number ...' of a file, as a dict."""
    return {name: int(number) for name, number, *_ in map(str.split, _lines(path))}


def _lines(path):
    return path.read_text().splitlines() if path.is_file() else []


def describe_machine():
    """Versions and hardware of this run, a dict of strings."""
    model = platform.processor() or platform.machine()
    try:
        model = next(line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    except (OSError, StopIteration):
        pass
    gpus = ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or 'no GPU'
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return {
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': numpy.__version__,
        'machine': f'{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {gpus}',
    }
