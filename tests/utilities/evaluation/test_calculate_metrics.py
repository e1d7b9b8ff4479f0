"""Metrics compared with recorded figures, values by hand and a KD-tree; empty masks."""

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import KDTree

from tests.reference import recipe
from utilities.evaluation.calculate_metrics import calculate_metrics, count_voxels, metrics_against

METRICS = {'dice', 'jaccard', 'voe', 'rvd', 'fnr', 'fpr', 'assd', 'rmsd', 'msd', 'hd95', 'surface_dice', 'volume_ml'}


def test_recorded_figures(recorded):
    ours = calculate_metrics(*recipe.masks())
    assert set(ours) == METRICS
    for name, value in recorded[0]['metrics'].items():
        assert ours[name] == pytest.approx(value, rel=1e-6), name


def one_voxel(*index):
    mask = np.zeros((7, 8, 9), np.uint8)
    mask[index] = 1
    return mask


def test_two_voxels_by_hand():
    """Reference #29: spacing is (x, y, z), arrays are (z, y, x)."""
    for second, distance in (((1, 1, 4), 3 * 0.5), ((1, 4, 1), 3 * 2), ((4, 1, 1), 3 * 7)):
        metrics = calculate_metrics(one_voxel(1, 1, 1), one_voxel(*second), (0.5, 2, 7))
        assert [metrics[name] for name in ('assd', 'rmsd', 'msd', 'hd95')] == pytest.approx([distance] * 4)
        assert metrics['surface_dice'] == (distance <= 2) and metrics['dice'] == 0
        assert metrics['volume_ml'] == pytest.approx(0.007)


@pytest.mark.parametrize(
    'spacing, tolerance', [((0.1, 1, 1), 0.4), ((0.2, 1, 1), 0.8), ((0.3, 1, 1), 1.2), ((0.7, 1, 1), 2.8)]
)
def test_a_distance_equal_to_the_tolerance_is_within_it(spacing, tolerance):
    metrics = calculate_metrics(one_voxel(1, 1, 1), one_voxel(1, 1, 5), spacing, tolerance)
    assert metrics['msd'] == pytest.approx(tolerance) and metrics['surface_dice'] == 1
    assert calculate_metrics(one_voxel(1, 1, 1), one_voxel(1, 1, 5), spacing, tolerance * 0.9999)['surface_dice'] == 0


def test_overlap_by_hand():
    real, predicted = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    real[0, 0, :4] = 1  # 4 voxels
    predicted[0, 0, 1:4] = predicted[0, 1, 0:3] = 1  # 6, of which 3 are shared; the union has 7
    metrics = calculate_metrics(real, predicted, (1, 1, 1))
    assert metrics['dice'] == pytest.approx(0.6) and metrics['jaccard'] == pytest.approx(3 / 7)
    assert metrics['fnr'] == pytest.approx(1 / 7) and metrics['fpr'] == pytest.approx(3 / 7)
    assert metrics['rvd'] == pytest.approx(0.5)
    assert calculate_metrics(predicted, real, (1, 1, 1))['rvd'] == pytest.approx(
        -1 / 3
    )  # In the reference this overflowed, unsigned.


def by_kd_tree(real, predicted, spacing, tolerance):
    """Compute all metrics from whole volumes, as the reference does."""
    real, predicted, points = real != 0, predicted != 0, []
    for mask in (real, predicted):
        interior = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 2))
        points.append(np.argwhere(mask & ~interior) * spacing[::-1])
    real_to_predicted, predicted_to_real = KDTree(points[1]).query(points[0])[0], KDTree(points[0]).query(points[1])[0]
    pooled = np.concatenate([real_to_predicted, predicted_to_real])
    shared, union = (real & predicted).sum(), (real | predicted).sum()
    return dict(
        dice=2 * shared / (real.sum() + predicted.sum()),
        jaccard=shared / union,
        voe=1 - shared / union,
        rvd=(int(predicted.sum()) - int(real.sum())) / real.sum(),
        fnr=(real & ~predicted).sum() / union,
        fpr=(predicted & ~real).sum() / union,
        assd=pooled.mean(),
        rmsd=np.sqrt((pooled**2).mean()),
        msd=pooled.max(),
        hd95=max(np.percentile(real_to_predicted, 95), np.percentile(predicted_to_real, 95)),
        surface_dice=(pooled <= tolerance).mean(),
        volume_ml=predicted.sum() * np.prod(spacing) / 1000,
    )


def assert_agrees_with_kd_tree(real, predicted, spacing, tolerance=1.5):
    ours = calculate_metrics(real, predicted, spacing, tolerance)
    wanted = by_kd_tree(real, predicted, spacing, tolerance)
    assert set(ours) == set(wanted) == METRICS
    for name, value in wanted.items():
        assert ours[name] == pytest.approx(value, rel=1e-9, abs=0), name


