"""Where the voxels of an array lie in space.

Arrays are (z, y, x); spacing, origin and direction are SimpleITK's, (x, y, z) in mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utilities.base.errors import InputError


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a (z, y, x) array lie; all members in SimpleITK's (x, y, z) order, mm."""

    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # 3 x 3 matrix, row by row

    def position(self, index: Sequence[float]) -> np.ndarray:
        """Return the position (x, y, z) in mm of a voxel index (z, y, x), which may be fractional."""
        scaled = np.asarray(index, float)[::-1] * self.spacing
        return np.asarray(self.origin) + np.asarray(self.direction).reshape(3, 3) @ scaled

    def resampled(self, old_shape: Sequence[int], new_shape: Sequence[int]) -> 'Geometry':
        """Return the geometry after a zoom of old_shape to new_shape (z, y, x), which keeps the end voxels in place."""
        factors = [
            (old - 1) / (new - 1) if new > 1 and old > 1 else old / new for old, new in zip(old_shape, new_shape)
        ]
        return Geometry(tuple(s * f for s, f in zip(self.spacing, factors[::-1])), self.origin, self.direction)

    def cropped(self, first: Sequence[int]) -> 'Geometry':
        """Return the geometry of the array that begins at voxel `first` (z, y, x) of this one."""
        return Geometry(self.spacing, tuple(self.position(first)), self.direction)

    def corner_distance(self, other: 'Geometry', shape: Sequence[int]) -> float:
        """Return the largest distance in mm between the corners of an array of this shape in the two geometries."""
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing='ij'), -1).reshape(-1, 3)
        return max(float(np.linalg.norm(self.position(c) - other.position(c))) for c in corners)


def require_same_grid(
    path: Path,
    shape: Sequence[int],
    geometry: Geometry,
    ct_path: Path,
    ct_shape: Sequence[int],
    ct_geometry: Geometry,
    tolerance: float,
) -> None:
    """Raise InputError unless the voxels of two volumes lie at the same positions.

    Args:
        path: the volume to check, with its `shape` (z, y, x) and `geometry`.
        ct_path: the CT it must agree with, with its `ct_shape` and `ct_geometry`.
        tolerance: largest distance between corners, mm.
    """
    if shape != ct_shape:
        raise InputError(f'{path}: wanted the grid of {ct_path.name}, {ct_shape} voxels (z, y, x), got {shape}')
    distance = geometry.corner_distance(ct_geometry, shape)
    if distance > tolerance:
        raise InputError(
            f'{path}: wanted the grid of {ct_path.name}, got corners {distance:.3g} mm away (spacing '
            f'{rounded(geometry.spacing)} and {rounded(ct_geometry.spacing)}, origin {rounded(geometry.origin)} '
            f'and {rounded(ct_geometry.origin)}); grid_tolerance is {tolerance:g} mm'
        )


def patient_view(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return a view of the array (z, y, x) whose z runs up, y to the back and x to the patient's left.

    Axes are flipped but not rotated, so oblique ones stay oblique.
    """
    signs = np.asarray(geometry.direction).reshape(3, 3).diagonal()[::-1]
    return array[tuple(slice(None, None, -1) if sign < 0 else slice(None) for sign in signs)]


def rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(v), 3) for v in values)
