"""From what the network marks to one liver without holes."""

import numpy as np

from utilities.image.components import components, gaps, on_border, paint_between, runs_of


def keep_liver(mask, maximum_hole):
    """Largest 6-connected component of a mask (z, y, x), its holes of fewer than maximum_hole voxels filled; uint8.

    Of equal components the first in raster order stays. A hole is a component of the background (18-connectivity,
    scikit-image's 2); the exterior, its largest component if that touches the volume's border, is none, so a small volume
    does not become all liver. An empty mask stays empty. Raises ValueError unless the mask is 3D.
    Beside the result it takes memory for the mask's runs alone; a mask of another type than uint8 and bool is copied as bytes.
    """
    if mask.ndim != 3:
        raise ValueError(f'mask: wanted 3D (z, y, x), got {mask.shape}')
    depth, height, width = mask.shape
    liver = np.zeros(mask.shape, np.uint8)
    runs, first = runs_of(mask)
    label, sizes = components(runs, first, height, edges=False)
    if not len(sizes):
        return liver

    runs, first = gaps(runs, first, label, sizes.argmax(), width)
    label, sizes = components(runs, first, height, edges=True)
    hole = sizes < maximum_hole
    if hole.any():
        exterior = sizes.argmax()
        hole[exterior] &= not on_border(runs, first, label, exterior, mask.shape)
    paint_between(liver.reshape(depth * height, width), runs, first, label, hole)
    return liver
