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

from data_prepare.liver_slices import liver_slices
from utilities.base.errors import InputError, one_line
from utilities.base.log import log, log_to_file
from utilities.image.preprocess import pad_in_plane, resample_ct, z_factor
from utilities.image.resample import zoom
from utilities.run import run_cases, script
from utilities.run.manifest import Manifest
from utilities.run.parameter_rules import settings_of_stage
from utilities.run.script import run_script
from utilities.volumes.cases import find_cases, label_name
from utilities.volumes.checks import check_header
from utilities.volumes.geometry import require_same_grid
from utilities.volumes.read_write import read_ct, read_label, write_volume

BYTES = 12  # of memory for a voxel of a CT, at most, to slices of a fifth; see benchmarks/benchmark.py


def main(para):
    found = find_cases(para.train_ct_path, 'train_ct_path', para.train_seg_path, para.spacing_override)
    settings = settings_of_stage(vars(para), 'training_set')
    manifest = Manifest(para.training_set_path, settings, 'training_set_path')
    log_to_file(manifest.folder / 'get_training_set.log')

    def check(case):
        return check_header(case, True, para.grid_tolerance)

    def done(case):
        return manifest.done(case.name, [*case.files, case.spacing])

    def make(case):
        ct, label = training_volumes(case, **settings)
        ct_file, seg_file = f'ct/{case.name}.nii', f'seg/{label_name(case.name)}.nii'
        manifest.start(case.name, [ct_file, seg_file])
        write_volume(manifest.folder / ct_file, *ct)
        write_volume(manifest.folder / seg_file, *label)
        return manifest.add(case.name, [*case.files, case.spacing], [ct_file, seg_file])

    workers = run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES)
    made, failures = run_cases.run_cases(make, found, 'training set', check=check, done=done, workers=workers)
    if made:  # else the old set, all of other settings, is the only one there is
        # nothing of other settings or of a case now left out, a test case perhaps, may be trained on
        failed = {name for name, _ in failures}
        removed, stuck = manifest.prune(
            {case.name for case in found if case.name not in failed or manifest.is_current(case.name)}
        )
        failures += stuck
        for name in removed:
            log.info(one_line(f'removed: {name}: no longer in {para.train_ct_path}, or failed with these settings'))
    return script.report_results(len(made), failures, para.training_set_path, 'python train_ds.py')


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
        raise InputError(
            f'{case.ct}: wanted {size} slices of {slice_thickness:g} mm around the liver, got {last - first}; '
            'lower size, or raise expand_slice'
        )
    small = resample_ct(ct, factor, down_scale, lower)
    np.clip(small, lower, upper, out=small)

    ct_geometry = geometry.resampled(pad_in_plane(ct, down_scale, 0).shape, small.shape).cropped((first, 0, 0))
    seg_geometry = geometry.resampled(label.shape[:1] + full.shape[1:], full.shape).cropped((first, 0, 0))
    return (small[first:last], ct_geometry), (full[first:last], seg_geometry)


if __name__ == '__main__':
    run_script(main, __doc__)
