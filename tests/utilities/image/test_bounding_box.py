"""Bounding boxes of masks, against numpy and a pencil."""

import numpy as np
import pytest

from utilities.image.bounding_box import bounding_box, count_per_slice


@pytest.mark.parametrize('view', [np.s_[:], np.s_[::-1, ::-1, ::-1], np.s_[:, :, ::2]])
def test_counts_are_the_sums_over_slices(view):
    mask = np.random.default_rng(0).integers(0, 2, (7, 9, 11)).astype(np.uint8)[view]
    for counts, other_axes in zip(count_per_slice(mask), ((1, 2), (0, 2), (0, 1))):
        np.testing.assert_array_equal(counts, mask.sum(other_axes))


def test_box_includes_both_ends_and_stops_at_the_border():
    mask = np.zeros((10, 20, 30), np.uint8)
    mask[2:9, 5:7, 29] = 1
    assert bounding_box(count_per_slice(mask), (1, 3, 4)) == np.s_[1:10, 2:10, 25:30]


def test_box_of_an_empty_mask_is_the_whole_volume():
    assert bounding_box(count_per_slice(np.zeros((2, 3, 4), bool)), (1, 0, 0)) == np.s_[0:2, 0:3, 0:4]
