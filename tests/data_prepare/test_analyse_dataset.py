"""The table and the figure of a small data set, counted by hand."""

import numpy as np
import pytest

from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume


@pytest.fixture
def data_folder(tmp_path):
    """A folder with one case: 9 liver voxels in 2 of 4 slices of 10 x 10 pixels, 3 of the voxels above the window."""
    liver, ct = np.zeros((4, 10, 10), np.uint8), np.zeros((4, 10, 10), np.int16)
    liver[1, 0, :8] = liver[2, 0, 0] = 2
    ct[1, 0, :3] = 201
    write_volume(tmp_path / 'data/train/CT/volume-0.nii', ct, Geometry((1, 1, 2.5)))
    write_volume(tmp_path / 'data/train/seg/segmentation-0.nii', liver, Geometry((1, 1, 2.5)))
    return tmp_path


def test_the_table_agrees_with_a_count_by_hand(data_folder, script):
    finished = script('data_prepare/analyse_dataset.py')
    assert finished.returncode == 0, finished.stderr
    for number in ('2.50 mm', '66.67%', '50.00%', '4.50%'):
        assert number in finished.stdout
    assert 'written: img/dataset.png' in finished.stdout
    assert (data_folder / 'img/dataset.png').read_bytes().startswith(b'\x89PNG')
    finished = script('data_prepare/analyse_dataset.py', spacing_override="{'volume-0': [1, 1, 4]}")
    assert '4.00 mm' in finished.stdout


def test_a_data_set_without_liver_has_no_shares_of_liver(data_folder, script):
    empty = np.zeros((4, 10, 10), np.uint8)
    write_volume(data_folder / 'data/train/seg/segmentation-0.nii', empty, Geometry((1, 1, 2.5)))
    finished = script('data_prepare/analyse_dataset.py')
    assert finished.returncode == 0, finished.stderr
    assert 'HU: none' in finished.stdout and 'liver pixels in those slices: none' in finished.stdout
    assert 'slices that hold liver: 0.00%' in finished.stdout
    assert 'nan' not in finished.stdout and 'Warning' not in finished.stderr
