import torch
from torch import nn

from loss.sums import dice


class ELDiceLoss(nn.Module):
    """(-ln(dice + epsilon))^exponent, mean over samples, held in [0, 2] (Wong et al. 2018, exponential logarithmic Dice).

    forward: prediction (n, 1, z, y, x) in (0, 1), target (n, z, y, x) in {0, 1} -> scalar. The logarithm's argument is held
    at 1, where the loss is 0 and its gradient too (the power's own would be infinite). An empty target gives
    2, with no gradient: beyond the clamp.
    """

    def __init__(self, smooth=1.0, epsilon=1e-5, exponent=0.3):
        super().__init__()
        self.smooth, self.epsilon, self.exponent = smooth, epsilon, exponent

    def forward(self, prediction, target):
        argument = dice(prediction, target, self.smooth) + self.epsilon
        perfect = argument >= 1
        power = (-torch.log(argument.masked_fill(perfect, 0.5))) ** self.exponent
        return power.masked_fill(perfect, 0).mean().clamp(0, 2)
