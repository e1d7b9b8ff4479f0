"""Turn a mask into a surface of a few thousand triangles, and encode it for an HTML page."""

import base64

import numpy as np
from scipy import ndimage
from skimage.measure import block_reduce, marching_cubes

from utilities.volumes.geometry import Geometry

MAX_CELLS = 40  # cells along the longest side of the liver
SMOOTHING = 0.7  # standard deviation of the Gaussian, in cells
MARGIN = 3  # empty cells around the liver, which close the surface where the liver touches the border of the volume


def extract_surface(mask: np.ndarray, geometry: Geometry, max_triangles: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Extract the smoothed surface of a mask by marching cubes (Lorensen and Cline, SIGGRAPH 1987).

    The mask is averaged over nearly cubic cells first: islands and gaps smaller than a cell vanish, but a mask of one
    voxel has a surface.

    Args:
        mask: (z, y, x), non-zero is liver.
        geometry: geometry of the mask.
        max_triangles: 100 or more.

    Returns:
        Vertices (n, 3): x to the patient's left, y to the back, z to the head, mm. Triangles (m, 3): indices of
        vertices. Both are empty if the mask is.
    """
    mask = np.ascontiguousarray(mask != 0).view(np.uint8)
    if not mask.any():
        return np.empty((0, 3)), np.empty((0, 3), int)
    (box,) = ndimage.find_objects(mask)
    mask, first_voxel = mask[box], [part.start for part in box]
    spacing = np.asarray(geometry.spacing[::-1])
    cell = (mask.shape * spacing).max() / MAX_CELLS  # mm
    while True:
        factors = np.maximum(1, np.rint(cell / spacing).astype(int))  # voxels in a cell
        liver_share = np.pad(block_reduce(mask, tuple(factors), np.mean).astype(np.float32), MARGIN)
        liver_share = ndimage.gaussian_filter(liver_share, SMOOTHING)
        vertices, triangles, *_ = marching_cubes(liver_share, min(0.5, liver_share.max() / 2))
        if len(triangles) <= max_triangles:
            break
        cell *= max(1.05, np.sqrt(len(triangles) / max_triangles))
    voxels = first_voxel + (vertices - MARGIN) * factors + (factors - 1) / 2
    axes = np.asarray(geometry.direction).reshape(3, 3)
    return geometry.origin + (voxels * spacing)[:, ::-1] @ axes.T, triangles


def pack_surface(vertices: np.ndarray, triangles: np.ndarray) -> dict[str, list[float] | str]:
    """Encode a surface of fewer than 65,536 vertices as values for JSON.

    vertices and triangles become base64 of little-endian uint16; a vertex in mm is origin + scale x its number. So a
    vertex moves by less than 1/65,535 of the extent of the surface.
    """
    origin, end = vertices.min(0), vertices.max(0)
    scale = np.where(end > origin, (end - origin) / 65535, 1)
    return {
        'origin': origin.tolist(),
        'scale': scale.tolist(),
        'vertices': encode_uint16((vertices - origin) / scale),
        'triangles': encode_uint16(triangles),
    }


def encode_uint16(numbers: np.ndarray) -> str:
    """Encode rounded numbers as base64 of little-endian uint16."""
    return base64.b64encode(np.rint(numbers).astype('<u2').tobytes()).decode()
