"""Compare the two engines of the CRF with each other and with the exact mean field."""

import numpy as np
from scipy import ndimage

from benchmarks import plain
from benchmarks.measure import side_by_side
from benchmarks.scene import HU_WINDOW, dice, make_rough_mask, make_scan
from Densecrf.crf import dense_crf, refine_in_box
from Densecrf.crf_settings import CrfSettings
from utilities.image.bounding_box import bounding_box, count_per_slice
from utilities.image.post_process import keep_liver

CRF = dict(s1=1.0, s2=10.0, s3=10.0, max_iter=20)
BOX_SHAPE = 16, 26, 26  # small enough for the mean field over all pairs of voxels


def make_box() -> tuple[np.ndarray, np.ndarray]:
    """Return the CT and the mask of a phantom, cropped to the box that the CRF works on."""
    ct, label, _ = make_scan(240, thickness=1.0)
    mask = keep_liver(make_rough_mask(label), 5e4)
    box = bounding_box(count_per_slice(mask), (10, 30, 30))
    return np.clip(ct, *HU_WINDOW)[box], mask[box]


def compare_engines(
    ct: np.ndarray, mask: np.ndarray, dimensions: int, goal: float, min_equal: float, plain_repeats: int
) -> tuple[dict, float]:
    """Measure pydensecrf and the grid engine on a box.

    Args:
        ct, mask: the box.
        dimensions: 2 or 3.
        goal: how many times as fast the grid engine should be.
        min_equal: share of the labels that should be equal.
        plain_repeats: calls of pydensecrf.

    Returns:
        The row, and the Dice coefficient of the two results.
    """
    settings = CrfSettings(**CRF)
    row, theirs, ours = side_by_side(
        lambda: refine_in_box(ct, mask, CrfSettings(**CRF, engine='pydensecrf'), dimensions, (0, 0, 0)),
        lambda: refine_in_box(ct, mask, settings, dimensions, (0, 0, 0)),
        3,
        plain_repeats,
    )
    equal, overlap = (theirs == ours).mean(), dice(theirs, ours)
    row |= {
        'goal': f'>= {goal} x',
        'size': f'{mask.size / 1e6:.1f} M voxels, changes {(ours != mask).mean():.2%} of the labels',
        'reached': row['plain_s'] / row['ours_s'] >= goal and equal >= min_equal,
        'agreement': f'{equal:.3%} of labels, Dice {overlap:.5f}',
    }
    return row, overlap


def count_differences_from_exact(ct: np.ndarray, mask: np.ndarray, boxes: int = 6) -> tuple[dict[str, int], int]:
    """Count the labels in small boxes at the surface of the mask that differ from the exact mean field.

    Returns:
        {engine: voxels with another label}, and the number of voxels in all boxes.
    """
    surface = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    different = {'grid': 0, 'pydensecrf': 0}
    for centre in surface[np.random.default_rng(0).choice(len(surface), boxes, replace=False)]:
        first = [int(np.clip(c - n // 2, 0, size - n)) for c, n, size in zip(centre, BOX_SHAPE, mask.shape)]
        box = tuple(slice(f, f + n) for f, n in zip(first, BOX_SHAPE))
        exact = plain.exact_crf(ct[box], mask[box], **CRF)
        for engine in different:
            labels = dense_crf(ct[box], mask[box], CrfSettings(**CRF, engine=engine))
            different[engine] += np.count_nonzero(labels != exact)
    return different, boxes * int(np.prod(BOX_SHAPE))
