"""Turn a CT in HU into the network's input, the same way for the training set and for prediction."""

import numpy as np
from numpy.typing import DTypeLike

from utilities.image.resample import zoom

MULTIPLE = 8  # rows and columns of the network's input are a multiple of this, since it halves them three times


def pad_in_plane(array: np.ndarray, down_scale: float, value: float) -> np.ndarray:
    """Pad an array (z, y, x) at the end of its rows and columns, to a size that the network accepts.

    down_scale: the in-plane scale by which the array will be resampled. value: fills the padding.
    """
    multiple = MULTIPLE * round(1 / down_scale)
    padding = [-n % multiple for n in array.shape[1:]]
    if not any(padding):
        return array
    return np.pad(array, [(0, 0), (0, padding[0]), (0, padding[1])], constant_values=value)


def z_factor(depth: int, spacing: float, slice_thickness: float) -> float:
    """Return the zoom factor along z that resamples slices from `spacing` mm apart to slice_thickness mm.

    It keeps at least one of the `depth` slices.
    """
    return max(spacing / slice_thickness, 1 / depth)


def resample_ct(
    ct: np.ndarray, factor: float, down_scale: float, lower: float, dtype: DTypeLike | None = None
) -> np.ndarray:
    """Resample a CT by cubic splines to the network's grid.

    A spline overshoots at edges, so that values may leave the intensity window.

    Args:
        ct: (z, y, x) in HU, clipped to the intensity window.
        factor: zoom factor along z.
        down_scale: zoom factor along y and x.
        lower: HU of the padding, see `pad_in_plane`.
        dtype: of the result, by default the CT's; integers are rounded.
    """
    return zoom(pad_in_plane(ct, down_scale, lower), (factor, down_scale, down_scale), 3, dtype)


def normalise(ct: np.ndarray | float, lower: float, upper: float) -> np.ndarray:
    """Divide HU by the larger absolute end of the intensity window: float32 in -1 to 1, and water stays 0."""
    return np.divide(ct, np.float32(max(abs(lower), abs(upper))), dtype=np.float32)
