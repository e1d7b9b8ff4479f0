"""Weighted binary cross-entropy."""

import torch
from torch import nn

from loss.sums import cross_entropy, flatten_samples


class WCELoss(nn.Module):
    """Cross-entropy with class weights, its logarithms clamped at -100.

    loss = sum(-w ln(probability of the true class)) / sum(w) per sample, where w is the weight of the true class; mean
    over samples.

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives the mean of -ln(1 - p).
    """

    def __init__(self, background_weight: float = 0.05, liver_weight: float = 1.0) -> None:
        super().__init__()
        self.background_weight, self.liver_weight = background_weight, liver_weight

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        p, t = flatten_samples(prediction, target)
        weight = self.background_weight + (self.liver_weight - self.background_weight) * t
        return (cross_entropy(p, t, weight, reduction='none').sum(1) / weight.sum(1)).mean()
