"""Rate of a GPU, to compare a network with."""

import torch

from benchmarks.measure import measure_call

PRODUCTS = 20


def bf16_matrix_rate(n: int = 8192) -> float:
    """Return the bf16 operations per second of a product of two n x n matrices on the GPU."""
    a = torch.randn(n, n, dtype=torch.bfloat16, device='cuda')
    seconds = min(measure_call(lambda: [a @ a for _ in range(PRODUCTS)])[0] for _ in range(5))
    return PRODUCTS * 2 * n**3 / seconds
