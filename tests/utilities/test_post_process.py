"""Largest component and holes, against scikit-image."""
import numpy as np
import pytest
from skimage.measure import label, regionprops
from skimage.morphology import remove_small_holes

from utilities.post_process import keep_liver


def plain(mask, maximum_hole):
    regions = regionprops(label(mask, connectivity=1))
    liver = np.zeros(mask.shape, bool)
    if regions:
        largest = max(regions, key=lambda r: r.area)
        liver[tuple(largest.coords.T)] = True
    if maximum_hole == 0:
        return liver
    return remove_small_holes(liver, max_size=maximum_hole - 1, connectivity=2)  # max_size is filled; the reference's threshold was not


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('maximum_hole', [0, 1, 3, 40])
def test_agrees_with_scikit_image(seed, maximum_hole):
    rng = np.random.default_rng(seed)
    mask = np.pad(rng.random((14, 15, 16)) < 0.25 + 0.1 * seed, 2)
    np.testing.assert_array_equal(keep_liver(mask, maximum_hole), plain(mask, maximum_hole))


def test_hole_sizes_with_a_pencil():
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[1:8, 1:8, 1:8] = 1
    mask[3, 3, 3:5] = 0  # a hole of 2
    assert keep_liver(mask, 2).sum() == 341  # fewer than 2: stays
    assert keep_liver(mask, 3).sum() == 343


def test_of_equal_components_the_first_in_raster_order_stays():
    mask = np.zeros((5, 5, 9), np.uint8)
    mask[0, 3, 0:2] = 1  # smaller, and before both
    mask[1, 3, 5:8] = mask[1, 0, 6:9] = 1
    kept = keep_liver(mask, 1)
    assert kept[1, 0, 6:9].all() and kept.sum() == 3


def test_corner_contact_does_not_join():
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0, 0, 0:3] = mask[1, 1, 3] = 1
    assert keep_liver(mask, 1).sum() == 3


def test_a_small_volume_does_not_become_all_liver():
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[4:10, 4:10, 4:10] = 1
    assert keep_liver(mask, 5e4).sum() == 216


@pytest.mark.parametrize('mask', [np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8), np.zeros((3, 4, 5), bool)])
def test_empty_and_full(mask):
    assert keep_liver(mask, 5).dtype == np.uint8
    np.testing.assert_array_equal(keep_liver(mask, 5), mask)


def test_2d_is_refused():
    with pytest.raises(ValueError, match='3D'):
        keep_liver(np.ones((3, 4)), 5)
