"""Surface voxels against scipy's erosion, distances against scipy's KD-tree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from scipy.spatial import KDTree

from utilities.image.surfaces import LEAF, SurfaceTree, nearest_distances, surface_voxels, z_order


def surface_by_erosion(mask):
    return np.argwhere(mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 2)))


@settings(deadline=None, max_examples=200)
@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.booleans(), fill=st.just(True)))
def test_surface_agrees_with_scipy(mask):
    np.testing.assert_array_equal(surface_voxels(mask.view(np.uint8)), surface_by_erosion(mask))


@pytest.mark.parametrize('shape', [(5, 6, 7), (1, 6, 7), (5, 1, 7), (5, 6, 1), (2, 2, 2), (4, 5, 70)])
def test_a_full_volume_has_its_faces_as_surface(shape):
    full = np.full(shape, 255, np.uint8)
    full[::2] = 2  # Any bit of a voxel may be set, and a different one in its neighbour.
    interior = np.prod([max(n - 2, 0) for n in shape])
    assert len(surface_voxels(full)) == full.size - interior
    np.testing.assert_array_equal(surface_voxels(full), surface_by_erosion(full > 0))


def test_a_voxel_that_shares_only_a_corner_is_no_neighbour():
    """Of the 26 voxels around a hole, the 18 that share a face or an edge with it are surface voxels."""
    mask = np.ones((7, 7, 7), np.uint8)
    mask[3, 3, 3] = 0
    inside = [tuple(v) for v in surface_voxels(mask) if 0 < v.min() and v.max() < 6]
    assert len(inside) == 18 and (2, 2, 2) not in inside and (2, 2, 3) in inside


def assert_agrees_with_kd_tree(a, b, spacing):
    """Compare the distances from a to b, and from b to a, with those of scipy's KD-tree."""
    for one, other in ((a, b), (b, a)):
        ours = np.empty(len(one))
        ours[np.argsort(z_order(one))] = nearest_distances(SurfaceTree(one, spacing), SurfaceTree(other, spacing))
        np.testing.assert_allclose(ours, KDTree(other * spacing).query(one * spacing)[0], rtol=1e-9, atol=0)


def random_voxels(rng, n, high):
    return np.unique(rng.integers(0, high, (n, 3)), axis=0).astype(np.int32)


@pytest.mark.parametrize('n', [1, 2, LEAF - 1, LEAF, LEAF + 1, 3 * LEAF, 5 * LEAF + 3, 1000])
@pytest.mark.parametrize('spacing', [(1, 1, 1), (5, 0.7, 0.7), (0.03, 2, 11)])
def test_distances_agree_with_a_kd_tree(n, spacing):
    rng = np.random.default_rng(n)
    assert_agrees_with_kd_tree(random_voxels(rng, n, (30, 40, 50)), random_voxels(rng, 200, (30, 40, 50)), spacing)


def test_far_islands():
    rng = np.random.default_rng(0)
    body = random_voxels(rng, 3000, 40) + np.int32([480, 200, 200])
    islands = np.concatenate(
        [random_voxels(rng, 20, 4) + rng.integers(0, (1020, 500, 500), 3, np.int32) for _ in range(50)]
    )
    assert_agrees_with_kd_tree(
        np.unique(np.concatenate([body + np.int32([1, -2, 0]), islands]), axis=0), body, (1.0, 0.7, 0.75)
    )


def test_many_targets_at_the_same_distance():
    """Each voxel of a line has four nearest voxels around it."""
    line = np.stack([np.arange(100), np.full(100, 50), np.full(100, 50)], 1).astype(np.int32)
    cross = np.concatenate([line + np.int32([0, dy, dx]) for dy, dx in ((0, 30), (0, -30), (30, 0), (-30, 0))])
    assert_agrees_with_kd_tree(line, cross, (2, 1, 1))
    np.testing.assert_array_equal(
        nearest_distances(SurfaceTree(line, (2, 1, 1)), SurfaceTree(cross, (2, 1, 1))), np.full(100, 30.0)
    )


def test_identical_surfaces_have_distance_0():
    voxels = random_voxels(np.random.default_rng(1), 500, 20)
    assert not nearest_distances(SurfaceTree(voxels, (1, 2, 3)), SurfaceTree(voxels, (1, 2, 3))).any()
