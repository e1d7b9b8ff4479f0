"""Training steps on a GPU, beside plain PyTorch; the seconds are those of ten steps."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import bf16_matrix_rate
from benchmarks.measure import side_by_side
from benchmarks.trainers import make_trainers

STAGE = 'training step on a GPU, 48 x 256 x 256'
STEPS = 10


def measure(folder: Path, repeats: int) -> dict | None:
    if not torch.cuda.is_available():
        return None
    torch.backends.cudnn.benchmark = True
    plain_step, our_step = make_trainers(1, 48, 256, torch.device('cuda'))
    losses = np.array([[plain_step(), our_step().item()] for _ in range(30)])
    with FlopCounterMode(display=False) as counter:
        our_step()
    row, _, _ = side_by_side(
        lambda: [plain_step() for _ in range(STEPS)], lambda: [our_step() for _ in range(STEPS)], repeats
    )
    difference = np.abs(losses[:, 0] - losses[:, 1]).max()
    rate = STEPS * counter.get_total_flops() / row['ours_s'] / bf16_matrix_rate()
    return {
        **row,
        'goal': '>= 4 x',
        'reached': row['plain_s'] / row['ours_s'] >= 4 and difference <= 0.02,
        'agreement': f'losses of 30 steps at most {difference:.4f} apart; {rate:.0%} of the bf16 matrix rate',
    }
