"""From what the network marks to one liver without holes."""
import cc3d
import numpy as np


def keep_liver(mask, maximum_hole):
    """Largest 6-connected component of a mask (z, y, x), its holes of fewer than maximum_hole voxels filled; uint8.

    Of equal components the first in raster order stays. A hole is a component of the background (18-connectivity,
    scikit-image's 2); the exterior, its largest component if that touches the volume's border, is none, so a small volume
    does not become all liver. An empty mask stays empty. Raises ValueError unless the mask is 3D.
    """
    if mask.ndim != 3:
        raise ValueError(f'mask: wanted 3D (z, y, x), got {mask.shape}')
    labels = cc3d.connected_components(np.ascontiguousarray(mask != 0), connectivity=6)
    sizes = np.bincount(labels.ravel())
    if len(sizes) < 2:
        return np.zeros(mask.shape, np.uint8)
    largest = np.flatnonzero(sizes[1:] == sizes[1:].max()) + 1
    flat = labels.ravel()
    chosen = largest[0] if len(largest) == 1 else flat[np.isin(flat, largest).argmax()]
    liver = labels == chosen

    background = cc3d.connected_components(~liver, connectivity=18)
    sizes = np.bincount(background.ravel())
    hole = sizes < maximum_hole
    hole[0] = False
    if len(sizes) > 1:
        exterior = sizes[1:].argmax() + 1
        ends = [face for axis in range(3) for face in (background.take(0, axis), background.take(-1, axis))]
        hole[exterior] &= not any((face == exterior).any() for face in ends)
    return (liver | hole[background]).astype(np.uint8)
