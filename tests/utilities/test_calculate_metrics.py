"""Metrics: recorded figures, a pencil, brute force, empty masks."""
import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from tests.reference import recipe
from utilities.calculate_metrics import calculate_metrics

KEYS = {'dice', 'jaccard', 'voe', 'rvd', 'fnr', 'fpr', 'assd', 'rmsd', 'msd', 'hd95', 'surface_dice', 'volume_ml'}


def test_recorded_figures(recorded):
    ours = calculate_metrics(*recipe.masks())
    assert set(ours) == KEYS
    for name, value in recorded[0]['metrics'].items():
        assert ours[name] == pytest.approx(value, rel=1e-6), name


def one(*index):
    mask = np.zeros((7, 8, 9), np.uint8)
    mask[index] = 1
    return mask


def test_two_voxels_with_a_pencil():
    """Reference #29: spacing is (x, y, z), arrays are (z, y, x)."""
    for second, distance in (((1, 1, 4), 3 * 0.5), ((1, 4, 1), 3 * 2), ((4, 1, 1), 3 * 7)):
        metrics = calculate_metrics(one(1, 1, 1), one(*second), (0.5, 2, 7))
        assert [metrics[k] for k in ('assd', 'rmsd', 'msd', 'hd95')] == pytest.approx([distance] * 4)
        assert metrics['surface_dice'] == (distance <= 2) and metrics['dice'] == 0
        assert metrics['volume_ml'] == pytest.approx(0.007)


@pytest.mark.parametrize('spacing, tolerance', [((0.1, 1, 1), 0.4), ((0.2, 1, 1), 0.8), ((0.3, 1, 1), 1.2), ((0.7, 1, 1), 2.8)])
def test_a_distance_equal_to_the_tolerance_is_within_it(spacing, tolerance):
    metrics = calculate_metrics(one(1, 1, 1), one(1, 1, 5), spacing, tolerance)
    assert metrics['msd'] == pytest.approx(tolerance) and metrics['surface_dice'] == 1
    assert calculate_metrics(one(1, 1, 1), one(1, 1, 5), spacing, tolerance * 0.9999)['surface_dice'] == 0


def test_overlap_with_a_pencil():
    real, predicted = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    real[0, 0, :4] = 1  # 4 voxels
    predicted[0, 0, 1:4] = predicted[0, 1, 0:3] = 1  # 6, of which 3 shared; union 7
    metrics = calculate_metrics(real, predicted, (1, 1, 1))
    assert metrics['dice'] == pytest.approx(0.6) and metrics['jaccard'] == pytest.approx(3 / 7)
    assert metrics['fnr'] == pytest.approx(1 / 7) and metrics['fpr'] == pytest.approx(3 / 7)
    assert metrics['rvd'] == pytest.approx(0.5)
    assert calculate_metrics(predicted, real, (1, 1, 1))['rvd'] == pytest.approx(-1 / 3)  # unsigned, this overflowed


@pytest.mark.parametrize('seed', range(4))
def test_surface_distances_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    real, predicted = (ndimage.gaussian_filter(rng.random((12, 20, 18)), 1.5) > 0.5 for _ in range(2))
    spacing, points = (0.7, 1.1, 2.5), []
    for mask in (real, predicted):
        core = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 2))
        points.append(np.argwhere(mask & ~core) * spacing[::-1])
    there, back = cKDTree(points[1]).query(points[0])[0], cKDTree(points[0]).query(points[1])[0]
    both = np.concatenate([there, back])
    wanted = dict(assd=both.mean(), rmsd=np.sqrt((both ** 2).mean()), msd=both.max(),
                  hd95=max(np.percentile(there, 95), np.percentile(back, 95)), surface_dice=(both <= 1.5).mean())
    ours = calculate_metrics(real, predicted.astype(np.int32) * 255, spacing, tolerance=1.5)
    for name, value in wanted.items():
        assert ours[name] == pytest.approx(value, rel=1e-6), name


def test_empty_masks():
    empty, full = np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8)
    both = calculate_metrics(empty, empty, (1, 1, 1))
    assert both['dice'] == both['jaccard'] == both['surface_dice'] == 1
    assert all(both[k] == 0 for k in KEYS - {'dice', 'jaccard', 'surface_dice'})
    for real, predicted, rvd in ((full, empty, -1), (empty, full, math.inf)):
        one_empty = calculate_metrics(real, predicted, (1, 1, 1))
        assert one_empty['dice'] == one_empty['jaccard'] == one_empty['surface_dice'] == 0
        assert one_empty['voe'] == 1 and one_empty['rvd'] == rvd and one_empty['assd'] == one_empty['hd95'] == math.inf
    same = calculate_metrics(full, full, (1, 1, 1))
    assert same['dice'] == 1 and same['msd'] == 0


@pytest.mark.parametrize('arguments', [((3, 4, 5), (3, 4, 6), (1, 1, 1)), ((4, 5), (4, 5), (1, 1, 1)), ((3, 4, 5), (3, 4, 5), (1, 1)),
                                       ((3, 4, 5), (3, 4, 5), (1, 0, 1)), ((3, 4, 5), (3, 4, 5), None),
                                       ((3, 4, 5), (3, 4, 5), (1, 'a', 1)), ((3, 4, 5), (3, 4, 5), (1, math.nan, 1))])
def test_errors(arguments):
    real, predicted, spacing = arguments
    with pytest.raises(ValueError, match='wanted'):
        calculate_metrics(np.ones(real), np.ones(predicted), spacing)
