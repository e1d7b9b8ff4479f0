"""Refine the mask of a CT with a fully connected conditional random field (Kraehenbuehl and Koltun, NIPS 2011).

The energy of a labelling has three terms:

- unary: -ln(confidence) for a voxel that keeps the mask's label, -ln(1 - confidence) for one that changes it;
- spatial: a Gaussian kernel of the distance in space, standard deviation s1 voxels, with a Potts weight;
- bilateral: a Gaussian kernel of the distance in space (s2 voxels) and in intensity (s3 HU), with a Potts weight.

Both kernels are normalised symmetrically by 1 / sqrt(K 1), and the message to a voxel includes the voxel itself, as in
pydensecrf.
"""

from collections.abc import Sequence

import numpy as np

from Densecrf.crf_settings import CrfSettings
from Densecrf.grid import refine_by_grid
from Densecrf.permutohedral import refine_by_pydensecrf
from utilities.image.bounding_box import bounding_box, count_per_slice

ENGINES = {'grid': refine_by_grid, 'pydensecrf': refine_by_pydensecrf}
MAX_HU = 1e30  # no CT has larger values, and their square would be infinite in float32


def dense_crf(image: np.ndarray, mask: np.ndarray, settings: CrfSettings, dimensions: int = 3) -> np.ndarray:
    """Return the mask, uint8 of 0 and 1, after the mean-field iterations of a dense CRF.

    Neither array is changed. An empty mask stays empty; with dimensions 2, so does every empty slice.

    Args:
        image: CT in HU, (z, y, x), any number type and memory order.
        mask: (z, y, x), non-zero is liver, any type and memory order.
        settings: the CRF's parameters.
        dimensions: 3 for one CRF over the volume, 2 for one CRF per slice.

    Raises:
        ValueError: shapes that differ or are not 3D, another number of dimensions, an unknown engine, an image with
            NaN or infinite values.
        InputError: the engine is not installed, or s2 and s3 are too small for the engine 'grid'.
    """
    if image.shape != mask.shape or image.ndim != 3:
        raise ValueError(f'image and mask: wanted one shape (z, y, x), got {image.shape} and {mask.shape}')
    if dimensions not in (2, 3):
        raise ValueError(f'dimensions: wanted 2 or 3, got {dimensions}')
    if settings.engine not in ENGINES:
        raise ValueError(f'engine: wanted one of {", ".join(ENGINES)}, got {settings.engine!r}')
    mask = np.ascontiguousarray(mask != 0)
    if not mask.any():
        return mask.view(np.uint8)
    lowest, highest = image.min(), image.max()
    if not (lowest > -MAX_HU and highest < MAX_HU):
        raise ValueError(f'image: wanted HU, got values from {lowest} to {highest}')
    return ENGINES[settings.engine](image, mask, settings, dimensions).view(np.uint8)


def refine_in_box(
    ct: np.ndarray, mask: np.ndarray, settings: CrfSettings, dimensions: int, margin: Sequence[int]
) -> np.ndarray:
    """Refine a mask by `dense_crf` inside its bounding box; voxels outside the box become background.

    Args:
        ct: CT in HU, (z, y, x).
        mask: (z, y, x), non-zero is liver; an empty mask stays empty.
        settings: the CRF's parameters.
        dimensions: 3 for one CRF over the box, 2 for one CRF per slice.
        margin: voxels (z, y, x) by which the box grows on both sides.

    Returns:
        The refined mask, uint8 of 0 and 1.
    """
    refined = np.zeros(mask.shape, np.uint8)
    if mask.any():
        box = bounding_box(count_per_slice(mask), margin)
        refined[box] = dense_crf(ct[box], mask[box], settings, dimensions)
    return refined
