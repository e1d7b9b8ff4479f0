"""Samples: shape, type, values, uniform starts, what is wrong with a training set."""

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


def fill(folder, depth=20, ending='.nii', number=1):
    rng = np.random.default_rng(number)
    ct = rng.integers(-200, 201, (depth, 16, 24)).astype(np.int16)
    ct[:, 0, 0] = np.arange(depth)  # tells a slice's place
    seg = rng.integers(0, 2, (depth, 32, 48)).astype(np.uint8)
    write_volume(folder / f'ct/volume-{number}{ending}', ct, GEOMETRY)
    write_volume(folder / f'seg/segmentation-{number}{ending}', seg, GEOMETRY)
    return ct, seg


@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
def test_sample(tmp_path, ending):
    whole_ct, whole_seg = fill(tmp_path, ending=ending)
    ct, seg = Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)[0]
    assert ct.shape == (1, 8, 16, 24) and ct.dtype == torch.float32
    assert seg.shape == (8, 32, 48) and seg.dtype == torch.uint8
    first = round(float(ct[0, 0, 0, 0]) * 200)
    np.testing.assert_allclose(ct[0] * 200, whole_ct[first : first + 8], atol=1e-4)
    np.testing.assert_array_equal(seg, whole_seg[first : first + 8])
    assert torch.equal(
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 8, -100, 400)[0][0].abs().max() <= 0.5, torch.tensor(True)
    )


def test_starts_are_uniform(tmp_path):
    fill(tmp_path, depth=12)
    samples = Dataset(tmp_path / 'ct', tmp_path / 'seg', 8, samples_per_case=1000)
    torch.manual_seed(0)
    starts = Counter(round(float(samples[i][0][0, 0, 0, 0]) * 200) for i in range(1000))
    assert sorted(starts) == [0, 1, 2, 3, 4] and len(samples) == 1000
    assert sum((n - 200) ** 2 / 200 for n in starts.values()) < 18.5  # chi-square, 4 degrees of freedom, p = 0.001


def test_a_depth_of_exactly_size(tmp_path):
    fill(tmp_path, depth=8)
    assert Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)[0][0].shape[1] == 8


def test_only_the_samples_own_slices_are_read(tmp_path):
    fill(tmp_path, depth=9)
    samples = Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)
    for file, slice_bytes in (('ct/volume-1.nii', 2 * 16 * 24), ('seg/segmentation-1.nii', 32 * 48)):
        with open(tmp_path / file, 'r+b') as opened:
            opened.truncate(352 + 8 * slice_bytes)  # header, and all slices but the last
    assert samples[0, 0.0][0].shape[1] == samples[0, 0.49][0].shape[1] == 8
    with pytest.raises(InputError, match='cut short'):
        samples[0, 0.5]


def test_goes_to_a_worker_process(tmp_path):
    fill(tmp_path, depth=8)
    samples = Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)
    assert torch.equal(pickle.loads(pickle.dumps(samples))[0][0], samples[0][0])


def test_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match='get_training_set'):
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)
    fill(tmp_path)
    with pytest.raises(InputError, match='24 slices or more, got 20'):
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 24)
    with pytest.raises(InputError, match='down_scale'):
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 8, down_scale=1)
    (tmp_path / 'seg/segmentation-1.nii').unlink()
    with pytest.raises(InputError, match='no label'):
        Dataset(tmp_path / 'ct', tmp_path / 'seg', 8)


def test_a_training_set_of_other_or_several_settings_is_refused(tmp_path):
    require_settings(tmp_path, lower=-200)  # somebody else's: no records
    manifest = Manifest(tmp_path / 'set', {'lower': -200}, 'training_set_path')
    manifest.add('volume-0', [], [])
    require_settings(tmp_path / 'set', lower=-200)
    with pytest.raises(InputError, match='was made with lower -200, now it is -100'):
        require_settings(tmp_path / 'set', lower=-100)
    Manifest(tmp_path / 'set', {'lower': -100}, 'training_set_path').add('volume-1', [], [])
    with pytest.raises(InputError, match='several settings'):
        require_settings(tmp_path / 'set', lower=-200)
