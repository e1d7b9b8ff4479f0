"""Bounding boxes of masks."""

import numpy as np


def grown_box(mask, expand):
    """Slices (z, y, x) of the box around a mask that is not empty, grown on both sides and cut at the volume's border."""
    box = []
    for axis, grow in enumerate(expand):
        held = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(0, int(held[0]) - grow), int(held[-1]) + 1 + grow))
    return tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, mask.shape))
