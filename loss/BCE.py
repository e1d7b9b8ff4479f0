from torch import nn

from loss.sums import cross_entropy, prepared


class BCELoss(nn.Module):
    """Mean binary cross-entropy, logarithms held at -100.

    forward: prediction (n, 1, z, y, x) in (0, 1), target (n, z, y, x) in {0, 1} -> scalar.
    """

    def forward(self, prediction, target):
        return cross_entropy(*prepared(prediction, target))
