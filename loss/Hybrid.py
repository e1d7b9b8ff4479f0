"""Dice loss plus binary cross-entropy."""

import torch
from torch import nn

from loss.BCE import BCELoss
from loss.Dice import DiceLoss


class HybridLoss(nn.Module):
    """Sum of the Dice loss and the binary cross-entropy.

    loss = DiceLoss + BCELoss; only the Dice term is clamped.

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives 1 + BCELoss.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice, self.bce = DiceLoss(), BCELoss()

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.dice(prediction, target) + self.bce(prediction, target)
