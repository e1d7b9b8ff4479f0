"""Which devices a run uses."""

import torch

from utilities.base import distributed
from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.base.machine import cores


def devices(gpu):
    """Devices of the parameter `gpu` ('0', '0,1'); the CPU, with a line that says so, where there is no CUDA or gpu is ''.

    Under torchrun each rank has one: the GPU of its number on its machine, or its share of the CPU's cores.
    """
    numbers = [int(number) for number in gpu.split(',') if number.strip()]
    if not numbers or not torch.cuda.is_available():
        log.info('no GPU: running on the CPU')
        torch.set_flush_denormal(
            True
        )  # Adam's moments become denormal numbers, with which a CPU is several times slower
        if distributed.world_size() > 1:
            torch.set_num_threads(max(1, cores() // distributed.local_world_size()))
        return [torch.device('cpu')]
    if distributed.world_size() > 1:
        return [torch.device('cuda', distributed.local_rank())]
    if max(numbers) >= torch.cuda.device_count():
        raise InputError(f'parameter gpu: wanted numbers below {torch.cuda.device_count()}, got {gpu!r}')
    return [torch.device('cuda', number) for number in numbers]
