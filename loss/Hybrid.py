"""Dice loss plus binary cross-entropy."""

import torch
from torch import nn

from loss.BCE import BCELoss
from loss.Dice import DiceLoss


class HybridLoss(nn.Module):
    """Sum of the Dice loss and the weighted binary cross-entropy.

    loss = DiceLoss + bce_weight x BCELoss; only the Dice term is clamped.

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives 1 + bce_weight x BCELoss.
    """

    def __init__(self, smooth: float = 1.0, bce_weight: float = 1.0) -> None:
        super().__init__()
        self.dice, self.bce, self.bce_weight = DiceLoss(smooth), BCELoss(), bce_weight

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.dice(prediction, target) + self.bce_weight * self.bce(prediction, target)
