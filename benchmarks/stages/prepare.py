"""A case of the training set, beside SimpleITK and scipy."""

from pathlib import Path

import numpy as np

from benchmarks import plain
from benchmarks.measure import side_by_side
from benchmarks.scene import HU_WINDOW, make_scan
from data_prepare.get_training_set import TrainingSetSettings, training_volumes
from utilities.volumes.cases import Case
from utilities.volumes.read_write import read_volume, write_volume

STAGE = 'get_training_set.py, a case of 160 x 512 x 512, with reading and writing'


def measure(folder: Path, repeats: int) -> dict:
    settings = TrainingSetSettings(
        size=48,
        down_scale=0.5,
        expand_slice=20,
        slice_thickness=1.0,
        lower=HU_WINDOW[0],
        upper=HU_WINDOW[1],
        grid_tolerance=0.1,
    )
    ct, label, geometry = make_scan(160)
    case = Case(folder / 'volume-0.nii', folder / 'segmentation-0.nii')
    write_volume(case.ct, ct, geometry)
    write_volume(case.label, label, geometry)

    def ours() -> None:
        for name, volume in zip(('ct.nii', 'seg.nii'), training_volumes(case, settings)):
            write_volume(folder / name, *volume)

    def plain_way() -> None:
        plain.training_case(case.ct, case.label, folder / 'plain-ct.nii', folder / 'plain-seg.nii.gz', settings)

    row, _, _ = side_by_side(plain_way, ours, repeats)
    is_same = np.array_equal(read_volume(folder / 'seg.nii')[0], read_volume(folder / 'plain-seg.nii.gz')[0])
    plain_ct = np.clip(read_volume(folder / 'plain-ct.nii')[0], *HU_WINDOW)  # ours is clipped after the spline as well
    difference = np.abs(read_volume(folder / 'ct.nii')[0] - plain_ct)
    equal = (difference == 0).mean()
    agrees = is_same and equal >= 0.99999 and difference.max() <= 1
    labels = 'identical' if is_same else 'DIFFER'
    return {
        **row,
        'goal': '>= 5 x',
        'reached': row['plain_s'] / row['ours_s'] >= 5 and agrees,
        'agreement': f'labels {labels}; CT equal in {equal:.4%}, at most {difference.max()} HU off',
    }
