"""Turn LiTS volumes into a training set.

In:   train_ct_path/volume-N.* and train_seg_path/segmentation-N.*
Out:  training_set_path/ct/volume-N.nii (int16 HU) and training_set_path/seg/segmentation-N.nii (uint8), and a record of each
      case in training_set_path/manifest: a case made before with the same settings is not made again, and one whose CT is no longer
      in train_ct_path is removed

    python data_prepare/get_training_set.py --train_ct_path=DIR --train_seg_path=DIR
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from utilities import cases
from utilities.check import check_header
from utilities.command_line import run
from utilities.errors import InputError, one_line
from utilities.log import log, log_to
from utilities.manifest import Manifest
from utilities.preprocess import pad_in_plane, resample_ct, z_factor
from utilities.resample import zoom
from utilities.volume import find_cases, label_name, read_ct, read_label, require_same_grid, write

SETTINGS = ('size', 'down_scale', 'expand_slice', 'slice_thickness', 'upper', 'lower', 'grid_tolerance')
BYTES = 12  # of memory for a voxel of a CT, at most, to slices of a fifth; see benchmarks/benchmark.py


def main(para):
    found = find_cases(para.train_ct_path, 'train_ct_path', para.train_seg_path, para.spacing_override)
    settings = {name: getattr(para, name) for name in SETTINGS}
    manifest = Manifest(para.training_set_path, settings, 'training_set_path')
    log_to(manifest.folder / 'get_training_set.log')

    def check(case):
        return check_header(case, True, para.grid_tolerance)

    def done(case):
        return manifest.done(case.name, [*case.files, case.spacing])

    def make(case):
        ct, label = training_volumes(case, **settings)
        ct_file, seg_file = f'ct/{case.name}.nii', f'seg/{label_name(case.name)}.nii'
        manifest.start(case.name, [ct_file, seg_file])
        write(manifest.folder / ct_file, *ct)
        write(manifest.folder / seg_file, *label)
        return manifest.add(case.name, [*case.files, case.spacing], [ct_file, seg_file])

    workers = cases.Workers(para.num_workers, para.dask_scheduler, BYTES)
    made, failures = cases.run(make, found, 'training set', check=check, done=done, workers=workers)
    if made:  # else the old set, all of other settings, is the only one there is
        # nothing of other settings or of a case now left out, a test case perhaps, may be trained on
        failed = {name for name, _ in failures}
        removed, stuck = manifest.prune({case.name for case in found if case.name not in failed or manifest.is_current(case.name)})
        failures += stuck
        for name in removed:
            log.info(one_line(f'removed: {name}: no longer in {para.train_ct_path}, or failed with these settings'))
    return cases.report(len(made), failures, para.training_set_path, 'python train_ds.py')


def training_volumes(case, size, down_scale, expand_slice, slice_thickness, upper, lower, grid_tolerance):
    """A case on the training grid: ((CT int16 HU, Geometry), (liver mask uint8, Geometry)), arrays (z, y, x).

    Raises InputError for files that cannot be read, grids that differ, no liver, and fewer than `size` slices around it.
    """
    ct, geometry = read_ct(case.ct, lower, upper, case.spacing)
    label, label_geometry = read_label(case.label, case.spacing)
    require_same_grid(case.label, label.shape, label_geometry, case.ct, ct.shape, geometry, grid_tolerance)

    if not label.any():
        raise InputError(f'{case.label}: holds no liver (no label above 0)')
    factor = z_factor(len(label), geometry.spacing[2], slice_thickness)
    full = zoom(pad_in_plane(label, down_scale, 0), (factor, 1, 1), 0)
    first, last = liver_slices(full, expand_slice)
    if last - first < size:
        raise InputError(f'{case.ct}: wanted {size} slices of {slice_thickness:g} mm around the liver, got {last - first}; '
                         'lower size, or raise expand_slice')
    small = resample_ct(ct, factor, down_scale, lower)
    np.clip(small, lower, upper, out=small)

    ct_geometry = geometry.resampled(pad_in_plane(ct, down_scale, 0).shape, small.shape).cropped((first, 0, 0))
    seg_geometry = geometry.resampled(label.shape[:1] + full.shape[1:], full.shape).cropped((first, 0, 0))
    return (small[first:last], ct_geometry), (full[first:last], seg_geometry)


def liver_slices(label, expand_slice):
    """First and one past the last slice of label (z, y, x) to keep: all that hold liver, and expand_slice on both sides; 0, 0 for none."""
    held = np.flatnonzero(label.any((1, 2)))
    if not held.size:
        return 0, 0
    return max(0, held[0] - expand_slice), min(len(label), held[-1] + 1 + expand_slice)


if __name__ == '__main__':
    run(main, __doc__)
