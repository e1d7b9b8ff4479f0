"""The dense CRF of the package pydensecrf, which filters on a permutohedral lattice, as the reference uses it."""

from typing import Any

import numpy as np

from Densecrf.crf_settings import CrfSettings
from utilities.base.errors import InputError


def refine_by_pydensecrf(image: np.ndarray, mask: np.ndarray, settings: CrfSettings, dimensions: int) -> np.ndarray:
    """Return the mask after the mean-field iterations; arguments and result as in `grid.refine_by_grid`.

    Raises InputError if pydensecrf is not installed.
    """
    if dimensions == 3:
        return run_mean_field(image, mask, settings)
    return np.stack([run_mean_field(*arrays, settings) for arrays in zip(image, mask)])


def run_mean_field(image: np.ndarray, mask: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Return the mask, bool, after the iterations of one CRF; image and mask are a volume or a slice of one shape."""
    if not mask.any():
        return mask
    crf = build_crf(image, mask, settings)
    probability, *buffers = crf.startInference()
    old = mask
    for _ in range(settings.max_iter):
        crf.stepInference(probability, *buffers)
        if settings.tolerance:
            new = most_probable_label(probability, mask.shape)
            if (new != old).mean() <= settings.tolerance:
                break
            old = new
    return most_probable_label(probability, mask.shape)


def build_crf(image: np.ndarray, mask: np.ndarray, settings: CrfSettings) -> Any:
    """Return a pydensecrf.densecrf.DenseCRF with the unary, the spatial and the bilateral term."""
    try:
        from pydensecrf.densecrf import DenseCRF
        from pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian
    except ImportError:
        raise InputError(
            'pydensecrf is not installed: install a C++ compiler (g++), then: rm .venv/ready; make setup; '
            "or use crf_engine='grid'"
        ) from None
    liver = np.where(mask, settings.confidence, 1 - settings.confidence).astype(np.float32).ravel()
    spatial = create_pairwise_gaussian((settings.s1,) * mask.ndim, mask.shape)
    bilateral = create_pairwise_bilateral(
        (settings.s2,) * mask.ndim, (settings.s3,), image[..., None], chdim=image.ndim
    )
    crf = DenseCRF(mask.size, 2)
    crf.setUnaryEnergy(-np.log(np.stack([1 - liver, liver])))
    crf.addPairwiseEnergy(spatial, compat=settings.spatial_weight)
    crf.addPairwiseEnergy(bilateral, compat=settings.bilateral_weight)
    return crf


def most_probable_label(probability: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return where liver is more probable than background, from pydensecrf's matrix (2, voxels)."""
    background, liver = np.asarray(probability)
    return (liver > background).reshape(shape)
