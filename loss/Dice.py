"""Dice loss."""

import torch
from torch import nn

from loss.sums import dice_coefficient


class DiceLoss(nn.Module):
    """Soft Dice loss with squared terms (Milletari et al. 2016).

    loss = 1 - 2 sum(p t) / (sum(p^2) + sum(t^2) + smooth) per sample; mean over samples, clamped to [0, 1].

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives 1.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (1 - dice_coefficient(prediction, target, self.smooth)).mean().clamp(0, 1)
