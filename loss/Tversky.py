from torch import nn

from loss.sums import prepared


class TverskyLoss(nn.Module):
    """1 - sum(pt) / (sum(pt) + a sum(p (1 - t)) + b sum((1 - p) t) + smooth), mean over samples, in [0, 2] (Salehi et al. 2017).

    forward: prediction (n, 1, z, y, x) in (0, 1), target (n, z, y, x) in {0, 1} -> scalar. a weighs false, b missed liver.
    An empty target gives 1.
    """

    def __init__(self, smooth=1.0, a=0.3, b=0.7):
        super().__init__()
        self.smooth, self.a, self.b = smooth, a, b

    def forward(self, prediction, target):
        p, t = prepared(prediction, target)
        pt = (p * t).sum(1)
        false, missed = (p * (1 - t)).sum(1), ((1 - p) * t).sum(1)
        return (1 - pt / (pt + self.a * false + self.b * missed + self.smooth)).mean().clamp(0, 2)
