"""Tversky loss."""

import torch
from torch import nn

from loss.sums import flatten_samples


class TverskyLoss(nn.Module):
    """Tversky loss, which weighs false positives by a and false negatives by b (Salehi et al. 2017).

    loss = 1 - sum(p t) / (sum(p t) + a sum(p (1 - t)) + b sum((1 - p) t) + smooth) per sample; mean over samples,
    clamped to [0, 2].

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives 1.
    """

    def __init__(self, smooth: float = 1.0, a: float = 0.3, b: float = 0.7) -> None:
        super().__init__()
        self.smooth, self.a, self.b = smooth, a, b

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        p, t = flatten_samples(prediction, target)
        true_positives = (p * t).sum(1)
        false_positives, false_negatives = (p * (1 - t)).sum(1), ((1 - p) * t).sum(1)
        denominator = true_positives + self.a * false_positives + self.b * false_negatives + self.smooth
        return (1 - true_positives / denominator).mean().clamp(0, 2)
