"""Spline zoom of volumes."""
import numpy as np
from scipy import ndimage


def zoom(array, factors, order):
    """Spline zoom on scipy.ndimage.zoom's grid: the end points stay, output length = round(length x factor).

    array: any dimensions; factors: one a dimension, above 0; order 0 to 5. Integers come back rounded, in the same type.
    An array whose shape stays comes back as it is. Raises ValueError for bad factors, or an output of length 0.
    """
    factors = np.atleast_1d(factors).astype(float)
    if factors.shape != (array.ndim,) or not np.isfinite(factors).all() or (factors <= 0).any():
        raise ValueError(f'factors: wanted {array.ndim} numbers above 0, got {factors.tolist()}')
    shape = tuple(round(n * f) for n, f in zip(array.shape, factors))
    if 0 in shape:
        raise ValueError(f'factors: wanted an output of one voxel or more, got {shape} from {array.shape}')
    if shape == array.shape:
        return array
    # 'mirror' has the same prefilter as the default 'constant', and gives no 0 for a last coordinate that rounding moved out
    return ndimage.zoom(array, factors, order=order, mode='mirror')


def resize(array, shape, order):
    """zoom to an exact shape."""
    return zoom(array, [new / old for new, old in zip(shape, array.shape, strict=True)], order)
