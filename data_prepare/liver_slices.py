"""Choose the slices of a training case."""

import numpy as np


def liver_slices(label, expand_slice):
    """First and one past the last slice of label (z, y, x) to keep: all that hold liver, and expand_slice on both sides; 0, 0 for none."""
    held = np.flatnonzero(label.any((1, 2)))
    if not held.size:
        return 0, 0
    return max(0, held[0] - expand_slice), min(len(label), held[-1] + 1 + expand_slice)
