"""Training steps on the CPU, beside plain PyTorch."""

from pathlib import Path

import numpy as np

from benchmarks.measure import side_by_side
from benchmarks.trainers import make_trainers
from utilities.inference.devices import choose_devices

STAGE = 'training step on the CPU, 2 x 16 x 64 x 64'


def measure(folder: Path, repeats: int) -> dict:
    plain_step, our_step = make_trainers(2, 16, 64, choose_devices('')[0])
    losses = np.array([[plain_step(), our_step().item()] for _ in range(10)])
    row, _, _ = side_by_side(plain_step, our_step, 5 * repeats)
    difference = np.abs(losses[:, 0] - losses[:, 1]).max()
    return {
        **row,
        'goal': '> 1 x',
        'reached': row['plain_s'] > row['ours_s'] and difference <= 1e-3,
        'agreement': f'losses of 10 steps at most {difference:.0e} apart',
    }
