from torch import nn

from loss.sums import dice


class DiceLoss(nn.Module):
    """1 - 2 sum(pt) / (sum(p^2) + sum(t^2) + smooth), mean over samples, held in [0, 1] (Milletari et al. 2016).

    forward: prediction (n, 1, z, y, x) in (0, 1), target (n, z, y, x) in {0, 1} -> scalar. An empty target gives 1.
    """

    def __init__(self, smooth=1.0):
        super().__init__()
        self.smooth = smooth

    def forward(self, prediction, target):
        return (1 - dice(prediction, target, self.smooth)).mean().clamp(0, 1)
