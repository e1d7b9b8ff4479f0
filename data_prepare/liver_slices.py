"""Choose the slices of a training case."""

import numpy as np


def liver_slices(label: np.ndarray, expand_slice: int) -> tuple[int, int]:
    """Return (first, stop): the slices that hold liver and `expand_slice` more on both sides; (0, 0) without liver.

    label: 0 or 1, (z, y, x). The range ends at the first and last slice of the label.
    """
    with_liver = np.flatnonzero(label.any((1, 2)))
    if not with_liver.size:
        return 0, 0
    return max(0, with_liver[0] - expand_slice), min(len(label), with_liver[-1] + 1 + expand_slice)


def too_few_slices_message(number: int, size: int, slice_thickness: float) -> str:
    """Return the message for a case that has fewer than `size` slices around the liver after resampling."""
    return (
        f'wanted {size} slices of {slice_thickness:g} mm around the liver, got {number}; '
        'lower size, or raise expand_slice'
    )
