"""Which devices a run uses."""
import torch

from utilities.errors import InputError


def devices(gpu):
    """Devices of the parameter `gpu` ('0', '0,1'); the CPU, with a line that says so, where there is no CUDA or gpu is ''."""
    numbers = [int(number) for number in gpu.split(',') if number.strip()]
    if not numbers or not torch.cuda.is_available():
        print('no GPU: running on the CPU')
        torch.set_flush_denormal(True)  # Adam's moments become denormal numbers, with which a CPU is several times slower
        return [torch.device('cpu')]
    if max(numbers) >= torch.cuda.device_count():
        raise InputError(f'parameter gpu: wanted numbers below {torch.cuda.device_count()}, got {gpu!r}')
    return [torch.device('cuda', number) for number in numbers]
