"""Exponential logarithmic Dice loss."""

import torch
from torch import nn

from loss.sums import dice_coefficient


class ELDiceLoss(nn.Module):
    """Exponential logarithmic Dice loss (Wong et al. 2018).

    loss = (-ln(dice + epsilon))^exponent per sample, with the Dice coefficient of DiceLoss; mean over samples, clamped
    to [0, 2]. If dice + epsilon is 1 or more, the loss and its gradient are 0.

    Prediction: (n, 1, z, y, x) in (0, 1). Target: (n, z, y, x) in {0, 1}. Result: a scalar.
    An empty target gives 2, without a gradient because of the clamp.
    """

    def __init__(self, smooth: float = 1.0, epsilon: float = 1e-5, exponent: float = 0.3) -> None:
        super().__init__()
        self.smooth, self.epsilon, self.exponent = smooth, epsilon, exponent

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        argument = dice_coefficient(prediction, target, self.smooth) + self.epsilon
        is_perfect = argument >= 1
        # The power's gradient at 0 is infinite, and its product with 0 is NaN: such samples take another argument.
        power = (-torch.log(argument.masked_fill(is_perfect, 0.5))) ** self.exponent
        return power.masked_fill(is_perfect, 0).mean().clamp(0, 2)
