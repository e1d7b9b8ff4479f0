"""The surface of a liver as a few thousand triangles, and its bytes for a page."""

import base64

import numpy as np
from scipy import ndimage
from skimage.measure import block_reduce, marching_cubes

CELLS = 40  # cells along the longest side of the liver, at most
SMOOTHING = 0.7  # standard deviation of the Gaussian, cells
MARGIN = 3  # empty cells around the liver, so that the surface is closed at the volume's border too


def surface(mask, geometry, most=6000):
    """Triangles around a mask (z, y, x): vertices (n, 3), x to the patient's left, y to the back, z to the head, mm; triangles (m, 3),
    numbers of vertices, m at most `most` (100 or more). Of an empty mask both are empty.

    By marching cubes (Lorensen and Cline, SIGGRAPH 1987) on the mask's share of nearly cubic cells, smoothed: islands and gaps
    smaller than a cell vanish, but a mask of one voxel has a surface.
    """
    mask = np.ascontiguousarray(mask != 0).view(np.uint8)
    if not mask.any():
        return np.empty((0, 3)), np.empty((0, 3), int)
    (box,) = ndimage.find_objects(mask)
    mask, first = mask[box], [b.start for b in box]
    spacing = np.asarray(geometry.spacing[::-1])
    cell = (mask.shape * spacing).max() / CELLS
    while True:
        factors = np.maximum(1, np.rint(cell / spacing).astype(int))
        share = np.pad(block_reduce(mask, tuple(factors), np.mean).astype(np.float32), MARGIN)
        share = ndimage.gaussian_filter(share, SMOOTHING)
        vertices, triangles, *_ = marching_cubes(share, min(0.5, share.max() / 2))
        if len(triangles) <= most:
            break
        cell *= max(1.05, np.sqrt(len(triangles) / most))
    index = first + (vertices - MARGIN) * factors + (factors - 1) / 2
    axes = np.asarray(geometry.direction).reshape(3, 3)
    return geometry.origin + (index * spacing)[:, ::-1] @ axes.T, triangles


def packed(vertices, triangles):
    """A surface of fewer than 65,536 vertices as plain values: vertex = origin + scale x `vertices`, base64 of uint16, little-endian, as
    `triangles` is. Each vertex moves by less than 1/65,535 of the surface's extent."""
    origin, end = vertices.min(0), vertices.max(0)
    scale = np.where(end > origin, (end - origin) / 65535, 1)

    def text(numbers):
        return base64.b64encode(np.rint(numbers).astype('<u2').tobytes()).decode()

    return {
        'origin': origin.tolist(),
        'scale': scale.tolist(),
        'vertices': text((vertices - origin) / scale),
        'triangles': text(triangles),
    }
