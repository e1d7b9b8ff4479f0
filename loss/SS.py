from torch import nn

from loss.sums import prepared


class SSLoss(nn.Module):
    """Weighted squared error on the liver and on the rest: sensitivity and specificity (Brosch et al. 2015).

    s sum((p - t)^2 t) / (smooth + sum t) + (1 - s) sum((p - t)^2 (1 - t)) / (smooth + sum(1 - t)), mean over samples.
    forward: prediction (n, 1, z, y, x) in (0, 1), target (n, z, y, x) in {0, 1} -> scalar. An empty target leaves the second term.
    """

    def __init__(self, smooth=1.0, s=0.05):
        super().__init__()
        self.smooth, self.s = smooth, s

    def forward(self, prediction, target):
        p, t = prepared(prediction, target)
        error = (p - t) ** 2
        sensitivity = (error * t).sum(1) / (self.smooth + t.sum(1))
        specificity = (error * (1 - t)).sum(1) / (self.smooth + (1 - t).sum(1))
        return (self.s * sensitivity + (1 - self.s) * specificity).mean()
