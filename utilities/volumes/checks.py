"""Find what is wrong with a case: from its headers alone before a long run, and from its voxels in check_dataset.py."""

import numpy as np
import SimpleITK as sitk

from utilities.base.errors import InputError
from utilities.volumes.cases import Case, label_name
from utilities.volumes.geometry import Geometry, require_same_grid
from utilities.volumes.read_write import read_header

MAX_HU = (
    1500  # reached in a CT of the trunk by bone and contrast medium; without the offset of HU, water alone has 1024
)


def check_header(case: Case, is_label_wanted: bool, grid_tolerance: float) -> list[str]:
    """Return warnings about a case, from its headers alone; no voxel is read.

    Raises InputError for what makes it unusable: a file that cannot be read, no label though one is wanted, or a label
    whose corners lie more than grid_tolerance (mm) from those of the CT.
    """
    shape, geometry = read_header(case.ct, case.spacing)
    if case.label:
        require_same_grid(case.label, *read_header(case.label, case.spacing), case.ct, shape, geometry, grid_tolerance)
    elif is_label_wanted:
        raise InputError(f'{case.ct}: wanted a label {label_name(case.name)}, found none; set train_seg_path')
    warnings = []
    if geometry.spacing == (1, 1, 1) and shape[1:] == (512, 512):
        warnings.append(
            'a spacing of 1 x 1 x 1 mm at 512 x 512 pixels is wrong (3DIRCADb in LiTS); '
            'give the true one in spacing_override'
        )
    if orientation(geometry)[2] not in 'SI':
        warnings.append(f'its slices are not axial (x, y and z run to {orientation(geometry)})')
    return warnings


def orientation(geometry: Geometry) -> str:
    """Return where x, y and z run to, such as 'LPS': to the left, to posterior, to superior."""
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(geometry.direction)


def check_hu(low: float, high: float) -> tuple[list[str], list[str]]:
    """Return errors and warnings about a CT whose values, from low to high, may not be HU."""
    if low == high:
        return [f'every voxel is {low:g}'], []
    if low >= 0 and high > MAX_HU:
        return [f'its values, {low:g} to {high:g}, are not HU: is an offset of -1024 missing?'], []
    if low >= -1 and high <= 255:
        return [f'its values, {low:g} to {high:g}, are not HU: grey values of a picture?'], []
    return [], ['no value below 0, not even air'] if low >= 0 else []


def check_label(label: np.ndarray) -> tuple[list[str], list[str], np.ndarray]:
    """Return errors and warnings about a label (z, y, x), and the number of liver voxels in each of its slices.

    A voxel is liver if its value, rounded, is above 0.
    """
    other_labels, liver, is_on_edge = set(), np.zeros(len(label), int), False
    for number, image in enumerate(label):
        others = image[(image != 0) & (image != 1) & (image != 2)]
        if others.size:
            other_labels.update(np.unique(others)[:9].tolist())
        mask = image >= 0.5 if image.dtype.kind == 'f' else image > 0
        liver[number] = np.count_nonzero(mask)
        is_on_edge |= bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())
    if not liver.any():
        return ['holds no liver (no label above 0)'], [], liver
    errors, warnings = [], []
    if other_labels:
        errors.append(f'labels other than 0, 1 and 2: {", ".join(f"{v:g}" for v in sorted(other_labels)[:9])}')
    if is_on_edge:
        warnings.append('liver touches the edge of its slices')
    if liver[0] or liver[-1]:
        warnings.append(f'liver reaches the {"first" if liver[0] else "last"} slice: is it cut off?')
    return errors, warnings, liver
