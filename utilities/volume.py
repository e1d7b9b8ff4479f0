"""Volumes on disk and their geometry: the only place that reads or writes images, and that finds and pairs cases.

Arrays are (z, y, x); spacing, origin and direction are SimpleITK's, (x, y, z) in mm.
"""
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from utilities.errors import InputError

ENDINGS = ('.nii.gz', '.nii', '.nrrd', '.mha')
sitk.ProcessObject.SetGlobalWarningDisplay(False)  # a file's faults are told once, by InputError


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
    """A CT and its label (None where there is none)."""
    ct: Path
    label: Path | None

    @property
    def name(self):
        return stem(self.ct)


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
        raise InputError(f'{folder}: no such folder; set {parameter}')
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


def find_cases(ct_folder, ct_parameter, label_folder):
    """Every CT of a folder with its label: volume-N -> segmentation-N, whatever the two endings; else the CT's own name.

    CT and labels may lie in one folder, as LiTS is handed out: what is called segmentation is no CT.
    """
    labels = list_volumes(label_folder) if Path(label_folder).is_dir() else {}
    one_folder = Path(label_folder).resolve() == Path(ct_folder).resolve()
    cases = [Case(ct, labels.get(name.replace('volume', 'segmentation') if 'volume' in name or not one_folder else ''))
            for name, ct in find_volumes(ct_folder, ct_parameter).items() if not name.startswith('segmentation')]
    if not cases:
        raise InputError(f'{ct_folder}: wanted CT volumes, found only labels (segmentation-N); set {ct_parameter}')
    return cases


def open_volume(path):
    """A reader that knows the header: size and geometry are checked, no voxel is read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f'{path}: cannot be read as an image ({reason(error)})') from None
    if reader.GetDimension() != 3:
        raise InputError(f'{path}: wanted a 3D volume, got {reader.GetDimension()}D of size {reader.GetSize()}')
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f'{path}: wanted one value per voxel, got {reader.GetNumberOfComponents()}')
    return reader


def reason(error):
    """The last, telling line of an ITK exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r'^.*?(ITK ERROR|sitk::ERROR): *', '', lines[-1])[:200] if lines else 'unknown reason'


def geometry_of(reader):
    return Geometry(reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def read_header(path):
    """Shape (z, y, x) and Geometry of a volume."""
    reader = open_volume(path)
    return tuple(reader.GetSize())[::-1], geometry_of(reader)


def read(path):
    """Array (z, y, x) as stored, and Geometry. Raises InputError for what is no finite 3D volume."""
    reader = open_volume(path)
    try:
        if '.nii' in ending(path):
            array = read_nifti(path)
        else:
            array = sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f'{path}: the file is damaged or cut short ({reason(error)})') from None
    if array.shape != tuple(reader.GetSize())[::-1] or array.dtype.kind not in 'iufb':
        raise InputError(f'{path}: wanted numbers in 3D, got {array.dtype} of shape {array.shape}')
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
        raise InputError(f'{path}: wanted finite values, got {int((~np.isfinite(array)).sum())} NaN or infinite voxels')
    return array, geometry_of(reader)


def read_nifti(path):
    """Voxels of a NIfTI file, (z, y, x), mapped from disk where uncompressed.

    ITK's reader would take a file that is cut short for one with zeros at its end, and NaN for 0; nibabel does not.
    """
    image = nibabel.load(path)
    stored = np.asarray(image.dataobj.get_unscaled()).T
    slope, offset = image.dataobj.slope, image.dataobj.inter
    return stored if (slope, offset) == (1, 0) else stored.astype(np.float32) * np.float32(slope) + np.float32(offset)


class SliceReader:
    """Runs of slices of a NIfTI volume, as stored (z, y, x); the header is read once, and of an uncompressed file only what is asked for."""

    def __init__(self, path):
        self.path, self.stored = path, nibabel.load(path).dataobj
        self.plain = ending(path) == '.nii' and (self.stored.slope, self.stored.inter) == (1, 0)

    def read(self, first, last):
        """Slices first to last - 1. Raises InputError if the file does not hold them."""
        x, y, _ = self.stored.shape
        try:
            if not self.plain:
                return np.asarray(self.stored[..., first:last]).T
            dtype = self.stored.dtype
            # a plain read into fresh memory, no memory map: a file that was cut short is an error then, and not the end of the process
            values = np.fromfile(self.path, dtype, (last - first) * y * x, offset=self.stored.offset + first * y * x * dtype.itemsize)
            return values.reshape(last - first, y, x)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise InputError(f'{self.path}: the file is damaged or cut short ({reason(error)})') from None


def read_ct(path, lower, upper):
    """CT clipped to [lower, upper] HU as int16 (z, y, x), and Geometry. Clipped before the cast, so no value wraps around."""
    array, geometry = read(path)
    if array.dtype.kind == 'f':
        array = np.rint(array)
    return np.clip(array, lower, upper, dtype=np.result_type(array, np.int16)).astype(np.int16), geometry


def read_label(path):
    """Liver mask: every label above 0, uint8 (z, y, x), and Geometry."""
    array, geometry = read(path)
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
    """Write a (z, y, x) array with its geometry, whole or not at all: beside, flushed, then renamed."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(v) for v in geometry.spacing])
    image.SetOrigin([float(v) for v in geometry.origin])
    image.SetDirection([float(v) for v in geometry.direction])
    with whole_file(path) as part:
        try:
            sitk.WriteImage(image, str(part))
        except RuntimeError as error:
            raise OSError(None, reason(error), str(path)) from None


class whole_file:
    """`with whole_file(path) as part:` write to part; path appears complete at the end, or not at all."""

    def __init__(self, path):
        self.path = Path(path)
        self.part = self.path.with_name(f'.part-{os.getpid()}-{self.path.name}')

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.part

    def __exit__(self, kind, *_):
        if kind is None:
            with open(self.part, 'rb') as file:
                os.fsync(file.fileno())
            os.replace(self.part, self.path)
        else:
            self.part.unlink(missing_ok=True)
