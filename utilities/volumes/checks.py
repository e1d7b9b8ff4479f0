"""What is wrong with a case: from its headers alone before a long run, and from its voxels in check_dataset.py."""

import numpy as np
import SimpleITK as sitk

from utilities.base.errors import InputError
from utilities.volumes.cases import label_name
from utilities.volumes.geometry import require_same_grid
from utilities.volumes.read_write import read_header

MAX_HU = 1500  # in a CT of the trunk bone and contrast medium reach it; water is 1024 where the offset of HU is missing


def check_header(case, labelled, grid_tolerance):
    """Warnings about a case, from its headers alone; no voxel is read.

    Raises InputError for what makes it unusable: a file that cannot be read, a missing label where it is to be `labelled`, a label
    on another grid than the CT (by more than grid_tolerance, mm).
    """
    shape, geometry = read_header(case.ct, case.spacing)
    if case.label:
        require_same_grid(case.label, *read_header(case.label, case.spacing), case.ct, shape, geometry, grid_tolerance)
    elif labelled:
        raise InputError(f'{case.ct}: wanted a label {label_name(case.name)}, found none; set train_seg_path')
    warnings = []
    if geometry.spacing == (1, 1, 1) and shape[1:] == (512, 512):
        warnings.append(
            'a spacing of 1 x 1 x 1 mm at 512 x 512 pixels is false (3DIRCADb in LiTS); give the true one in spacing_override'
        )
    if orientation(geometry)[2] not in 'SI':
        warnings.append(f'its slices are not axial (x, y and z run to {orientation(geometry)})')
    return warnings


def orientation(geometry):
    """Where x, y and z of a volume run to, the nearest of left, right, anterior, posterior, superior, inferior: 'LPS'."""
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(geometry.direction)


def check_hu(low, high):
    """What shows that a CT's values, from low to high, are no HU: a list of errors and one of warnings."""
    if low == high:
        return [f'every voxel is {low:g}'], []
    if low >= 0 and high > MAX_HU:
        return [f'its values, {low:g} to {high:g}, are no HU: is an offset of -1024 missing?'], []
    if low >= -1 and high <= 255:
        return [f'its values, {low:g} to {high:g}, are no HU: grey values of a picture?'], []
    return [], ['no value below 0, not even air'] if low >= 0 else []


def check_label(label):
    """(errors, warnings, liver): liver tells of each slice of a label (z, y, x) how many voxels are liver, above 0 when rounded."""
    others, liver, on_edge = set(), np.zeros(len(label), int), False
    for number, image in enumerate(label):
        odd = image[(image != 0) & (image != 1) & (image != 2)]
        if odd.size:
            others.update(np.unique(odd)[:9].tolist())
        mask = image >= 0.5 if image.dtype.kind == 'f' else image > 0
        liver[number] = np.count_nonzero(mask)
        on_edge |= bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())
    if not liver.any():
        return ['holds no liver (no label above 0)'], [], liver
    errors = [f'labels other than 0, 1 and 2: {", ".join(f"{v:g}" for v in sorted(others)[:9])}'] if others else []
    warnings = ['liver touches the edge of its slices'] if on_edge else []
    if liver[0] or liver[-1]:
        warnings.append(f'liver reaches the {"first" if liver[0] else "last"} slice: is it cut off?')
    return errors, warnings, liver
