from torch import nn

from loss.sums import overlap_sums


class JaccardLoss(nn.Module):
    """1 - sum(pt) / (sum(p^2) + sum(t^2) - sum(pt) + smooth), mean over samples, held in [0, 1] (Yuan et al. 2017).

    forward: prediction (n, 1, z, y, x) in (0, 1), target (n, z, y, x) in {0, 1} -> scalar. An empty target gives 1.
    """

    def __init__(self, smooth=1.0):
        super().__init__()
        self.smooth = smooth

    def forward(self, prediction, target):
        pt, pp, tt = overlap_sums(prediction, target)
        return (1 - pt / (pp + tt - pt + self.smooth)).mean().clamp(0, 1)
