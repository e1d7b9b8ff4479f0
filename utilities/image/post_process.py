"""Post-process a predicted mask: one liver without holes."""

import numpy as np

from utilities.image.components import background_runs, fill_outside, find_runs, label_components, touches_border


def keep_liver(mask: np.ndarray, maximum_hole: float) -> np.ndarray:
    """Return the largest component of a mask with its small holes filled, uint8 of 0 and 1.

    Components are 6-connected; among equally large ones, the first in raster order is kept. A hole is a
    component of the background (18-connectivity, scikit-image's 2) of fewer than `maximum_hole` voxels. The largest
    component of the background is never a hole if it touches the volume's border; otherwise a volume with a background
    smaller than `maximum_hole` would become liver everywhere. An empty mask stays empty.

    Besides the result, the memory depends only on the number of runs; a mask that is neither uint8 nor bool is copied.

    Args:
        mask: (z, y, x), non-zero is liver.
        maximum_hole: in voxels.

    Raises:
        ValueError: the mask is not 3D.
    """
    if mask.ndim != 3:
        raise ValueError(f'mask: wanted 3D (z, y, x), got {mask.shape}')
    depth, height, width = mask.shape
    liver = np.zeros(mask.shape, np.uint8)
    runs, first_run = find_runs(mask)
    label, sizes = label_components(runs, first_run, height, with_edges=False)
    if not len(sizes):
        return liver

    runs, first_run = background_runs(runs, first_run, label, sizes.argmax(), width)
    label, sizes = label_components(runs, first_run, height, with_edges=True)
    is_hole = sizes < maximum_hole
    if is_hole.any():
        exterior = sizes.argmax()
        is_hole[exterior] &= not touches_border(runs, first_run, label, exterior, mask.shape)
    fill_outside(liver.reshape(depth * height, width), runs, first_run, label, is_hole)
    return liver
