"""Bounding boxes of masks."""

from collections.abc import Sequence

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count_per_slice(mask):
    """Count the non-zero voxels of a mask (z, y, x) in each of its slices.

    Returns three int64 arrays: the counts for each z, for each y and for each x.
    """
    per_z = np.zeros(mask.shape[0], np.int64)
    per_y = np.zeros(mask.shape[1], np.int64)
    per_x = np.zeros(mask.shape[2], np.int64)
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            row, n = mask[z, y], np.int32(0)
            for x in range(len(row)):
                n += np.int32(row[x] != 0)
            if n:
                per_z[z] += n
                per_y[y] += n
                for x in range(len(row)):
                    per_x[x] += row[x] != 0
    return per_z, per_y, per_x


def bounding_box(counts: Sequence[np.ndarray], margin: Sequence[int]) -> tuple[slice, ...]:
    """Return the slices (z, y, x) of the box around the non-zero voxels of a mask.

    Args:
        counts: what `count_per_slice` returns for a mask, or the sum of that over several masks. If all are zero the
            box is the whole volume.
        margin: voxels (z, y, x) by which the box grows on both sides; it ends at the border of the volume.
    """
    box = []
    for along_axis, grow in zip(counts, margin):
        used = np.flatnonzero(along_axis)
        start, stop = (int(used[0]) - grow, int(used[-1]) + 1 + grow) if len(used) else (0, len(along_axis))
        box.append(slice(max(0, start), min(len(along_axis), stop)))
    return tuple(box)
