"""A phantom of LiTS size, and masks on it that look like a network's answer."""

import numpy as np
from scipy import ndimage

from data_prepare.phantom import phantom
from utilities.volumes.geometry import Geometry

WINDOW = -200, 200


def scan(depth, width=512, thickness=1.5, seed=0):
    """CT (int16 HU), liver mask (uint8), both (depth, width, width), and Geometry: 0.75 mm pixels, `thickness` mm slices."""
    spacing = (384 / width, 384 / width, thickness)
    ct, label = phantom(seed, (depth, width, width), spacing)
    return ct, (label > 0).astype(np.uint8), Geometry(spacing)


def rough(label, seed=0, islands=300, holes=60):
    """The label with an edge that is off by some voxels here and there, false islands everywhere and holes within; uint8."""
    rng = np.random.default_rng(seed)
    coarse = [max(2, n // 8) for n in label.shape]
    wave = ndimage.gaussian_filter(rng.normal(size=coarse), 1.5)
    wave = ndimage.zoom(wave / wave.std(), [n / c for n, c in zip(label.shape, coarse)], order=1, output=np.float32)
    mask = ndimage.gaussian_filter(label.astype(np.float32), 4) + 0.15 * wave > 0.5
    inside = np.argwhere(label)
    for number in range(islands + holes):
        centre = rng.integers(label.shape) if number < islands else inside[rng.integers(len(inside))]
        radius = rng.integers(1, 7)
        box = tuple(slice(max(0, c - radius), c + radius + 1) for c in centre)
        ball = (
            sum(
                (np.arange(b.start, min(b.stop, n)) - c).reshape([-1 if a == axis else 1 for a in range(3)]) ** 2
                for axis, (b, c, n) in enumerate(zip(box, centre, label.shape))
            )
            <= radius**2
        )
        mask[box][ball] = number < islands
    return mask.astype(np.uint8)


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))
