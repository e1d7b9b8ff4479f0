"""Overlap and surface metrics of a predicted mask."""
import math

import edt
import numpy as np
from scipy import ndimage

NEIGHBOURS_18 = ndimage.generate_binary_structure(3, 2)


def calculate_metrics(real_mask, predicted_mask, spacing, tolerance=2.0):
    """Metrics of a predicted mask against the real one, both (z, y, x), non-zero is liver; spacing (x, y, z) in mm.

    dice, jaccard, voe = 1 - jaccard; rvd = (predicted - real) / real; fnr, fpr: missed and false voxels over the union;
    assd, rmsd, msd: mean, root mean square and maximum in mm of the distances from each surface voxel's centre to the
    other surface, both directions pooled; hd95: the larger of the two directions' 95th percentiles, mm; surface_dice: share
    of surface voxels within `tolerance` mm of the other surface (after Nikolov et al. 2018); volume_ml: the prediction's.
    A surface is a mask minus its erosion with the 18-neighbourhood.

    Both masks empty: overlap 1, errors and distances 0. One empty: overlap 0, distances inf, rvd -1 or inf.
    Raises ValueError for shapes that differ or are not 3D, and a spacing that is not three numbers above 0.
    """
    real, predicted = np.asarray(real_mask) != 0, np.asarray(predicted_mask) != 0
    if real.ndim != 3 or real.shape != predicted.shape:
        raise ValueError(f'real_mask, predicted_mask: wanted one 3D shape, got {real.shape} and {predicted.shape}')
    try:
        x, y, z = (float(s) for s in spacing)
    except (TypeError, ValueError):
        x = y = z = math.nan
    if not all(0 < s < math.inf for s in (x, y, z)):
        raise ValueError(f'spacing: wanted three numbers above 0 (x, y, z), got {spacing!r}')
    spacing = (x, y, z)

    real, predicted = cropped(real, predicted)
    n_real, n_predicted = int(np.count_nonzero(real)), int(np.count_nonzero(predicted))
    shared = int(np.count_nonzero(real & predicted))
    union = n_real + n_predicted - shared
    jaccard = shared / union if union else 1.0
    overlap = {
        'dice': 2 * shared / (n_real + n_predicted) if union else 1.0,
        'jaccard': jaccard,
        'voe': 1 - jaccard,
        'rvd': (n_predicted - n_real) / n_real if n_real else (math.inf if n_predicted else 0.0),
        'fnr': (n_real - shared) / union if union else 0.0,
        'fpr': (n_predicted - shared) / union if union else 0.0,
    }
    volume = {'volume_ml': n_predicted * math.prod(spacing) / 1000}
    if not n_real or not n_predicted:
        distance = math.inf if union else 0.0
        return {**overlap, **dict.fromkeys(('assd', 'rmsd', 'msd', 'hd95'), distance), 'surface_dice': float(not union), **volume}

    there, back = surface_distances(real, predicted, spacing)
    both = np.concatenate([there, back])
    return {**overlap,
            'assd': float(both.mean()),
            'rmsd': float(np.sqrt((both ** 2).mean())),
            'msd': float(both.max()),
            'hd95': float(max(np.percentile(there, 95), np.percentile(back, 95))),
            # float32 distances: one that equals the tolerance may come out a little above it
            'surface_dice': float((both <= tolerance * (1 + 1e-6)).mean()),
            **volume}


def cropped(real, predicted):
    """Both masks in the box of their union and one voxel around it, background beyond the volume's border included."""
    either = real | predicted
    if not either.any():
        return real[:0], predicted[:0]
    held = [np.flatnonzero(either.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(h[0], h[-1] + 1) for h in held)
    return np.pad(real[box], 1), np.pad(predicted[box], 1)


def surface_distances(real, predicted, spacing):
    """Distances in mm, float64, from each real surface voxel to the predicted surface, and from each predicted to the real."""
    surfaces = [mask & ~ndimage.binary_erosion(mask, NEIGHBOURS_18) for mask in (real, predicted)]
    to_real, to_predicted = (edt.edt(~surface, anisotropy=spacing[::-1]) for surface in surfaces)
    return to_predicted[surfaces[0]].astype(float), to_real[surfaces[1]].astype(float)
