"""Phantoms look like CTs, their labels are right, and a seed always means the same bytes."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from data_prepare import phantom as phantom_module
from data_prepare.phantom import phantom, tissues
from data_prepare.phantom_anatomy import LIVER, STOMACH

SHAPE, SPACING = (40, 96, 96), (3.5, 3.5, 9.0)
SEEDS = range(5)


@pytest.fixture(scope='module')
def cases():
    return {seed: phantom(seed, SHAPE, SPACING) for seed in SEEDS}


def best_threshold_dice(ct, truth):
    """Return the best Dice of all bands [low, high] of HU with bounds every 2 HU from 0 to 200."""
    edges = np.arange(0, 202, 2)
    inside, everything = (np.concatenate([[0], np.histogram(values, edges)[0].cumsum()]) for values in (ct[truth], ct))
    low, high = np.triu_indices(len(edges), 1)
    return (2 * (inside[high] - inside[low]) / (truth.sum() + everything[high] - everything[low])).max()


def test_types_shape_and_range(cases):
    for ct, label in cases.values():
        assert ct.dtype == np.int16 and label.dtype == np.uint8
        assert ct.shape == label.shape == SHAPE
        assert ct.min() >= -1024 and ct.max() <= 3071
        assert set(np.unique(label)) <= {0, 1, 2} and (label == 1).any()


# SHA-256 of CT and label of shape (17, 40, 23), spacing (9, 15, 18), as of the first version of the phantoms.
DIGESTS = {0: '30dee68004105afe', 7: 'b531228768a4d44a'}


@pytest.mark.parametrize('seed', DIGESTS)
def test_a_seed_means_the_same_bytes_as_ever(seed):
    ct, label = phantom(seed, (17, 40, 23), (9, 15, 18))
    assert hashlib.sha256(ct.tobytes() + label.tobytes()).hexdigest()[:16] == DIGESTS[seed]


def test_same_arguments_give_the_same_bytes(cases):
    again = phantom(1, SHAPE, SPACING)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again, cases[1]))


def test_number_of_threads_does_not_change_a_byte(cases, monkeypatch):
    monkeypatch.setattr(phantom_module, 'in_threads', lambda function, items: [function(i) for i in items])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(phantom(1, SHAPE, SPACING), cases[1]))


def test_another_seed_gives_another_shape_and_noise(cases):
    overlap = (cases[0][1] > 0) & (cases[1][1] > 0)
    assert 2 * overlap.sum() < 0.95 * ((cases[0][1] > 0).sum() + (cases[1][1] > 0).sum())
    assert (cases[0][0] != cases[1][0]).mean() > 0.9


def test_spacing_changes_the_ct_and_not_the_label(cases):
    ct, label = phantom(0, SHAPE, (0.5, 0.5, 0.5))
    assert (label == cases[0][1]).all() and (ct != cases[0][0]).any()


@pytest.mark.parametrize('shape', [SHAPE, (24, 64, 64), (16, 16, 16), (17, 40, 23)])
def test_liver_is_one_6_connected_piece(shape):
    for seed in range(12):
        assert ndimage.label(tissues(seed, shape) >= LIVER)[1] == 1, seed


def test_no_liver_in_the_first_and_last_tenth():
    for seed in range(20):
        slices = np.flatnonzero((tissues(seed, SHAPE) >= LIVER).any((1, 2)))
        assert slices[0] >= 4 and slices[-1] < SHAPE[0] - 4, seed


def test_liver_share_is_that_of_a_scan():
    for seed in range(20):
        liver = tissues(seed, SHAPE) >= LIVER
        assert 0.02 < liver.mean() < 0.045, seed
        assert 0.06 < liver[liver.any((1, 2))].mean() < 0.125, seed


def test_tumours_lie_in_the_liver_and_are_darker(cases):
    with_tumour = 0
    for ct, label in cases.values():
        tumour = label == 2
        if tumour.any():
            with_tumour += 1
            assert ndimage.binary_dilation(label == 1, iterations=6)[tumour].mean() > 0.5
            assert (ndimage.binary_fill_holes(label > 0) & tumour).sum() == tumour.sum()
            assert ct[tumour].mean() + 15 < ct[label == 1].mean()
    assert 0 < with_tumour


def test_stomach_touches_the_liver_and_looks_like_it(cases):
    for seed, (ct, label) in cases.items():
        tissue = tissues(seed, SHAPE)
        assert (ndimage.binary_dilation(label > 0) & (tissue == STOMACH)).sum() >= 10, seed
        inner_stomach = ndimage.binary_erosion(tissue == STOMACH, iterations=2)
        inner_liver = ndimage.binary_erosion(tissue == LIVER, iterations=2)
        assert abs(ct[inner_stomach].mean() - ct[inner_liver].mean()) < 5, seed


@pytest.mark.parametrize('seed', SEEDS)
def test_a_threshold_does_not_find_the_liver(cases, seed):
    ct, label = cases[seed]
    assert best_threshold_dice(ct, label > 0) < 0.75
    assert best_threshold_dice(ndimage.uniform_filter(ct.astype(np.float32), 3), label > 0) < 0.75


@pytest.mark.parametrize('shape', [(40, 96), (40, 96, 15), (40, 96, 96.0), 40, (40, 96, True), None])
def test_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match='shape: wanted 3 integers .* got'):
        phantom(0, shape, SPACING)


@pytest.mark.parametrize('spacing', [(1, 1), (1, 1, 0), (1, 1, -2.0), (1, 1, float('nan')), 1.0, ('a', 1, 1), None])
def test_wrong_spacing_is_named(spacing):
    with pytest.raises(ValueError, match='spacing: wanted 3 numbers .* got'):
        phantom(0, SHAPE, spacing)


@pytest.mark.parametrize('seed', [-1, 1.5, None])
def test_wrong_seed_is_named(seed):
    with pytest.raises(ValueError, match='seed: wanted an integer'):
        phantom(seed, SHAPE, SPACING)
