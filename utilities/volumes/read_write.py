"""Volumes on disk and their geometry: the only place that reads or writes images, and that finds and pairs cases.

Arrays are (z, y, x); spacing, origin and direction are SimpleITK's, (x, y, z) in mm.
"""

import errno
import zlib

import numpy as np
import SimpleITK as sitk

from utilities.base.atomic_write import atomic_write, reserve_space
from utilities.base.errors import InputError
from utilities.volumes import headers
from utilities.volumes.geometry import Geometry, rounded
from utilities.volumes.headers import ending, stem

HEADER = 352  # bytes before the voxels in the NIfTI files that we write
SHORTEST, LONGEST = 0.001, 5000  # mm: least spacing, greatest extent


def read_header(path, spacing=None):
    """Shape (z, y, x) and Geometry of a volume; `spacing` (x, y, z) in mm, if given, instead of the header's.

    Raises InputError for what is no 3D volume, and for a geometry that no CT has: a spacing that is not finite and above 0, a volume of
    more than 5 m, axes that are not at right angles.
    """
    header = headers.parse(path, ending(path))
    return header.shape, geometry_of(path, header, spacing)


def geometry_of(path, header, spacing):
    spacing = spacing or header.spacing
    extent = [s * n for s, n in zip(spacing, reversed(header.shape))]
    if not all(s >= SHORTEST and e <= LONGEST for s, e in zip(spacing, extent)):
        raise InputError(
            f'{path}: wanted a spacing of {SHORTEST:g} mm or more, and {LONGEST:g} mm from end to end or less, got '
            f'{rounded(spacing)} mm (x, y, z); spacing_override = {{{stem(path)!r}: [x, y, z]}} gives the true one'
        )
    if not all(abs(v) <= headers.FARTHEST for v in header.origin):
        raise InputError(f'{path}: wanted an origin within {headers.FARTHEST:g} mm, got {rounded(header.origin)}')
    axes = np.reshape(header.direction, (3, 3))
    with np.errstate(all='ignore'):
        skew = np.abs(axes.T @ axes - np.eye(3)).max()
    if not skew < 1e-3:
        raise InputError(f'{path}: wanted axes at right angles, got the direction {rounded(header.direction)}')
    return Geometry(spacing, header.origin, header.direction)


def read_volume(path, spacing=None):
    """Array (z, y, x) of the values, and Geometry as in read_header. Raises InputError for what is no finite 3D volume."""
    header = headers.parse(path, ending(path))
    geometry = geometry_of(path, header, spacing)
    array = as_input_error(path, headers.voxels, header)
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder())
    if header.scale != (1, 0):
        array = array.astype(np.float32)
        with np.errstate(over='ignore', invalid='ignore'):
            array *= header.scale[0]
            array += header.scale[1]
    if array.dtype.kind == 'f' and not (finite := np.isfinite(array)).all():
        raise InputError(f'{path}: wanted finite values, got {int((~finite).sum())} NaN or infinite voxels')
    return array, geometry


def as_input_error(path, function, *arguments):
    """function(path, *arguments), its errors about the file as InputError."""
    try:
        return function(path, *arguments)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f'{path}: the file is damaged or cut short ({error})') from None


class SliceReader:
    """Runs of slices of a volume, as stored (z, y, x); the header is read once, and of a plain file only what is asked for."""

    def __init__(self, path):
        self.path, self.header = path, headers.parse(path, ending(path))

    def read(self, first, last):
        """Slices first to last - 1. Raises InputError if the file does not hold them."""
        if self.header.packed or self.header.scale != (1, 0):
            return read_volume(self.path)[0][first:last]
        return as_input_error(self.path, headers.slices, self.header, first, last)


def read_ct(path, lower, upper, spacing=None):
    """CT clipped to [lower, upper] HU as int16 (z, y, x), and Geometry. Clipped before the cast, so no value wraps around."""
    array, geometry = read_volume(path, spacing)
    if array.dtype.kind == 'f':
        array = np.rint(array)
    return np.clip(array, lower, upper, dtype=np.result_type(array, np.int16)).astype(np.int16, copy=False), geometry


def read_label(path, spacing=None):
    """Liver mask: every label above 0, uint8 (z, y, x), and Geometry."""
    array, geometry = read_volume(path, spacing)
    if array.dtype.kind == 'f':
        array = np.rint(array)
    return (array > 0).astype(np.uint8), geometry


def write_volume(path, array, geometry):
    """Write a (z, y, x) array with its geometry, whole or not at all: beside, flushed, then renamed.

    Raises OSError, where there is no room with its errno: ENOSPC, EDQUOT, EFBIG.
    """
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(v) for v in geometry.spacing])
    image.SetOrigin([float(v) for v in geometry.origin])
    image.SetDirection([float(v) for v in geometry.direction])
    room = array.nbytes + HEADER
    with atomic_write(path) as part:
        reserve_space(part, room, path)
        try:
            sitk.WriteImage(image, str(part))
            why = 'cut short' if '.nii' in ending(path) and is_short(part, room) else ''
        except RuntimeError as error:
            why = str(error).strip().splitlines()[-1]
        if why:
            reserve_space(part, room, path)
            raise OSError(errno.EIO, why, str(path))


def is_short(path, room):
    """Does a NIfTI file just written hold less than the `room` bytes of its header and voxels? gzip tells it modulo 2^32."""
    size = path.stat().st_size
    if ending(path) == '.nii':
        return size < room
    with open(path, 'rb') as file:
        file.seek(max(0, size - 4))
        return int.from_bytes(file.read(4), 'little') != room % 2**32
