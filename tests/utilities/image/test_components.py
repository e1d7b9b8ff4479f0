"""Components on runs, against scipy.ndimage.label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from utilities.image.components import find_runs, label_components


def voxel_labels(mask, runs, first_run, label):
    """Return the component of each voxel, counted from 1; 0 is background."""
    labels = np.zeros(mask.shape, int)
    for row in range(mask.shape[0] * mask.shape[1]):
        for run in range(first_run[row], first_run[row + 1]):
            labels[row // mask.shape[1], row % mask.shape[1], runs[run, 0] : runs[run, 1]] += label[run] + 1
    return labels


def assert_agrees_with_scipy(mask):
    runs, first_run = find_runs(mask)
    for with_edges in (False, True):
        label, sizes = label_components(runs, first_run, mask.shape[1], with_edges)
        ours = voxel_labels(mask, runs, first_run, label)
        wanted, count = ndimage.label(mask, ndimage.generate_binary_structure(3, 2 if with_edges else 1))
        np.testing.assert_array_equal(ours > 0, mask != 0)
        # Each label of ours goes with one label of scipy's, and the other way round.
        pairs = np.unique(np.stack([ours.ravel(), wanted.ravel()]), axis=1)
        assert len(sizes) == count and pairs.shape[1] == len(np.unique(wanted)) == len(np.unique(ours))
        np.testing.assert_array_equal(sizes, np.bincount(ours.ravel(), minlength=count + 1)[1:])
        first_voxels = [np.flatnonzero(ours.ravel() == n + 1)[0] for n in range(count)]
        assert first_voxels == sorted(first_voxels)  # The components are numbered in raster order.


@settings(deadline=None, max_examples=200)
@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.booleans()))
def test_agrees_with_scipy(mask):
    assert_agrees_with_scipy(mask)


@pytest.mark.parametrize('width', [63, 64, 65, 127, 128, 129, 200])
@pytest.mark.parametrize('share', [0.002, 0.1, 0.5, 0.9])
def test_long_rows(width, share):
    assert_agrees_with_scipy((np.random.default_rng(width).random((4, 5, width)) < share).astype(np.uint8) * 255)


def test_rows_longer_than_16_bits():
    mask = np.zeros((1, 2, 70000), np.uint8)
    mask[0, 0, 65530:65540] = mask[0, 0, 69999] = mask[0, 1, 65539:65545] = 1
    assert_agrees_with_scipy(mask)


def test_columns_that_only_the_last_row_joins():
    mask = np.zeros((1, 9, 65), bool)
    mask[0, :, ::2] = True
    mask[0, 8] = True
    assert_agrees_with_scipy(mask)
    assert_agrees_with_scipy(mask[:, ::-1])


@pytest.mark.parametrize('shape', [(0, 4, 5), (4, 0, 5), (4, 5, 0), (3, 4, 5)])
def test_an_empty_mask_has_no_runs(shape):
    runs, first_run = find_runs(np.zeros(shape, np.uint8))
    label, sizes = label_components(runs, first_run, shape[1], True)
    assert len(runs) == len(label) == len(sizes) == 0 and not first_run.any()
