from torch import nn

from loss.sums import cross_entropy, prepared


class WCELoss(nn.Module):
    """Cross-entropy with class weights: sum(w (-ln probability of the true class)) / sum(w) of each sample, logarithms held at -100.

    forward: prediction (n, 1, z, y, x) in (0, 1), target (n, z, y, x) in {0, 1} -> scalar.
    """

    def __init__(self, background_weight=0.05, liver_weight=1.0):
        super().__init__()
        self.background_weight, self.liver_weight = background_weight, liver_weight

    def forward(self, prediction, target):
        p, t = prepared(prediction, target)
        weight = self.background_weight + (self.liver_weight - self.background_weight) * t
        return (cross_entropy(p, t, weight, reduction='none').sum(1) / weight.sum(1)).mean()
