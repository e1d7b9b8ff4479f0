"""Binary cross-entropy."""

import torch
from torch import nn

from loss.sums import cross_entropy, flatten_samples


class BCELoss(nn.Module):
    """Binary cross-entropy, its logarithms clamped at -100.

    loss = mean of -(t ln(p) + (1 - t) ln(1 - p)) over all voxels of the batch.

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives the mean of -ln(1 - p).
    """

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return cross_entropy(*flatten_samples(prediction, target))
