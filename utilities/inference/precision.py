"""Number formats of the network: float32, or mixed precision where the device computes faster with it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from utilities.base.errors import InputError

PRECISIONS = {'float32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def choose_precision(device: torch.device, name: str) -> torch.dtype:
    """Return the dtype that the parameter `precision` names on a device.

    'auto' is bfloat16 on a GPU that computes in it, else float32. Raises InputError for a CPU and another format than
    float32, because the weight gradients of bfloat16 convolutions are wrong there (PyTorch 2.13, oneDNN).
    """
    if device.type == 'cpu' and name not in ('auto', 'float32'):
        raise InputError(f"parameter precision: wanted 'auto' or 'float32' on a CPU, got {name!r}")
    if name == 'auto':
        has_bf16 = device.type == 'cuda' and torch.cuda.is_bf16_supported(including_emulation=False)
        name = 'bf16' if has_bf16 else 'float32'
    return PRECISIONS[name]


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager:
    """Return the context in which convolutions compute in `precision` while the weights stay float32.

    The method is mixed-precision training (Micikevicius et al. 2018). For float32 the context does nothing.
    """
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)
