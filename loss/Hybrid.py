from torch import nn

from loss.BCE import BCELoss
from loss.Dice import DiceLoss


class HybridLoss(nn.Module):
    """Dice loss + bce_weight x binary cross-entropy.

    forward: prediction (n, 1, z, y, x) in (0, 1), target (n, z, y, x) in {0, 1} -> scalar.
    """

    def __init__(self, smooth=1.0, bce_weight=1.0):
        super().__init__()
        self.dice, self.bce, self.bce_weight = DiceLoss(smooth), BCELoss(), bce_weight

    def forward(self, prediction, target):
        return self.dice(prediction, target) + self.bce_weight * self.bce(prediction, target)
