"""Number formats of the network: float32, or mixed precision where the device is quicker with it."""

from contextlib import nullcontext

import torch

from utilities.base.errors import InputError

PRECISIONS = {'float32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def precision_on(device, name):
    """The torch dtype of the parameter `precision`; 'auto' is bf16 on GPUs that compute in it, else float32.

    Raises InputError for a CPU and another than float32: the weight gradients of its bf16 convolutions are wrong (PyTorch 2.13, oneDNN).
    """
    if device.type == 'cpu' and name not in ('auto', 'float32'):
        raise InputError(f"parameter precision: wanted 'auto' or 'float32' on a CPU, got {name!r}")
    if name == 'auto':
        name = (
            'bf16' if device.type == 'cuda' and torch.cuda.is_bf16_supported(including_emulation=False) else 'float32'
        )
    return PRECISIONS[name]


def autocast(device, precision):
    """Convolutions in this dtype, weights in float32 (Micikevicius et al. 2018); nothing for float32."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)