def random_blobs(seed, shape=(12, 20, 18)):
    rng = np.random.default_rng(seed)
    return [ndimage.gaussian_filter(rng.random(shape), 1.5) > 0.5 for _ in range(2)]


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('spacing', [(0.7, 1.1, 2.5), (0.68, 0.68, 5), (1, 1, 1), (3, 0.01, 0.4)])
def test_agrees_with_a_kd_tree(seed, spacing):
    real, predicted = random_blobs(seed)
    # Both touch every face of the volume.
    assert all(mask.take(end, axis).any() for mask in (real, predicted) for axis in range(3) for end in (0, -1))
    assert_agrees_with_kd_tree(real, predicted.astype(np.int32) * 255, spacing)


@pytest.mark.parametrize('spacing', [(0.7, 0.75, 1.5), (1, 1, 1)])
def test_far_islands(spacing):
    real, predicted = np.zeros((300, 160, 150), np.uint8), np.zeros((300, 160, 150), np.uint8)
    real[140:164, 60:100, 50:86], predicted[141:165, 62:102, 50:86] = random_blobs(4, (24, 40, 36))
    for z, y, x in np.random.default_rng(4).integers(0, (298, 158, 148), (60, 3)):
        predicted[z : z + 3, y : y + 3, x : x + 3] = 1
    predicted[0, 0, 0] = predicted[-1, -1, -1] = 1
    assert_agrees_with_kd_tree(real, predicted, spacing)
    assert_agrees_with_kd_tree(predicted, real, spacing)


def test_one_voxel_and_the_whole_volume():
    for index in ((0, 0, 0), (6, 7, 8), (3, 0, 8), (3, 4, 4)):
        assert_agrees_with_kd_tree(one_voxel(*index), np.ones((7, 8, 9), np.uint8), (0.5, 2, 7))
        assert_agrees_with_kd_tree(np.ones((7, 8, 9), np.uint8), one_voxel(*index), (0.5, 2, 7))


@pytest.mark.parametrize('shape', [(1, 20, 30), (20, 1, 30), (20, 30, 1), (1, 1, 40), (2, 2, 2)])
def test_thin_volumes(shape):
    rng = np.random.default_rng(7)
    assert_agrees_with_kd_tree(rng.random(shape) < 0.5, rng.random(shape) < 0.5, (0.7, 1.1, 2.5))


def test_any_type_and_memory_order():
    real, predicted = random_blobs(5)
    wanted = calculate_metrics(real, predicted, (0.7, 1.1, 2.5))
    for convert in (
        lambda m: m.astype(np.uint8) * 2,
        lambda m: m.astype(np.float32) / 3,
        lambda m: m.astype(np.int64) * 256,
        np.asfortranarray,
        lambda m: np.repeat(m, 2, 2)[:, :, ::2],
        lambda m: m[:, ::-1].copy()[:, ::-1],
    ):
        given = convert(predicted)
        assert calculate_metrics(convert(real), given, (0.7, 1.1, 2.5)) == wanted
        np.testing.assert_array_equal(given != 0, predicted)


def test_several_predictions_at_once():
    real, predicted = random_blobs(6)
    masks = [predicted, real, ~predicted, np.zeros_like(real)]
    assert metrics_against(real, masks, (1, 2, 3), 1.0) == [
        calculate_metrics(real, mask, (1, 2, 3), 1.0) for mask in masks
    ]


def test_count_voxels():
    rng = np.random.default_rng(8)
    real, predicted = rng.random((3, 4, 300)) < 0.6, rng.random((3, 4, 300)) < 0.3
    assert count_voxels(real, predicted.astype(np.uint8) * 7) == (real.sum(), predicted.sum(), (real & predicted).sum())


def test_empty_masks():
    empty, full = np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8)
    both_empty = calculate_metrics(empty, empty, (1, 1, 1))
    assert both_empty['dice'] == both_empty['jaccard'] == both_empty['surface_dice'] == 1
    assert all(both_empty[name] == 0 for name in METRICS - {'dice', 'jaccard', 'surface_dice'})
    for real, predicted, rvd in ((full, empty, -1), (empty, full, math.inf)):
        one_empty = calculate_metrics(real, predicted, (1, 1, 1))
        assert one_empty['dice'] == one_empty['jaccard'] == one_empty['surface_dice'] == 0
        assert one_empty['voe'] == 1 and one_empty['rvd'] == rvd and one_empty['assd'] == one_empty['hd95'] == math.inf
    assert calculate_metrics(full[:0], full[:0], (1, 1, 1))['dice'] == 1
    same = calculate_metrics(full, full, (1, 1, 1))
    assert same['dice'] == 1 and same['msd'] == 0


@pytest.mark.parametrize(
    'arguments',
    [
        ((3, 4, 5), (3, 4, 6), (1, 1, 1)),
        ((4, 5), (4, 5), (1, 1, 1)),
        ((3, 4, 5), (3, 4, 5), (1, 1)),
        ((3, 4, 5), (3, 4, 5), (1, 0, 1)),
        ((3, 4, 5), (3, 4, 5), None),
        ((3, 4, 5), (3, 4, 5), (1, 'a', 1)),
        ((3, 4, 5), (3, 4, 5), (1, math.nan, 1)),
    ],
)
def test_wrong_shapes_and_spacings_are_refused(arguments):
    real, predicted, spacing = arguments
    with pytest.raises(ValueError, match='wanted'):
        calculate_metrics(np.ones(real), np.ones(predicted), spacing)
