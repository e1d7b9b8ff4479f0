"""Read and write volumes with their geometry.

Arrays are (z, y, x); spacing, origin and direction are SimpleITK's, (x, y, z) in mm.
"""

import errno
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from utilities.base.atomic_write import atomic_write, reserve_space
from utilities.base.errors import InputError
from utilities.volumes.formats import ending, format_of, read_file_header, stem
from utilities.volumes.formats.shared import Header
from utilities.volumes.geometry import Geometry, rounded

NIFTI_HEADER = 352  # bytes before the voxels in the NIfTI files that we write
WRITTEN_ENDINGS = ('.nii.gz', '.nii', '.nrrd', '.mha')  # of the formats that hold a volume in one file
MIN_SPACING = 0.001  # mm
MAX_EXTENT = 5000  # mm
MAX_ORIGIN = 1e6  # mm
MAX_SKEW = 1e-3  # largest scalar product of two axes

Spacing = tuple[float, float, float]


def read_header(path: Path, spacing: Spacing | None = None) -> tuple[tuple[int, int, int], Geometry]:
    """Return shape (z, y, x) and geometry of a volume; `spacing` (x, y, z) in mm, if given, replaces the header's.

    Raises InputError for what is not a 3D volume, and for a geometry that no CT has: a spacing that is not finite and
    above 0, a volume of more than 5 m, axes that are not at right angles.
    """
    header = read_file_header(path)
    return header.shape, geometry_of(path, header, spacing)


def geometry_of(path: Path, header: Header, spacing: Spacing | None) -> Geometry:
    """Return the geometry in a header, checked as read_header describes."""
    spacing = spacing or header.spacing
    extent = [s * n for s, n in zip(spacing, reversed(header.shape))]
    if not all(s >= MIN_SPACING and e <= MAX_EXTENT for s, e in zip(spacing, extent)):
        raise InputError(
            f'{path}: wanted a spacing of {MIN_SPACING:g} mm or more, and {MAX_EXTENT:g} mm from end to end or less, '
            f'got {rounded(spacing)} mm (x, y, z); spacing_override = {{{stem(path)!r}: [x, y, z]}} gives the true one'
        )
    if not all(abs(v) <= MAX_ORIGIN for v in header.origin):
        raise InputError(f'{path}: wanted an origin within {MAX_ORIGIN:g} mm, got {rounded(header.origin)}')
    axes = np.reshape(header.direction, (3, 3))
    with np.errstate(all='ignore'):
        skew = np.abs(axes.T @ axes - np.eye(3)).max()
    if not skew < MAX_SKEW:
        raise InputError(f'{path}: wanted axes at right angles, got the direction {rounded(header.direction)}')
    return Geometry(spacing, header.origin, header.direction)


def read_volume(path: Path, spacing: Spacing | None = None) -> tuple[np.ndarray, Geometry]:
    """Return the values (z, y, x) and the geometry of a volume, as in read_header.

    The dtype is the file's, or float32 if the file scales its values. Raises InputError for what is not a finite 3D
    volume.
    """
    header = read_file_header(path)
    geometry = geometry_of(path, header, spacing)
    array = as_input_error(path, format_of(path).read_voxels, header)
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder())
    if header.scale != (1, 0):
        array = array.astype(np.float32)
        with np.errstate(over='ignore', invalid='ignore'):
            array *= header.scale[0]
            array += header.scale[1]
    if array.dtype.kind == 'f' and not (is_finite := np.isfinite(array)).all():
        raise InputError(f'{path}: wanted finite values, got {int((~is_finite).sum())} NaN or infinite voxels')
    return array, geometry


def as_input_error(path: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return function(*arguments); what it raises about a damaged file becomes an InputError that names `path`."""
    try:
        return function(*arguments)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f'{path}: the file is damaged or cut short ({error})') from None


class SliceReader:
    """Reads runs of slices of a volume; it reads the header once, and of an uncompressed file no other slices."""

    def __init__(self, path: Path):
        self.path, self.header = path, read_file_header(path)

    def read(self, first: int, last: int) -> np.ndarray:
        """Return the slices first to last - 1 (z, y, x). Raises InputError if the file does not hold them."""
        if self.header.is_compressed or self.header.scale != (1, 0):
            return read_volume(self.path)[0][first:last]
        return as_input_error(self.path, format_of(self.path).read_slices, self.header, first, last)


def read_ct(path: Path, lower: float, upper: float, spacing: Spacing | None = None) -> tuple[np.ndarray, Geometry]:
    """Return a CT clipped to [lower, upper] HU as int16 (z, y, x), and its geometry.

    It is clipped before the cast to int16, so that no value wraps around.
    """
    array, geometry = read_volume(path, spacing)
    if array.dtype.kind == 'f':
        array = np.rint(array)
    return np.clip(array, lower, upper, dtype=np.result_type(array, np.int16)).astype(np.int16, copy=False), geometry


def read_label(path: Path, spacing: Spacing | None = None) -> tuple[np.ndarray, Geometry]:
    """Return the liver mask of a label as uint8 (z, y, x), 1 where the label is above 0, and its geometry."""
    array, geometry = read_volume(path, spacing)
    if array.dtype.kind == 'f':
        array = np.rint(array)
    return (array > 0).astype(np.uint8), geometry


def write_volume(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write a (z, y, x) array with its geometry to one file, which appears whole or not at all.

    Raises InputError for any ending but those of WRITTEN_ENDINGS, and OSError if the file cannot be written; its errno
    is ENOSPC, EDQUOT or EFBIG if there is no room.
    """
    if ending(path) not in WRITTEN_ENDINGS:
        raise InputError(f'{path}: wanted a name that ends in {", ".join(WRITTEN_ENDINGS)} to write one file')
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # An OSError reports what went wrong, once.
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(v) for v in geometry.spacing])
    image.SetOrigin([float(v) for v in geometry.origin])
    image.SetDirection([float(v) for v in geometry.direction])
    size = array.nbytes + NIFTI_HEADER
    with atomic_write(path) as part:
        reserve_space(part, size, path)
        try:
            sitk.WriteImage(image, str(part))
            reason = 'cut short' if '.nii' in ending(path) and is_short(part, size) else ''
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
        if reason:
            # SimpleITK does not say whether the disk is full; this raises if it is.
            reserve_space(part, size, path)
            raise OSError(errno.EIO, reason, str(path))


def is_short(path: Path, size: int) -> bool:
    """Tell whether a NIfTI file just written holds less than `size` bytes; a .nii.gz says its length modulo 2^32."""
    file_size = path.stat().st_size
    if ending(path) == '.nii':
        return file_size < size
    with open(path, 'rb') as file:
        file.seek(max(0, file_size - 4))
        return int.from_bytes(file.read(4), 'little') != size % 2**32
