"""Turn LiTS volumes into a training set.

In:   train_ct_path/volume-N.* and train_seg_path/segmentation-N.*
Out:  training_set_path/ct/volume-N.nii (int16 HU), training_set_path/seg/segmentation-N.nii (uint8) and a record of
      each case in training_set_path/manifest. A case that was made with the same settings is not made again; a case
      whose CT is no longer in train_ct_path is removed.

    python data_prepare/get_training_set.py --train_ct_path=DIR --train_seg_path=DIR
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numpy as np

from data_prepare.liver_slices import liver_slices, too_few_slices_message
from utilities.base.errors import InputError, one_line
from utilities.base.log import log, log_to_file
from utilities.image.preprocess import pad_in_plane, resample_ct, z_factor
from utilities.image.resample import zoom
from utilities.run import run_cases, script
from utilities.run.manifest import Manifest
from utilities.run.parameter_rules import settings_of_stage
from utilities.run.script import run_script
from utilities.volumes.cases import Case, find_cases, label_name
from utilities.volumes.checks import check_header
from utilities.volumes.geometry import Geometry, require_same_grid
from utilities.volumes.read_write import read_ct, read_label, write_volume

BYTES = (
    12  # of memory for each voxel of a CT, at most, down to a fifth of the slice distance; measured by the benchmark
)


@dataclass(frozen=True)
class TrainingSetSettings:
    """The parameters of a training set; parameter.py tells their meaning and units."""

    size: int
    down_scale: float
    expand_slice: int
    slice_thickness: float
    upper: float
    lower: float
    grid_tolerance: float


def main(para: SimpleNamespace) -> int:
    cases = find_cases(para.train_ct_path, 'train_ct_path', para.train_seg_path, para.spacing_override)
    settings = TrainingSetSettings(**settings_of_stage(vars(para), 'training_set'))
    manifest = Manifest(para.training_set_path, asdict(settings), 'training_set_path')
    log_to_file(manifest.folder / 'get_training_set.log')
    results, failures = run_cases.run_cases(
        partial(make_training_case, settings=settings, manifest=manifest),
        cases,
        'training set',
        check_case=partial(check_header, is_label_wanted=True, grid_tolerance=settings.grid_tolerance),
        find_result=partial(find_finished, manifest=manifest),
        workers=run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES),
    )
    if results:  # without results the old set, all of it made with other settings, is the only one there is
        failures += remove_other_cases(manifest, cases, failures, para.train_ct_path)
    return script.report_results(len(results), failures, para.training_set_path, 'python train_ds.py')


def inputs_of(case: Case) -> list:
    """Return what a training case is made from, for the manifest."""
    return [*case.files, case.spacing]


def find_finished(case: Case, manifest: Manifest) -> dict | None:
    """Return the record of a case that an earlier run made with the same settings, or None."""
    return manifest.find_finished(case.name, inputs_of(case))


def make_training_case(case: Case, settings: TrainingSetSettings, manifest: Manifest) -> dict:
    """Resample a case, write its two files, and return its record."""
    ct, label = training_volumes(case, settings)
    ct_file, label_file = f'ct/{case.name}.nii', f'seg/{label_name(case.name)}.nii'
    manifest.begin_case(case.name, [ct_file, label_file])
    write_volume(manifest.folder / ct_file, *ct)
    write_volume(manifest.folder / label_file, *label)
    return manifest.finish_case(case.name, inputs_of(case), [ct_file, label_file])


def remove_other_cases(
    manifest: Manifest, cases: Sequence[Case], failures: Sequence[tuple[str, str]], ct_folder: str
) -> list[tuple[str, str]]:
    """Remove the training cases that this run did not make or find finished.

    Otherwise a case that became a test case would still be trained on. A case that
    failed now stays if it was made with the same settings before.

    Args:
        manifest: of the training set.
        cases: all cases of this run.
        failures: (name, reason) of the cases that failed.
        ct_folder: train_ct_path, for the log.

    Returns:
        (name, reason) of every case that could not be removed.
    """
    failed = {name for name, _ in failures}
    wanted = {case.name for case in cases if case.name not in failed or manifest.is_current(case.name)}
    removed, not_removed = manifest.prune(wanted)
    for name in removed:
        log.info(one_line(f'removed: {name}: no longer in {ct_folder}, or failed with these settings'))
    return not_removed


def training_volumes(
    case: Case, settings: TrainingSetSettings
) -> tuple[tuple[np.ndarray, Geometry], tuple[np.ndarray, Geometry]]:
    """Resample a case to the training grid and crop it to the slices around the liver.

    Returns:
        (CT int16 HU, Geometry) and (liver mask uint8, Geometry), arrays (z, y, x); the mask keeps the full in-plane
        resolution.

    Raises:
        InputError: if a file cannot be read, the grids differ, there is no liver, or fewer than `size` slices around
        it.
    """
    lower, upper, down_scale = settings.lower, settings.upper, settings.down_scale
    ct, geometry = read_ct(case.ct, lower, upper, case.spacing)
    label, label_geometry = read_label(case.label, case.spacing)
    require_same_grid(case.label, label.shape, label_geometry, case.ct, ct.shape, geometry, settings.grid_tolerance)
    if not label.any():
        raise InputError(f'{case.label}: holds no liver (no label above 0)')

    factor = z_factor(len(label), geometry.spacing[2], settings.slice_thickness)
    resampled_label = zoom(pad_in_plane(label, down_scale, 0), (factor, 1, 1), 0)
    first, stop = liver_slices(resampled_label, settings.expand_slice)
    if stop - first < settings.size:
        raise InputError(f'{case.ct}: {too_few_slices_message(stop - first, settings.size, settings.slice_thickness)}')
    resampled_ct = resample_ct(ct, factor, down_scale, lower)
    np.clip(resampled_ct, lower, upper, out=resampled_ct)

    padded_shape = pad_in_plane(ct, down_scale, 0).shape
    ct_geometry = geometry.resampled(padded_shape, resampled_ct.shape).cropped((first, 0, 0))
    label_geometry = geometry.resampled(padded_shape, resampled_label.shape).cropped((first, 0, 0))
    return (resampled_ct[first:stop], ct_geometry), (resampled_label[first:stop], label_geometry)


if __name__ == '__main__':
    run_script(main, __doc__)
