"""Turn LiTS volumes into a training set.

In:   train_ct_path/volume-N.* and train_seg_path/segmentation-N.*
Out:  training_set_path/ct/volume-N.nii (int16 HU) and training_set_path/seg/segmentation-N.nii (uint8), manifest.json

    python data_prepare/get_training_set.py --train_ct_path=DIR --train_seg_path=DIR
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from utilities import cases
from utilities.command_line import run
from utilities.errors import InputError
from utilities.manifest import Manifest
from utilities.preprocess import pad_in_plane, resample_ct
from utilities.resample import zoom
from utilities.volume import find_cases, read_ct, read_label, renamed, require_same_grid, write

SETTINGS = ('size', 'down_scale', 'expand_slice', 'slice_thickness', 'upper', 'lower', 'grid_tolerance')


def main(para):
    found = find_cases(para.train_ct_path, 'train_ct_path', para.train_seg_path)
    settings = {name: getattr(para, name) for name in SETTINGS}
    manifest = Manifest(para.training_set_path, settings, 'training_set_path')

    def make(case):
        if case.label is None:
            raise InputError(f'{case.ct}: wanted a label {renamed(case.name, "segmentation")} in {para.train_seg_path}, found none; '
                             'set train_seg_path')
        if manifest.done(case.name, [case.ct, case.label]):
            return
        ct, label = training_volumes(case, **settings)
        ct_file, seg_file = f'ct/{case.name}.nii', f'seg/{renamed(case.name, "segmentation")}.nii'
        write(manifest.folder / ct_file, *ct)
        write(manifest.folder / seg_file, *label)
        manifest.add(case.name, [case.ct, case.label], [ct_file, seg_file])

    results, failures = cases.run(make, found, 'training set')
    return cases.report(len(results), failures, para.training_set_path, 'python train_ds.py')


def training_volumes(case, size, down_scale, expand_slice, slice_thickness, upper, lower, grid_tolerance):
    """A case on the training grid: ((CT int16 HU, Geometry), (liver mask uint8, Geometry)), arrays (z, y, x).

    Raises InputError for files that cannot be read, grids that differ, no liver, and fewer than `size` slices around it.
    """
    ct, geometry = read_ct(case.ct, lower, upper)
    label, label_geometry = read_label(case.label)
    require_same_grid(case.label, label.shape, label_geometry, case.ct, ct.shape, geometry, grid_tolerance)

    z_factor = geometry.spacing[2] / slice_thickness
    full = zoom(pad_in_plane(label, down_scale, 0), (z_factor, 1, 1), 0)
    first, last = liver_slices(full, expand_slice, case.label)
    if last - first < size:
        raise InputError(f'{case.ct}: wanted {size} slices of {slice_thickness:g} mm around the liver, got {last - first}; '
                         'lower size, or raise expand_slice')
    small = np.clip(resample_ct(ct, z_factor, down_scale, lower), lower, upper)

    ct_geometry = geometry.resampled(pad_in_plane(ct, down_scale, 0).shape, small.shape).cropped((first, 0, 0))
    seg_geometry = geometry.resampled(label.shape[:1] + full.shape[1:], full.shape).cropped((first, 0, 0))
    return (small[first:last], ct_geometry), (full[first:last], seg_geometry)


def liver_slices(label, expand_slice, path):
    """First and one past the last slice of label (z, y, x) to keep: all that hold liver, and expand_slice on both sides."""
    held = np.flatnonzero(label.any((1, 2)))
    if not held.size:
        raise InputError(f'{path}: holds no liver (no label above 0)')
    return max(0, held[0] - expand_slice), min(len(label), held[-1] + 1 + expand_slice)


if __name__ == '__main__':
    run(main, __doc__)
