"""Overlap and surface metrics of a predicted mask."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numba import njit

from utilities.base import machine
from utilities.image.components import as_bytes
from utilities.image.surfaces import SurfaceTree, nearest_distances, surface_voxels


def calculate_metrics(
    real_mask: np.ndarray, predicted_mask: np.ndarray, spacing: Sequence[float], tolerance: float = 2.0
) -> dict[str, float]:
    """Return the metrics of a predicted mask against the real one.

    - dice, jaccard, voe = 1 - jaccard, rvd = (predicted - real) / real; fnr and fpr: missed and false voxels over the
      union of both masks.
    - assd, rmsd, msd: mean, root mean square and maximum of the distances from the centre of each surface voxel to the
      other surface, both directions pooled, in mm. hd95: the larger 95th percentile of the two directions, in mm.
    - surface_dice: share of surface voxels within `tolerance` of the other surface (after Nikolov et al. 2018).
    - volume_ml: volume of the predicted mask, in mL.

    The surface is the mask minus its erosion with the 18-neighbourhood; voxels beyond the volume's border are
    background. If both masks are empty, overlaps are 1, errors and distances 0. If one is empty, overlaps are 0,
    distances inf, and rvd is -1 or inf. The memory depends only on the number of surface voxels, except that a
    mask that is neither uint8 nor bool is copied.

    Args:
        real_mask: (z, y, x), non-zero is liver.
        predicted_mask: (z, y, x), non-zero is liver.
        spacing: (x, y, z) in mm.
        tolerance: in mm.

    Raises:
        ValueError: the shapes differ or are not 3D, or the spacing is not three numbers above 0.
    """
    return metrics_against(real_mask, [predicted_mask], spacing, tolerance)[0]


def metrics_against(
    real_mask: np.ndarray, predicted_masks: Sequence[np.ndarray], spacing: Sequence[float], tolerance: float = 2.0
) -> list[dict[str, float]]:
    """Return `calculate_metrics` of several predicted masks of one case; the real surface is searched for once."""
    real, *predictions = (np.asarray(mask) for mask in (real_mask, *predicted_masks))
    for predicted in predictions:
        if real.ndim != 3 or real.shape != predicted.shape:
            raise ValueError(f'real_mask, predicted_mask: wanted one 3D shape, got {real.shape} and {predicted.shape}')
    x, y, z = checked_spacing(spacing)

    real, *predictions = (as_bytes(mask) for mask in (real, *predictions))
    with ThreadPoolExecutor(machine.threads()) as pool:
        real_surface, *surfaces = pool.map(partial(surface_tree, spacing=(z, y, x)), (real, *predictions))
        rows = []
        for predicted, surface in zip(predictions, surfaces):
            n_real, n_predicted, n_both = count_voxels(real, predicted)
            rows.append(
                {
                    **overlap_metrics(n_real, n_predicted, n_both),
                    **distance_metrics(real_surface, surface, tolerance, pool),
                    'volume_ml': n_predicted * x * y * z / 1000,
                }
            )
    return rows


def checked_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return a spacing as three floats; raise ValueError unless it is three finite numbers above 0."""
    try:
        x, y, z = (float(s) for s in spacing)
    except (TypeError, ValueError):
        x = y = z = math.nan
    if not all(0 < s < math.inf for s in (x, y, z)):
        raise ValueError(f'spacing: wanted three numbers above 0 (x, y, z), got {spacing!r}')
    return x, y, z


def overlap_metrics(n_real: int, n_predicted: int, n_both: int) -> dict[str, float]:
    """Return the overlap metrics from the numbers of voxels in the real mask, in the predicted mask and in both."""
    union = n_real + n_predicted - n_both
    jaccard = n_both / union if union else 1.0
    return {
        'dice': 2 * n_both / (n_real + n_predicted) if union else 1.0,
        'jaccard': jaccard,
        'voe': 1 - jaccard,
        'rvd': (n_predicted - n_real) / n_real if n_real else (math.inf if n_predicted else 0.0),
        'fnr': (n_real - n_both) / union if union else 0.0,
        'fpr': (n_predicted - n_both) / union if union else 0.0,
    }


def distance_metrics(
    real: SurfaceTree | None, predicted: SurfaceTree | None, tolerance: float, pool: ThreadPoolExecutor
) -> dict[str, float]:
    """Return the surface metrics of two surfaces.

    Args:
        real, predicted: the surfaces; None is the surface of an empty mask.
        tolerance: of the surface Dice, in mm.
        pool: its threads search in both directions at the same time.
    """
    if real is None or predicted is None:
        both_are_empty = real is predicted
        distance = 0.0 if both_are_empty else math.inf
        return {**dict.fromkeys(('assd', 'rmsd', 'msd', 'hd95'), distance), 'surface_dice': float(both_are_empty)}
    real_to_predicted, predicted_to_real = pool.map(nearest_distances, (real, predicted), (predicted, real))
    pooled = np.concatenate([real_to_predicted, predicted_to_real])
    return {
        'assd': float(pooled.mean()),
        'rmsd': math.sqrt(np.square(pooled).mean()),
        'msd': float(pooled.max()),
        'hd95': float(max(np.percentile(real_to_predicted, 95), np.percentile(predicted_to_real, 95))),
        # Rounding may lift a distance that equals the tolerance a little above it, as it lifts 0.1 x 3 above 0.3.
        'surface_dice': float((pooled <= tolerance * (1 + 1e-9)).mean()),
    }


def surface_tree(mask: np.ndarray, spacing: Sequence[float]) -> SurfaceTree | None:
    """Return the surface of a mask (z, y, x), uint8 in C order, with spacing (z, y, x) in mm; None if it is empty."""
    voxels = surface_voxels(mask)
    return SurfaceTree(voxels, spacing) if len(voxels) else None


def count_voxels(real: np.ndarray, predicted: np.ndarray) -> tuple[int, int, int]:
    """Count the non-zero voxels of two masks (z, y, x) of one shape: in the real one, in the predicted one, in both."""
    return tuple(count_overlap(as_bytes(real), as_bytes(predicted)).tolist())


@njit(cache=True, nogil=True)
def count_overlap(real, predicted):
    """Return the three counts of `count_voxels` as an int64 array."""
    counts = np.zeros(3, np.int64)
    for z in range(real.shape[0]):
        for y in range(real.shape[1]):
            n_real = n_predicted = n_both = np.int32(0)  # 32 bits, so that more voxels are counted at once
            for x in range(real.shape[2]):
                in_real, in_predicted = np.int32(real[z, y, x] != 0), np.int32(predicted[z, y, x] != 0)
                n_real += in_real
                n_predicted += in_predicted
                n_both += in_real & in_predicted
            counts[0] += n_real
            counts[1] += n_predicted
            counts[2] += n_both
    return counts
