"""From a CT in HU to what the network sees; training set and testing both come through here."""

import numpy as np

from utilities.image.resample import zoom

LEVELS = 8  # the network halves its input three times


def pad_in_plane(array, down_scale, value):
    """(z, y, x) array, rows and columns filled up at the far end so that the network can halve them three times."""
    multiple = LEVELS * round(1 / down_scale)
    rest = [-n % multiple for n in array.shape[1:]]
    if not any(rest):
        return array
    return np.pad(array, [(0, 0), (0, rest[0]), (0, rest[1])], constant_values=value)


def z_factor(depth, spacing, slice_thickness):
    """Zoom along z that brings `depth` slices from `spacing` mm apart to slice_thickness; one slice is left at least."""
    return max(spacing / slice_thickness, 1 / depth)


def resample_ct(ct, factor, down_scale, lower, dtype=None):
    """CT (z, y, x) in HU, padded with air -> cubic spline zoom by (factor, down_scale, down_scale).

    The result is of `dtype`, the CT's own if None; integers are rounded. A spline overshoots at edges: the values may leave the
    intensity window.
    """
    return zoom(pad_in_plane(ct, down_scale, lower), (factor, down_scale, down_scale), 3, dtype)


def normalise(ct, lower, upper):
    """HU -> float32 of at most 1 in size; zero stays water."""
    return np.divide(ct, np.float32(max(abs(lower), abs(upper))), dtype=np.float32)
