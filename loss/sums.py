"""What several losses are made from: sums over z, y, x per sample, and cross-entropy."""

import torch.nn.functional as F


def prepared(prediction, target):
    """Prediction (n, 1, z, y, x) and target (n, z, y, x) as float32 (n, voxels). Raises ValueError if they do not fit."""
    if prediction.ndim != 5 or prediction.shape[1] != 1 or prediction.shape[:1] + prediction.shape[2:] != target.shape:
        raise ValueError(
            f'wanted a prediction (n, 1, z, y, x) and a target (n, z, y, x), got {tuple(prediction.shape)} '
            f'and {tuple(target.shape)}'
        )
    return prediction.float().flatten(1), target.float().flatten(1)


def overlap_sums(prediction, target):
    """sum(pt), sum(p^2), sum(t^2) per sample, (n,) each."""
    p, t = prepared(prediction, target)
    return (p * t).sum(1), (p * p).sum(1), (t * t).sum(1)


def dice(prediction, target, smooth):
    """2 sum(pt) / (sum(p^2) + sum(t^2) + smooth) per sample, (n,); 0 for an empty target."""
    pt, pp, tt = overlap_sums(prediction, target)
    return 2 * pt / (pp + tt + smooth)


def cross_entropy(p, t, weight=None, reduction='mean'):
    """Binary cross-entropy, logarithms held at -100; NaN for a prediction with NaN, by which PyTorch's own would end the run."""
    return F.binary_cross_entropy(p.nan_to_num(nan=0.5), t, weight, reduction=reduction) + 0 * p.sum()
