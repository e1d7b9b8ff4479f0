"""The figures of a data set, counted by hand."""

import numpy as np

from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume


def test_figures_with_a_pencil(tmp_path, script):
    liver, ct = np.zeros((4, 10, 10), np.uint8), np.zeros((4, 10, 10), np.int16)
    liver[1, 0, :8] = liver[2, 0, 0] = 2  # 9 voxels in 2 of 4 slices
    ct[1, 0, :3] = 201  # 3 outside the window, 6 inside
    write_volume(tmp_path / 'data/train/CT/volume-0.nii', ct, Geometry((1, 1, 2.5)))
    write_volume(tmp_path / 'data/train/seg/segmentation-0.nii', liver, Geometry((1, 1, 2.5)))
    done = script('data_prepare/analyse_dataset.py')
    assert done.returncode == 0, done.stderr
    for figure in ('2.50 mm', '66.67%', '50.00%', '4.50%'):
        assert figure in done.stdout
    done = script('data_prepare/analyse_dataset.py', spacing_override="{'volume-0': [1, 1, 4]}")
    assert '4.00 mm' in done.stdout
