"""Volumes on disk and their geometry: the only place that reads or writes images, and that finds and pairs cases.

Arrays are (z, y, x); spacing, origin and direction are SimpleITK's, (x, y, z) in mm.
"""
import errno
import math
import os
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from utilities import headers
from utilities.errors import InputError
from utilities.lock import writer

ENDINGS = ('.nii.gz', '.nii', '.nrrd', '.mha')
HEADER = 352  # bytes before the voxels in the NIfTI files that we write
SHORTEST, LONGEST = 0.001, 5000  # mm: least spacing, greatest extent
PART = re.compile(r'\.part-\d+-\d+-.+')  # names of files not yet whole


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
        factors = [(old - 1) / (new - 1) if new > 1 and old > 1 else old / new for old, new in zip(old_shape, new_shape)]
        return Geometry(tuple(s * f for s, f in zip(self.spacing, factors[::-1])), self.origin, self.direction)

    def cropped(self, first):
        """Geometry of the array whose voxel 0 is voxel `first` (z, y, x) of this one."""
        return Geometry(self.spacing, tuple(self.position(first)), self.direction)

    def corner_distance(self, other, shape):
        """Largest distance in mm between the corners of an array of this shape in the two geometries."""
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing='ij'), -1).reshape(-1, 3)
        return max(float(np.linalg.norm(self.position(c) - other.position(c))) for c in corners)


@dataclass(frozen=True)
class Case:
    """A CT and its label (None where there is none); `spacing` (x, y, z) in mm is the true one where their headers are wrong."""
    ct: Path
    label: Path | None
    spacing: tuple | None = None

    @property
    def name(self):
        return stem(self.ct)

    @property
    def files(self):
        return [self.ct] if self.label is None else [self.ct, self.label]

    @property
    def voxels(self):
        """Of the CT, by its header; 0 where that cannot be read."""
        try:
            return math.prod(headers.parse(self.ct, ending(self.ct)).shape)
        except InputError:
            return 0


def ending(path):
    return next((e for e in ENDINGS if path.name.lower().endswith(e)), None)


def stem(path):
    """File name without its image ending: volume-1.nii.gz -> volume-1."""
    return path.name[: -len(ending(path))]


def renamed(name, word):
    """volume-1 -> word-1; a name without 'volume' gets the word in front."""
    return name.replace('volume', word) if 'volume' in name else f'{word}-{name}'


def find_volumes(folder, parameter):
    """Image files in a folder by name (stem -> path), numbers in natural order.

    Raises InputError, which names the parameter that holds the folder, if it is missing or empty, or if two files
    differ only by their ending.
    """
    if not Path(folder).is_dir():
        phantoms = ', or make phantoms to try with: python data_prepare/make_phantom.py' * (parameter in ('train_ct_path', 'test_ct_path'))
        raise InputError(f'{folder}: no such folder; set {parameter}{phantoms}')
    found = list_volumes(folder)
    if not found:
        raise InputError(f'{folder}: wanted volumes ({", ".join(ENDINGS)}), found none; set {parameter}')
    return found


def list_volumes(folder):
    found = {}
    for path in Path(folder).iterdir():
        if path.is_file() and not path.name.startswith('.') and ending(path):
            if stem(path) in found:
                raise InputError(f'{path}: the same case as {found[stem(path)].name}; keep one of the two')
            found[stem(path)] = path
    return {name: found[name] for name in sorted(found, key=natural)}


def natural(name):
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', name)]


def label_name(ct_name):
    """volume-1 -> segmentation-1; a CT's own name if 'volume' is not in it."""
    return ct_name.replace('volume', 'segmentation')


def find_cases(ct_folder, ct_parameter, label_folder, spacing_override={}):
    """Every CT of a folder with its label: volume-N -> segmentation-N, whatever the two endings; else the CT's own name.

    CT and labels may lie in one folder, as LiTS is handed out: what is called segmentation is no CT. spacing_override: true spacing
    {case name: (x, y, z) in mm}. Raises InputError where the results of two cases would have one name.
    """
    labels = list_volumes(label_folder) if Path(label_folder).is_dir() else {}
    one_folder = Path(label_folder).resolve() == Path(ct_folder).resolve()
    cases = [Case(ct, labels.get(label_name(name) if 'volume' in name or not one_folder else ''), spacing_of(name, spacing_override))
            for name, ct in find_volumes(ct_folder, ct_parameter).items() if not name.startswith('segmentation')]
    if not cases:
        raise InputError(f'{ct_folder}: wanted CT volumes, found only labels (segmentation-N); set {ct_parameter}')
    first = {}
    for case in cases:
        other = first.setdefault(renamed(case.name, 'pred'), case)
        if other is not case:
            raise InputError(f'{case.ct}: its results would have the names of those of {other.ct.name}; rename one of the two')
    return cases


