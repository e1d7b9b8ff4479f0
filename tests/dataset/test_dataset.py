"""Samples: shape, type, values and uniform first slices; and what is refused in a training set."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch

from dataset.dataset import Dataset, require_settings
from utilities.base.errors import InputError
from utilities.run.manifest import Manifest
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

GEOMETRY = Geometry((1, 1, 1))


def write_training_case(folder, depth=20, ending='.nii', number=1):
    """Write a case whose CT holds the number of each slice in its first voxel; return CT and label."""
    rng = np.random.default_rng(number)
    ct = rng.integers(-200, 201, (depth, 16, 24)).astype(np.int16)
    ct[:, 0, 0] = np.arange(depth)
    label = rng.integers(0, 2, (depth, 32, 48)).astype(np.uint8)
    write_volume(folder / f'ct/volume-{number}{ending}', ct, GEOMETRY)
    write_volume(folder / f'seg/segmentation-{number}{ending}', label, GEOMETRY)
    return ct, label


def first_slice(ct):
    """Return the number of a sample's first slice."""
    return round(float(ct[0, 0, 0, 0]) * 200)


@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
def test_a_sample_is_a_run_of_slices(tmp_path, ending):
    whole_ct, whole_label = write_training_case(tmp_path, ending=ending)
    ct, label = Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)[0]
    assert ct.shape == (1, 8, 16, 24) and ct.dtype == torch.float32
    assert label.shape == (8, 32, 48) and label.dtype == torch.uint8
    first = first_slice(ct)
    np.testing.assert_allclose(ct[0] * 200, whole_ct[first : first + 8], atol=1e-4)
    np.testing.assert_array_equal(label, whole_label[first : first + 8])


@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
def test_hu_are_divided_by_the_larger_end_of_the_window(tmp_path, ending):
    write_training_case(tmp_path, ending=ending)
    assert Dataset(tmp_path / 'ct', tmp_path / 'seg', 8, -100, 400)[0][0].abs().max() <= 0.5


def test_first_slices_are_uniform(tmp_path):
    write_training_case(tmp_path, depth=12)
    samples = Dataset(tmp_path / 'ct', tmp_path / 'seg', 8, samples_per_case=1000)
    torch.manual_seed(0)
    starts = Counter(first_slice(samples[index][0]) for index in range(1000))
    assert sorted(starts) == [0, 1, 2, 3, 4] and len(samples) == 1000
    assert sum((n - 200) ** 2 / 200 for n in starts.values()) < 18.5  # chi-square, 4 degrees of freedom, p = 0.001


def test_a_case_may_have_exactly_size_slices(tmp_path):
    write_training_case(tmp_path, depth=8)
    assert Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)[0][0].shape[1] == 8


def test_a_sample_reads_only_its_own_slices(tmp_path):
    write_training_case(tmp_path, depth=9)
    samples = Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)
    for name, slice_bytes in (('ct/volume-1.nii', 2 * 16 * 24), ('seg/segmentation-1.nii', 32 * 48)):
        with open(tmp_path / name, 'r+b') as file:
            file.truncate(352 + 8 * slice_bytes)  # the header and all slices but the last
    assert samples[0, 0.0][0].shape[1] == samples[0, 0.49][0].shape[1] == 8
    with pytest.raises(InputError, match='cut short'):
        samples[0, 0.5]


def test_a_dataset_can_be_sent_to_a_worker_process(tmp_path):
    write_training_case(tmp_path, depth=8)
    samples = Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)
    assert torch.equal(pickle.loads(pickle.dumps(samples))[0][0], samples[0][0])


def test_an_unusable_training_set_is_refused(tmp_path):
    with pytest.raises(InputError, match='get_training_set'):
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)
    write_training_case(tmp_path)
    with pytest.raises(InputError, match='24 slices or more, got 20'):
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 24)
    with pytest.raises(InputError, match='down_scale'):
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 8, down_scale=1)
    (tmp_path / 'seg/segmentation-1.nii').unlink()
    with pytest.raises(InputError, match='no label'):
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)


def test_a_training_set_of_other_or_several_settings_is_refused(tmp_path):
    require_settings(tmp_path, lower=-200)  # A training set of another program has no records.
    manifest = Manifest(tmp_path / 'set', {'lower': -200}, 'training_set_path')
    manifest.finish_case('volume-0', [], [])
    require_settings(tmp_path / 'set', lower=-200)
    with pytest.raises(InputError, match='was made with lower -200, now it is -100'):
        require_settings(tmp_path / 'set', lower=-100)
    Manifest(tmp_path / 'set', {'lower': -100}, 'training_set_path').finish_case('volume-1', [], [])
    with pytest.raises(InputError, match='several settings'):
        require_settings(tmp_path / 'set', lower=-200)
