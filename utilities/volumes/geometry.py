"""Where the voxels of an array lie in space.

Arrays are (z, y, x); spacing, origin and direction are SimpleITK's, (x, y, z) in mm.
"""

from dataclasses import dataclass

import numpy as np

from utilities.base.errors import InputError


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a (z, y, x) array lie; all members in SimpleITK's (x, y, z) order, mm."""

    spacing: tuple
    origin: tuple = (0.0, 0.0, 0.0)
    direction: tuple = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def position(self, index):
        """mm position (x, y, z) of a voxel index (z, y, x), fractions allowed."""
        scaled = np.asarray(index, float)[::-1] * self.spacing
        return np.asarray(self.origin) + np.asarray(self.direction).reshape(3, 3) @ scaled

    def resampled(self, old_shape, new_shape):
        """Geometry after a zoom from old_shape to new_shape (z, y, x), whose first and last voxels stay in place."""
        factors = [
            (old - 1) / (new - 1) if new > 1 and old > 1 else old / new for old, new in zip(old_shape, new_shape)
        ]
        return Geometry(tuple(s * f for s, f in zip(self.spacing, factors[::-1])), self.origin, self.direction)

    def cropped(self, first):
        """Geometry of the array whose voxel 0 is voxel `first` (z, y, x) of this one."""
        return Geometry(self.spacing, tuple(self.position(first)), self.direction)

    def corner_distance(self, other, shape):
        """Largest distance in mm between the corners of an array of this shape in the two geometries."""
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing='ij'), -1).reshape(-1, 3)
        return max(float(np.linalg.norm(self.position(c) - other.position(c))) for c in corners)


def require_same_grid(path, shape, geometry, ct_path, ct_shape, ct_geometry, tolerance):
    """Raise InputError unless the voxels of two volumes lie at the same places, to `tolerance` mm."""
    if shape != ct_shape:
        raise InputError(f'{path}: wanted the grid of {ct_path.name}, {ct_shape} voxels (z, y, x), got {shape}')
    distance = geometry.corner_distance(ct_geometry, shape)
    if distance > tolerance:
        raise InputError(
            f'{path}: wanted the grid of {ct_path.name}, got corners {distance:.3g} mm away (spacing '
            f'{rounded(geometry.spacing)} and {rounded(ct_geometry.spacing)}, origin {rounded(geometry.origin)} '
            f'and {rounded(ct_geometry.origin)}); grid_tolerance is {tolerance:g} mm'
        )


def patient_view(array, geometry):
    """The array with its axes turned so that z runs up, y to the back, x to the patient's left; oblique directions stay as they are."""
    signs = np.asarray(geometry.direction).reshape(3, 3).diagonal()[::-1]
    return array[tuple(slice(None, None, -1) if sign < 0 else slice(None) for sign in signs)]


def rounded(values):
    return tuple(round(float(v), 3) for v in values)