def spacing_of(name, spacing_override):
    return tuple(float(s) for s in spacing_override[name]) if name in spacing_override else None


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
        raise InputError(f'{path}: wanted a spacing of {SHORTEST:g} mm or more, and {LONGEST:g} mm from end to end or less, got '
                         f'{rounded(spacing)} mm (x, y, z); spacing_override = {{{stem(path)!r}: [x, y, z]}} gives the true one')
    if not all(abs(v) <= headers.FARTHEST for v in header.origin):
        raise InputError(f'{path}: wanted an origin within {headers.FARTHEST:g} mm, got {rounded(header.origin)}')
    axes = np.reshape(header.direction, (3, 3))
    with np.errstate(all='ignore'):
        skew = np.abs(axes.T @ axes - np.eye(3)).max()
    if not skew < 1e-3:
        raise InputError(f'{path}: wanted axes at right angles, got the direction {rounded(header.direction)}')
    return Geometry(spacing, header.origin, header.direction)


def read(path, spacing=None):
    """Array (z, y, x) of the values, and Geometry as in read_header. Raises InputError for what is no finite 3D volume."""
    header = headers.parse(path, ending(path))
    geometry = geometry_of(path, header, spacing)
    array = damage_named(path, headers.voxels, header)
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


def damage_named(path, function, *arguments):
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
            return read(self.path)[0][first:last]
        return damage_named(self.path, headers.slices, self.header, first, last)


def read_ct(path, lower, upper, spacing=None):
    """CT clipped to [lower, upper] HU as int16 (z, y, x), and Geometry. Clipped before the cast, so no value wraps around."""
    array, geometry = read(path, spacing)
    if array.dtype.kind == 'f':
        array = np.rint(array)
    return np.clip(array, lower, upper, dtype=np.result_type(array, np.int16)).astype(np.int16, copy=False), geometry


def read_label(path, spacing=None):
    """Liver mask: every label above 0, uint8 (z, y, x), and Geometry."""
    array, geometry = read(path, spacing)
    if array.dtype.kind == 'f':
        array = np.rint(array)
    return (array > 0).astype(np.uint8), geometry


def require_same_grid(path, shape, geometry, ct_path, ct_shape, ct_geometry, tolerance):
    """Raise InputError unless the voxels of two volumes lie at the same places, to `tolerance` mm."""
    if shape != ct_shape:
        raise InputError(f'{path}: wanted the grid of {ct_path.name}, {ct_shape} voxels (z, y, x), got {shape}')
    distance = geometry.corner_distance(ct_geometry, shape)
    if distance > tolerance:
        raise InputError(f'{path}: wanted the grid of {ct_path.name}, got corners {distance:.3g} mm away (spacing '
                         f'{rounded(geometry.spacing)} and {rounded(ct_geometry.spacing)}, origin {rounded(geometry.origin)} '
                         f'and {rounded(ct_geometry.origin)}); grid_tolerance is {tolerance:g} mm')


def patient_view(array, geometry):
    """The array with its axes turned so that z runs up, y to the back, x to the patient's left; oblique directions stay as they are."""
    signs = np.asarray(geometry.direction).reshape(3, 3).diagonal()[::-1]
    return array[tuple(slice(None, None, -1) if sign < 0 else slice(None) for sign in signs)]


def rounded(values):
    return tuple(round(float(v), 3) for v in values)


def write(path, array, geometry):
    """Write a (z, y, x) array with its geometry, whole or not at all: beside, flushed, then renamed.

    Raises OSError, where there is no room with its errno: ENOSPC, EDQUOT, EFBIG.
    """
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(v) for v in geometry.spacing])
    image.SetOrigin([float(v) for v in geometry.origin])
    image.SetDirection([float(v) for v in geometry.direction])
    room = array.nbytes + HEADER
    with whole_file(path) as part:
        reserve(part, room, path)
        try:
            sitk.WriteImage(image, str(part))
            why = 'cut short' if '.nii' in ending(path) and is_short(part, room) else ''
        except RuntimeError as error:
            why = str(error).strip().splitlines()[-1]
        if why:
            reserve(part, room, path)
            raise OSError(errno.EIO, why, str(path))


def reserve(part, room, path):
    """Ask the file system for the room (bytes) of a file: ITK tells no errno, and of NIfTI not even that it failed."""
    try:
        with open(part, 'ab') as file:
            os.posix_fallocate(file.fileno(), 0, room)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def is_short(path, room):
    """Does a NIfTI file just written hold less than the `room` bytes of its header and voxels? gzip tells it modulo 2^32."""
    size = path.stat().st_size
    if ending(path) == '.nii':
        return size < room
    with open(path, 'rb') as file:
        file.seek(max(0, size - 4))
        return int.from_bytes(file.read(4), 'little') != room % 2 ** 32


@contextmanager
def whole_file(path):
    """`with whole_file(path) as part:` write to part; path appears complete at the end, or not at all. An OSError names path or part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.part-{writer()}-{path.name}')
    try:
        yield part
        with open(part, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)  # of whatever failed; once renamed it is gone
