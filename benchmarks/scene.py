"""Make a phantom of LiTS size, and masks on it that look like a network's answer."""

import numpy as np
from scipy import ndimage

from data_prepare.phantom import phantom
from utilities.volumes.geometry import Geometry

HU_WINDOW = -200, 200


def make_scan(
    depth: int, width: int = 512, thickness: float = 1.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Return a CT (int16 HU), its liver mask (uint8) and their Geometry; both arrays are (depth, width, width).

    The pixels are 0.75 mm wide if there are 512 of them in a row; the slices are `thickness` mm apart.
    """
    spacing = (384 / width, 384 / width, thickness)
    ct, label = phantom(seed, (depth, width, width), spacing)
    return ct, (label > 0).astype(np.uint8), Geometry(spacing)


def make_rough_mask(label: np.ndarray, seed: int = 0, islands: int = 300, holes: int = 60) -> np.ndarray:
    """Return the label, uint8 (z, y, x), with an inexact surface, false islands everywhere and holes inside."""
    rng = np.random.default_rng(seed)
    coarse_shape = [max(2, n // 8) for n in label.shape]
    wave = ndimage.gaussian_filter(rng.normal(size=coarse_shape), 1.5)
    factors = [n / c for n, c in zip(label.shape, coarse_shape)]
    wave = ndimage.zoom(wave / wave.std(), factors, order=1, output=np.float32)
    mask = ndimage.gaussian_filter(label.astype(np.float32), 4) + 0.15 * wave > 0.5
    inside = np.argwhere(label)
    for number in range(islands + holes):
        is_island = number < islands
        centre = rng.integers(label.shape) if is_island else inside[rng.integers(len(inside))]
        paint_ball(mask, centre, rng.integers(1, 7), is_island)
    return mask.astype(np.uint8)


def paint_ball(mask: np.ndarray, centre: np.ndarray, radius: int, value: bool) -> None:
    """Set the voxels within `radius` of `centre` (z, y, x) to a value, in place."""
    box = tuple(slice(max(0, c - radius), c + radius + 1) for c in centre)
    indices = np.ogrid[tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, mask.shape))]
    squared_distance = sum((index - c) ** 2 for index, c in zip(indices, centre))
    mask[box][squared_distance <= radius**2] = value


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Dice coefficient of two masks; 0 if both are empty."""
    return 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))
