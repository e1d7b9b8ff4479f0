"""What several losses share: sums over the voxels of a sample, the Dice coefficient, and cross-entropy.

p is the prediction and t the target, both of shape (n, voxels).
"""

import torch
import torch.nn.functional as F


def flatten_samples(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prediction (n, 1, z, y, x) and target (n, z, y, x) as float32 tensors (n, voxels).

    Raises ValueError for other shapes.
    """
    if prediction.ndim != 5 or prediction.shape[1] != 1 or prediction.shape[:1] + prediction.shape[2:] != target.shape:
        raise ValueError(
            f'wanted a prediction (n, 1, z, y, x) and a target (n, z, y, x), got {tuple(prediction.shape)} '
            f'and {tuple(target.shape)}'
        )
    return prediction.float().flatten(1), target.float().flatten(1)


def overlap_sums(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return sum(p t), sum(p^2) and sum(t^2) of each sample, each of shape (n,)."""
    p, t = flatten_samples(prediction, target)
    return (p * t).sum(1), (p * p).sum(1), (t * t).sum(1)


def dice_coefficient(prediction: torch.Tensor, target: torch.Tensor, smooth: float) -> torch.Tensor:
    """Return 2 sum(p t) / (sum(p^2) + sum(t^2) + smooth) of each sample, of shape (n,); 0 for an empty target."""
    pt, pp, tt = overlap_sums(prediction, target)
    return 2 * pt / (pp + tt + smooth)


def cross_entropy(
    p: torch.Tensor, t: torch.Tensor, weight: torch.Tensor | None = None, reduction: str = 'mean'
) -> torch.Tensor:
    """Return the binary cross-entropy of p and t, its logarithms clamped at -100.

    A NaN in p gives NaN; on a GPU, F.binary_cross_entropy alone would end the process instead.

    Args:
        p: probabilities in (0, 1).
        t: targets in {0, 1}, of the shape of p.
        weight: factor of each voxel, of the shape of p.
        reduction: 'mean', or 'none' for the value of each voxel.
    """
    return F.binary_cross_entropy(p.nan_to_num(nan=0.5), t, weight, reduction=reduction) + 0 * p.sum()
