"""The devices that a run computes on."""

import torch

from utilities.base import distributed
from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.base.machine import cores


def choose_devices(gpu: str) -> list[torch.device]:
    """Return the devices that the parameter `gpu` names, such as '0' or '0,1'; prepare torch if that is the CPU.

    The device is the CPU if gpu is '' or CUDA is not available, which is logged. Under torchrun each rank has one
    device: the GPU of its local rank, or its share of the CPU's cores. Raises InputError for a GPU that the machine
    does not have.
    """
    numbers = [int(number) for number in gpu.split(',') if number.strip()]
    if not numbers or not torch.cuda.is_available():
        log.info('no GPU: running on the CPU')
        set_up_cpu()
        return [torch.device('cpu')]
    if distributed.world_size() > 1:
        return [torch.device('cuda', distributed.local_rank())]
    if max(numbers) >= torch.cuda.device_count():
        raise InputError(f'parameter gpu: wanted numbers below {torch.cuda.device_count()}, got {gpu!r}')
    return [torch.device('cuda', number) for number in numbers]


def set_up_cpu() -> None:
    """Let torch round denormal numbers to 0, and under torchrun share the cores among the ranks of this machine."""
    # Adam's moments become denormal numbers, with which a CPU computes several times slower.
    torch.set_flush_denormal(True)
    if distributed.world_size() > 1:
        torch.set_num_threads(max(1, cores() // distributed.local_world_size()))
