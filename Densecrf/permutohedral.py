"""The dense CRF of pydensecrf, a permutohedral lattice, as in the reference."""

import numpy as np

from utilities.base.errors import InputError


def pydensecrf_field(
    image, mask, dimensions, s1, s2, s3, max_iter, tolerance, confidence, spatial_weight, bilateral_weight
):
    """The same as grid_field, by pydensecrf."""
    try:
        from pydensecrf.densecrf import DenseCRF
        from pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian
    except ImportError:
        raise InputError(
            'pydensecrf is not installed: install a C++ compiler (g++), then: rm .venv/ready; make setup; '
            "or use crf_engine='grid'"
        ) from None

    def field(image, mask):
        if not mask.any():
            return mask
        liver = np.where(mask, confidence, 1 - confidence).astype(np.float32).ravel()
        crf = DenseCRF(mask.size, 2)
        crf.setUnaryEnergy(-np.log(np.stack([1 - liver, liver])))
        crf.addPairwiseEnergy(create_pairwise_gaussian((s1,) * mask.ndim, mask.shape), compat=spatial_weight)
        features = create_pairwise_bilateral((s2,) * mask.ndim, (s3,), image[..., None], chdim=image.ndim)
        crf.addPairwiseEnergy(features, compat=bilateral_weight)
        probability, *work = crf.startInference()

        def labels():
            background, liver = np.asarray(probability)
            return (liver > background).reshape(mask.shape)

        before = mask
        for _ in range(max_iter):
            crf.stepInference(probability, *work)
            if tolerance:
                after = labels()
                if (after != before).mean() <= tolerance:
                    break
                before = after
        return labels()

    return field(image, mask) if dimensions == 3 else np.stack([field(*part) for part in zip(image, mask)])
