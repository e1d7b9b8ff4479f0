"""Which devices a run uses."""
import os
import platform

import numpy
import torch

from utilities import ranks
from utilities.errors import InputError
from utilities.log import log
from utilities.machine import cores


def devices(gpu):
    """Devices of the parameter `gpu` ('0', '0,1'); the CPU, with a line that says so, where there is no CUDA or gpu is ''.

    Under torchrun each rank has one: the GPU of its number on its machine, or its share of the CPU's cores.
    """
    numbers = [int(number) for number in gpu.split(',') if number.strip()]
    if not numbers or not torch.cuda.is_available():
        log.info('no GPU: running on the CPU')
        torch.set_flush_denormal(True)  # Adam's moments become denormal numbers, with which a CPU is several times slower
        if ranks.size() > 1:
            torch.set_num_threads(max(1, cores() // ranks.local_size()))
        return [torch.device('cpu')]
    if ranks.size() > 1:
        return [torch.device('cuda', ranks.local_rank())]
    if max(numbers) >= torch.cuda.device_count():
        raise InputError(f'parameter gpu: wanted numbers below {torch.cuda.device_count()}, got {gpu!r}')
    return [torch.device('cuda', number) for number in numbers]


def made_on():
    """Versions and hardware of this run, a dict of strings."""
    model = platform.processor() or platform.machine()
    try:
        model = next(line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    except (OSError, StopIteration):
        pass
    gpus = ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or 'no GPU'
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30
    return {'python': platform.python_version(), 'torch': torch.__version__, 'numpy': numpy.__version__,
            'machine': f'{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {gpus}'}
