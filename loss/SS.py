"""Sensitivity-specificity loss."""

import torch
from torch import nn

from loss.sums import flatten_samples


class SSLoss(nn.Module):
    """Squared error inside and outside the liver, weighted: sensitivity and specificity (Brosch et al. 2015).

    loss = s sum((p - t)^2 t) / (smooth + sum(t)) + (1 - s) sum((p - t)^2 (1 - t)) / (smooth + sum(1 - t)) per sample;
    mean over samples, not clamped.

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives the second term alone.
    """

    def __init__(self, smooth: float = 1.0, s: float = 0.05) -> None:
        super().__init__()
        self.smooth, self.s = smooth, s

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        p, t = flatten_samples(prediction, target)
        error = (p - t) ** 2
        sensitivity_term = (error * t).sum(1) / (self.smooth + t.sum(1))
        specificity_term = (error * (1 - t)).sum(1) / (self.smooth + (1 - t).sum(1))
        return (self.s * sensitivity_term + (1 - self.s) * specificity_term).mean()
