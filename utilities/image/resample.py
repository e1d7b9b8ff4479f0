"""Spline zoom of volumes, axis by axis, as products with small matrices.

A spline zoom is linear and separable: along each axis one matrix, the evaluation of the B-splines times their inverse filter
with mirror ends (Unser 1999), takes the old samples to the new ones.
"""

from functools import lru_cache

import numpy as np
from scipy import ndimage

NEGLIGIBLE = 1e-8  # smaller weights become 0, so that a new sample depends on a band of old ones, and none is denormal
ROWS = 32  # new samples in one product
SLICES = 16  # slices zoomed in plane at a time


def zoom(array, factors, order, dtype=None):
    """Spline zoom on scipy.ndimage.zoom's grid: the end points stay, output length = round(length x factor).

    array: any dimensions; factors: one a dimension, above 0; order 0 to 5. The result is of `dtype`, the array's own if None:
    an integer type is rounded to, and held within its range. float64 is computed in float64, all else in float32. An array
    whose shape stays comes back as it is. Raises ValueError for bad factors, or an output of length 0.
    """
    factors = np.atleast_1d(factors).astype(float)
    if factors.shape != (array.ndim,) or not np.isfinite(factors).all() or (factors <= 0).any():
        raise ValueError(f'factors: wanted {array.ndim} numbers above 0, got {factors.tolist()}')
    shape = tuple(round(n * f) for n, f in zip(array.shape, factors))
    if 0 in shape:
        raise ValueError(f'factors: wanted an output of one voxel or more, got {shape} from {array.shape}')
    axes = [axis for axis in range(array.ndim) if shape[axis] != array.shape[axis]]
    if order == 0:
        for axis in sorted(axes, key=lambda a: shape[a] / array.shape[a]):
            array = array.take(nearest(array.shape[axis], shape[axis]), axis)
        return array.astype(dtype or array.dtype, copy=False)

    dtype = np.dtype(dtype or array.dtype)
    if not axes:
        return fitted(array, dtype)
    in_plane = sorted((axis for axis in axes if axis), key=lambda a: shape[a] / array.shape[a])
    if in_plane:
        zoomed = np.empty(array.shape[:1] + shape[1:], working_type(array) if 0 in axes else dtype)
        for first in range(0, len(array), SLICES):
            part = array[first : first + SLICES].astype(working_type(array))
            for axis in in_plane:
                part = zoom_axis(part, axis, shape[axis], order)
            zoomed[first : first + SLICES] = fitted(part, zoomed.dtype)
        array = zoomed
    return zoom_axis(array, 0, shape[0], order, dtype) if 0 in axes else array


def zoom_axis(array, axis, length, order, dtype=None):
    """Zoom along one axis; the result is of `dtype`, the array's own if None."""
    shape = array.shape[:axis] + (length,) + array.shape[axis + 1 :]
    dtype = dtype or array.dtype
    before, after = int(np.prod(array.shape[:axis])), int(np.prod(array.shape[axis + 1 :]))
    old, new = array.reshape(before, array.shape[axis], after), np.empty((before, length, after), dtype)
    for rows, columns, weights in bands(array.shape[axis], length, order):
        band = old[:, columns].astype(working_type(array), copy=False)
        weights = weights.astype(band.dtype)
        if after == 1:
            new[:, rows, 0] = fitted(band[:, :, 0] @ weights.T, dtype)
        else:
            new[:, rows] = fitted(weights @ band, dtype)
    return new.reshape(shape)


@lru_cache(maxsize=64)
def bands(old, new, order):
    """The matrix (new, old) of a zoom along one axis in blocks: list of (rows, columns that are not 0, weights in float64)."""
    # 'mirror' has the prefilter of scipy's default 'constant', and gives no 0 for a last coordinate that rounding moved out
    matrix = ndimage.zoom(np.eye(old), (new / old, 1), order=order, mode='mirror')
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    blocks = []
    for first in range(0, new, ROWS):
        rows = slice(first, min(new, first + ROWS))
        used = np.flatnonzero(matrix[rows].any(0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        blocks.append((rows, columns, matrix[rows, columns]))
    return blocks


def nearest(old, new):
    """The old sample that each new one copies."""
    return ndimage.zoom(np.arange(old), new / old, order=0, mode='mirror')


def working_type(array):
    return np.float64 if array.dtype == np.float64 else np.float32


def fitted(values, dtype):
    """Values in a dtype: rounded and held in range where that is an integer type."""
    if np.issubdtype(dtype, np.integer) and values.dtype != dtype:
        values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return values.astype(dtype, copy=False)
