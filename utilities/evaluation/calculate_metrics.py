"""Overlap and surface metrics of a predicted mask."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from utilities.base import machine
from utilities.image.components import as_bytes
from utilities.image.surfaces import Tree, nearest_distances, surface_voxels


def calculate_metrics(real_mask, predicted_mask, spacing, tolerance=2.0):
    """Metrics of a predicted mask against the real one, both (z, y, x), non-zero is liver; spacing (x, y, z) in mm.

    dice, jaccard, voe = 1 - jaccard; rvd = (predicted - real) / real; fnr, fpr: missed and false voxels over the union;
    assd, rmsd, msd: mean, root mean square and maximum in mm of the distances from each surface voxel's centre to the
    other surface, both directions pooled; hd95: the larger of the two directions' 95th percentiles, mm; surface_dice: share
    of surface voxels within `tolerance` mm of the other surface (after Nikolov et al. 2018); volume_ml: the prediction's.
    A surface is a mask minus its erosion with the 18-neighbourhood, voxels beyond the volume's border being background.

    Both masks empty: overlap 1, errors and distances 0. One empty: overlap 0, distances inf, rvd -1 or inf.
    Beside the masks it takes memory for their surface voxels alone; masks of another type than uint8 and bool are copied as bytes.
    Raises ValueError for shapes that differ or are not 3D, and a spacing that is not three numbers above 0.
    """
    return metrics_against(real_mask, [predicted_mask], spacing, tolerance)[0]


def metrics_against(real_mask, predicted_masks, spacing, tolerance=2.0):
    """calculate_metrics of several predictions of one case, a list of dicts: the real mask's surface is looked for once."""
    real, *predictions = (np.asarray(mask) for mask in (real_mask, *predicted_masks))
    for predicted in predictions:
        if real.ndim != 3 or real.shape != predicted.shape:
            raise ValueError(f'real_mask, predicted_mask: wanted one 3D shape, got {real.shape} and {predicted.shape}')
    try:
        x, y, z = (float(s) for s in spacing)
    except (TypeError, ValueError):
        x = y = z = math.nan
    if not all(0 < s < math.inf for s in (x, y, z)):
        raise ValueError(f'spacing: wanted three numbers above 0 (x, y, z), got {spacing!r}')

    real, *predictions = (as_bytes(mask) for mask in (real, *predictions))
    with ThreadPoolExecutor(machine.threads()) as pool:
        real_tree, *trees = pool.map(lambda mask: surface_tree(mask, (z, y, x)), (real, *predictions))
        rows = []
        for predicted, tree in zip(predictions, trees):
            n_real, n_predicted, shared = count_voxels(real, predicted)
            rows.append(
                {
                    **overlap_metrics(n_real, n_predicted, shared),
                    **distance_metrics(real_tree, tree, tolerance, pool),
                    'volume_ml': n_predicted * x * y * z / 1000,
                }
            )
    return rows


def overlap_metrics(n_real, n_predicted, shared):
    """Metrics of the numbers of voxels of the real mask, the predicted one and both at once."""
    union = n_real + n_predicted - shared
    jaccard = shared / union if union else 1.0
    return {
        'dice': 2 * shared / (n_real + n_predicted) if union else 1.0,
        'jaccard': jaccard,
        'voe': 1 - jaccard,
        'rvd': (n_predicted - n_real) / n_real if n_real else (math.inf if n_predicted else 0.0),
        'fnr': (n_real - shared) / union if union else 0.0,
        'fpr': (n_predicted - shared) / union if union else 0.0,
    }


def distance_metrics(real, predicted, tolerance, pool):
    """Metrics of two surfaces, each a Tree or None; the pool takes both directions at the same time."""
    if real is None or predicted is None:
        agree = real is predicted
        return {
            **dict.fromkeys(('assd', 'rmsd', 'msd', 'hd95'), 0.0 if agree else math.inf),
            'surface_dice': float(agree),
        }
    there, back = pool.map(nearest_distances, (real, predicted), (predicted, real))
    both = np.concatenate([there, back])
    return {
        'assd': float(both.mean()),
        'rmsd': math.sqrt(np.square(both).mean()),
        'msd': float(both.max()),
        'hd95': float(max(np.percentile(there, 95), np.percentile(back, 95))),
        # one that equals the tolerance may come out a little above it, as 0.1 x 3 does above 0.3
        'surface_dice': float((both <= tolerance * (1 + 1e-9)).mean()),
    }


def surface_tree(mask, spacing):
    """The Tree of a mask's surface voxels; None if the mask is empty."""
    voxels = surface_voxels(mask)
    return Tree(voxels, spacing) if len(voxels) else None


def count_voxels(real, predicted):
    """Voxels of two masks (z, y, x) of one shape, non-zero is marked: of the real one, the predicted one and both at once."""
    return tuple(map(int, count_all(as_bytes(real), as_bytes(predicted))))


@njit(cache=True, nogil=True)
def count_all(real, predicted):
    counts = np.zeros(3, np.int64)
    for z in range(real.shape[0]):
        for y in range(real.shape[1]):
            a = b = both = np.int32(0)  # 32 bits, for more voxels at once
            for x in range(real.shape[2]):
                marked, found = np.int32(real[z, y, x] != 0), np.int32(predicted[z, y, x] != 0)
                a += marked
                b += found
                both += marked & found
            counts[0] += a
            counts[1] += b
            counts[2] += both
    return counts
