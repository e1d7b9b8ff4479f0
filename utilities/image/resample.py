"""Resample volumes by splines, axis by axis, as products with small matrices.

A spline zoom is linear and separable: along each axis, one matrix maps the old samples to the new ones. It is the
product of the evaluation of the B-splines and their inverse filter with mirrored ends (Unser 1999).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike
from scipy import ndimage

NEGLIGIBLE = 1e-8  # smaller weights are set to 0: a new sample then depends on few old ones, and no weight is denormal
ROWS = 32  # new samples in one product
SLICES = 16  # slices resampled in plane at a time


def zoom(array: np.ndarray, factors: Sequence[float], order: int, dtype: DTypeLike | None = None) -> np.ndarray:
    """Resample an array by splines, on the grid of scipy.ndimage.zoom.

    The first and last samples keep their positions, and the new length of an axis is round(length x factor). float64 is
    computed in float64, any other type in float32. If no length changes, the array itself is returned, in `dtype`.

    Args:
        array: of any number of dimensions.
        factors: zoom factor of each dimension, above 0.
        order: order of the spline, 0 to 5.
        dtype: of the result, by default the array's. For an integer type the result is rounded and clipped to its
            range.

    Raises:
        ValueError: wrong factors, or a result of length 0.
    """
    factors = np.atleast_1d(factors).astype(float)
    if factors.shape != (array.ndim,) or not np.isfinite(factors).all() or (factors <= 0).any():
        raise ValueError(f'factors: wanted {array.ndim} numbers above 0, got {factors.tolist()}')
    shape = tuple(round(n * factor) for n, factor in zip(array.shape, factors))
    if 0 in shape:
        raise ValueError(f'factors: wanted an output of one voxel or more, got {shape} from {array.shape}')
    dtype = np.dtype(dtype or array.dtype)
    axes = [axis for axis in range(array.ndim) if shape[axis] != array.shape[axis]]
    axes.sort(
        key=lambda axis: shape[axis] / array.shape[axis]
    )  # axes that shrink most come first, which saves computation
    if order == 0:
        for axis in axes:
            array = array.take(nearest_samples(array.shape[axis], shape[axis]), axis)
        return array.astype(dtype, copy=False)
    if not axes:
        return cast(array, dtype)
    in_plane = [axis for axis in axes if axis > 0]
    if in_plane:
        plane_dtype = working_dtype(array) if 0 in axes else dtype  # integers are rounded once, after the last axis
        array = zoom_in_plane(array, in_plane, shape, order, plane_dtype)
    return zoom_axis(array, 0, shape[0], order, dtype) if 0 in axes else array


def zoom_in_plane(
    array: np.ndarray, axes: Sequence[int], shape: Sequence[int], order: int, dtype: np.dtype
) -> np.ndarray:
    """Resample all axes but the first, SLICES slices at a time.

    Args:
        array: of two dimensions or more.
        axes: axes to resample, in this order.
        shape: new shape; its first length is ignored.
        order: order of the spline.
        dtype: of the result.
    """
    zoomed = np.empty((len(array), *shape[1:]), dtype)
    for start in range(0, len(array), SLICES):
        slices = array[start : start + SLICES].astype(working_dtype(array))
        for axis in axes:
            slices = zoom_axis(slices, axis, shape[axis], order, slices.dtype)
        zoomed[start : start + SLICES] = cast(slices, dtype)
    return zoomed


def zoom_axis(array: np.ndarray, axis: int, length: int, order: int, dtype: np.dtype) -> np.ndarray:
    """Resample one axis to a new length.

    Args:
        array: of any number of dimensions.
        axis: number of the axis.
        length: its new length.
        order: order of the spline.
        dtype: of the result.
    """
    shape = array.shape[:axis] + (length,) + array.shape[axis + 1 :]
    before, after = int(np.prod(array.shape[:axis])), int(np.prod(array.shape[axis + 1 :]))
    old, new = array.reshape(before, array.shape[axis], after), np.empty((before, length, after), dtype)
    for rows, columns, weights in matrix_blocks(array.shape[axis], length, order):
        used = old[:, columns].astype(working_dtype(array), copy=False)
        weights = weights.astype(used.dtype)
        if after == 1:
            new[:, rows, 0] = cast(used[:, :, 0] @ weights.T, dtype)
        else:
            new[:, rows] = cast(weights @ used, dtype)
    return new.reshape(shape)


@lru_cache(maxsize=64)
def matrix_blocks(old_length: int, new_length: int, order: int) -> list[tuple[slice, slice, np.ndarray]]:
    """Return the matrix (new_length, old_length) of a zoom along one axis in blocks of ROWS rows.

    A block is (rows, columns, weights): the weights, float64, of the columns that are not 0 in these rows.
    """
    # The mode 'mirror' has the prefilter of scipy's default 'constant', but does not read 0 for a last coordinate that
    # rounding moved beyond the last sample.
    matrix = ndimage.zoom(np.eye(old_length), (new_length / old_length, 1), order=order, mode='mirror')
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    blocks = []
    for start in range(0, new_length, ROWS):
        rows = slice(start, min(new_length, start + ROWS))
        used = np.flatnonzero(matrix[rows].any(0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        blocks.append((rows, columns, matrix[rows, columns]))
    return blocks


def nearest_samples(old_length: int, new_length: int) -> np.ndarray:
    """Return, for each new sample of an axis, the index of the nearest old one."""
    return ndimage.zoom(np.arange(old_length), new_length / old_length, order=0, mode='mirror')


def working_dtype(array: np.ndarray) -> type:
    """Return the type in which an array is resampled."""
    return np.float64 if array.dtype == np.float64 else np.float32


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return values in a dtype; for an integer type they are rounded and clipped to its range."""
    if np.issubdtype(dtype, np.integer) and values.dtype != dtype:
        values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return values.astype(dtype, copy=False)
