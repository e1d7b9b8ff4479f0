"""The largest component and its holes, compared with scikit-image, scipy and counts by hand."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.morphology import remove_small_holes

from utilities.image.post_process import keep_liver


def by_scikit_image(mask, maximum_hole):
    regions = regionprops(label(mask, connectivity=1))
    liver = np.zeros(mask.shape, bool)
    if regions:
        largest = max(regions, key=lambda r: r.area)
        liver[tuple(largest.coords.T)] = True
    if maximum_hole == 0:
        return liver
    # Holes of max_size voxels are filled; those of the reference's threshold are not.
    return remove_small_holes(liver, max_size=maximum_hole - 1, connectivity=2)


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('maximum_hole', [0, 1, 3, 40])
def test_agrees_with_scikit_image(seed, maximum_hole):
    rng = np.random.default_rng(seed)
    mask = np.pad(rng.random((14, 15, 16)) < 0.25 + 0.1 * seed, 2)
    np.testing.assert_array_equal(keep_liver(mask, maximum_hole), by_scikit_image(mask, maximum_hole))


def by_scipy(mask, maximum_hole):
    """Compute what the docstring of keep_liver promises, with a label for every voxel."""

    def largest_component(labels, count):
        """Return the label of the largest component, of equal ones the first in raster order, and all sizes."""
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        order = sorted(range(1, count + 1), key=lambda n: (-sizes[n - 1], (labels.ravel() == n).argmax()))
        return order[0], sizes

    labels, count = ndimage.label(mask)
    if not count:
        return np.zeros(mask.shape, bool)
    liver = labels == largest_component(labels, count)[0]
    labels, count = ndimage.label(~liver, ndimage.generate_binary_structure(3, 2))
    if not count:
        return liver
    exterior, sizes = largest_component(labels, count)
    is_inner = np.zeros(mask.shape, bool)
    is_inner[1:-1, 1:-1, 1:-1] = True
    filled = liver.copy()
    for n in range(1, count + 1):
        hole = labels == n
        if sizes[n - 1] < maximum_hole and not (n == exterior and (hole & ~is_inner).any()):
            filled |= hole
    return filled


HOLLOW_CUBE = np.ones((3, 3, 3), bool)
HOLLOW_CUBE[1, 1, 1] = False


@settings(deadline=None, max_examples=300)
@given(
    arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.booleans(), fill=st.booleans()),
    st.integers(0, 30),
)
@example(HOLLOW_CUBE, 5)  # The hole is the whole background; it is filled, since it touches no border.
@example(np.pad(HOLLOW_CUBE, 1), 500)
@example(~np.pad(HOLLOW_CUBE, 1), 500)
def test_agrees_with_scipy(mask, maximum_hole):
    np.testing.assert_array_equal(keep_liver(mask, maximum_hole), by_scipy(mask, maximum_hole))


def test_background_is_connected_over_edges_but_not_corners():
    mask = np.ones((7, 7, 7), np.uint8)
    mask[3, 3, 3] = mask[3, 4, 4] = 0  # They share an edge: a hole of 2.
    mask[1, 1, 1] = 0  # a hole of 1
    mask[0, 0, 0] = 0  # It shares only a corner with (1, 1, 1).
    mask[6, :, 6] = 0  # the exterior
    liver = keep_liver(mask, 2)
    assert liver.sum() == 343 - 2 - 7 and liver[1, 1, 1] == liver[0, 0, 0] == 1


@pytest.mark.parametrize(
    'convert',
    [
        lambda m: m.astype(bool),
        lambda m: m.astype(np.int16) * 300,
        lambda m: m.astype(float) / 7,
        lambda m: m * 255,
        np.asfortranarray,
        lambda m: np.repeat(m, 2, 2)[:, :, ::2],
        lambda m: m[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    ],
)
def test_any_type_and_memory_order(convert):
    mask = (np.random.default_rng(5).random((9, 10, 70)) < 0.4).astype(np.uint8)
    given = convert(mask)
    before = given.copy()
    ours = keep_liver(given, 3)
    assert ours.dtype == np.uint8 and ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, by_scikit_image(mask, 3))
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize('maximum_hole', [2, 50, 5e4])
def test_a_liver_with_holes_among_many_islands(maximum_hole):
    rng = np.random.default_rng(6)
    mask = np.zeros((40, 150, 130), np.uint8)
    mask[8:30, 20:100, 30:110] = ndimage.gaussian_filter(rng.random((22, 80, 80)), 1) > 0.4
    for z, y, x in rng.integers(0, (38, 148, 128), (300, 3)):
        mask[z : z + 2, y : y + 2, x : x + 2] = 1
    np.testing.assert_array_equal(keep_liver(mask, maximum_hole), by_scikit_image(mask, int(maximum_hole)))


@pytest.mark.parametrize('shape', [(0, 4, 5), (4, 0, 5), (4, 5, 0)])
def test_a_volume_without_voxels(shape):
    assert keep_liver(np.zeros(shape, np.uint8), 5).shape == shape


def test_only_holes_of_fewer_voxels_are_filled():
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[1:8, 1:8, 1:8] = 1
    mask[3, 3, 3:5] = 0  # a hole of 2
    assert keep_liver(mask, 2).sum() == 341  # 2 is not fewer than 2
    assert keep_liver(mask, 3).sum() == 343


def test_the_first_of_equal_components_is_kept():
    mask = np.zeros((5, 5, 9), np.uint8)
    mask[0, 3, 0:2] = 1  # smaller than both, and before them
    mask[1, 3, 5:8] = mask[1, 0, 6:9] = 1
    liver = keep_liver(mask, 1)
    assert liver[1, 0, 6:9].all() and liver.sum() == 3


def test_voxels_that_share_a_corner_are_not_connected():
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0, 0, 0:3] = mask[1, 1, 3] = 1
    assert keep_liver(mask, 1).sum() == 3


def test_a_small_volume_does_not_become_all_liver():
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[4:10, 4:10, 4:10] = 1
    assert keep_liver(mask, 5e4).sum() == 216


@pytest.mark.parametrize(
    'mask', [np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8), np.zeros((3, 4, 5), bool)]
)
def test_empty_and_full_masks_are_unchanged(mask):
    assert keep_liver(mask, 5).dtype == np.uint8
    np.testing.assert_array_equal(keep_liver(mask, 5), mask)


def test_a_2d_mask_is_refused():
    with pytest.raises(ValueError, match='3D'):
        keep_liver(np.ones((3, 4)), 5)
