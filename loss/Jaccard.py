"""Jaccard loss."""

import torch
from torch import nn

from loss.sums import overlap_sums


class JaccardLoss(nn.Module):
    """Soft Jaccard loss with squared terms (Yuan et al. 2017).

    loss = 1 - sum(p t) / (sum(p^2) + sum(t^2) - sum(p t) + smooth) per sample; mean over samples, clamped to [0, 1].

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives 1.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        pt, pp, tt = overlap_sums(prediction, target)
        return (1 - pt / (pp + tt - pt + self.smooth)).mean().clamp(0, 1)
