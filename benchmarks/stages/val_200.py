"""val.py with the ResUNet on the CPU."""

from pathlib import Path

import torch

from benchmarks.whole_case import compare_predictions
from net.ResUNet import ResUNet
from tests.reference.recipe import band_weights

STAGE = 'val.py, 200 x 512 x 512, the ResUNet on the CPU'


def measure(folder: Path, repeats: int) -> dict:
    weights = band_weights(ResUNet(training=False).state_dict())
    tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
    return compare_predictions(folder, 'resunet', tensors, 200)
