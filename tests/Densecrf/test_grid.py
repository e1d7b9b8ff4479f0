"""Kernels of the grid engine against numpy and scipy; the size of its grid; its threads."""

import numpy as np
import pytest
from scipy import ndimage

from Densecrf import grid
from Densecrf.crf_settings import CrfSettings
from tests.Densecrf.test_crf import DEFAULTS, brute_force, scene
from utilities.base import environment

RNG = np.random.default_rng(0)


def random_array(*shape):
    return RNG.random(shape, np.float32)


def test_tanh():
    values = np.concatenate([np.linspace(-12, 12, 100_001), [0, 1e-30, -1e30, 1e30]]).astype(np.float32)
    wanted = np.tanh(values.astype(float))
    grid._tanh(values)
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-6)
    assert abs(values).max() <= 1


@pytest.mark.parametrize('n', [1, 2, 5, 40])
def test_splat_and_slice_are_transposes_and_interpolate(n):
    image = RNG.integers(-200, 201, n).astype(np.int16)
    intensity = grid.IntensityAxis(np.float32(-200), np.float32(1 / 10), np.int32(39), np.uint32(44))
    x = np.arange(n) / 7
    x_offset, x_fraction = (x.astype(int) * 44).astype(np.uint32), (x % 1).astype(np.float32)
    offset, v_fraction, out = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.float32)
    grid._locate(image, intensity, x_offset, offset, v_fraction)
    grid_row, values, splatted = random_array(8, 44), random_array(n), np.zeros((8, 44), np.float32)
    grid._slice(grid_row.ravel(), offset, x_fraction, v_fraction, np.uint32(44), out)
    np.testing.assert_allclose(
        out, ndimage.map_coordinates(grid_row, [x, (image + 200) / 10], order=1, prefilter=False), rtol=1e-4
    )
    grid._splat(values, offset, x_fraction, v_fraction, np.uint32(44), splatted.reshape(-1))
    assert (splatted * grid_row).sum() == pytest.approx((values * out).sum(), rel=1e-5)
    assert splatted.sum() == pytest.approx(values.sum(), rel=1e-5)


def test_interpolate_and_distribute_are_transposes():
    first, second, source, out = random_array(4, 50)
    grid._interpolate(first, second, np.float32(0.3), out)
    np.testing.assert_allclose(out, 0.7 * first + 0.3 * second, rtol=1e-5)
    a, b = np.zeros((2, 50), np.float32)
    grid._distribute(source, np.float32(0.3), a, b)
    np.testing.assert_allclose([a, b], [0.7 * source, 0.3 * source], rtol=1e-5)


@pytest.mark.parametrize('shape', [(7, 9, 10), (1, 30, 3), (4, 1, 1), (2, 90, 80)])
@pytest.mark.parametrize('s1', [0.2, 1, 2.5])
def test_smooth_slice(shape, s1):
    p = random_array(*shape)
    half_kernels = tuple(grid._half_gaussian(s1, n) for n in shape)
    wanted = p.astype(float)
    for axis, half in enumerate(half_kernels):
        wanted = ndimage.correlate1d(wanted, np.concatenate([half[:0:-1], half]).astype(float), axis, mode='constant')
    for z in range(shape[0]):
        out = np.empty((shape[1], shape[2] + len(half_kernels[2]) - 1), np.float32)
        grid._smooth_slice(p, z, half_kernels, out)
        np.testing.assert_allclose(out[:, : shape[2]], wanted[z], rtol=1e-5)


@pytest.mark.parametrize('intervals', [1, 3])
def test_blur_plane(intervals):
    sums, half_kernels = (
        random_array(intervals, 2, 5, 6, 12),
        tuple(grid._half_gaussian(s, n) for s, n in ((0.8, 4), (1.2, 5), (0.8, 6), (0.7, 10))),
    )
    sums[..., 10:] = 0  # the zeros that end each line along v
    whole = np.zeros((intervals + 1, 5, 6, 12))
    whole[:-1] += sums[:, 0]
    whole[1:] += sums[:, 1]
    for axis, half in enumerate(half_kernels):
        whole = ndimage.correlate1d(whole, np.concatenate([half[:0:-1], half]).astype(float), axis, mode='constant')
    for k in range(intervals + 1):
        out = np.empty((5, 72), np.float32)
        grid._blur_plane(sums.reshape(intervals, 2, 5, 72), k, half_kernels, 12, out)
        np.testing.assert_allclose(out.reshape(5, 6, 12)[..., :10], whole[k, ..., :10], rtol=1e-5)


@pytest.mark.parametrize('sigma', [0.3, 1, 3, 10])
def test_axis_covers_all_voxels(sigma):
    for n in range(1, 60):
        nodes, cell, fraction, half_kernel = grid._make_axis(n, sigma, 0.5)
        assert nodes >= 2 and cell.min() == 0 and cell.max() <= nodes - 2
        assert fraction.min() >= 0 and fraction.max() <= 1
        np.testing.assert_allclose((cell + fraction) * max(n - 1, 1) / (nodes - 1), np.arange(n), atol=1e-5)
        assert half_kernel[0] == 1 and len(half_kernel) <= nodes and (np.diff(half_kernel) < 0).all()


@pytest.mark.parametrize('free', [10_000, 6_000, 4_000])
def test_cells_are_coarser_if_there_would_be_too_many(free, monkeypatch):
    image, mask = scene((9, 12, 11), 0)
    monkeypatch.setattr(grid, 'FREE_CELLS', free)
    monkeypatch.setattr(grid, 'MAX_CELLS_PER_VOXEL', 0)
    refined = grid.refine_by_grid(image, mask > 0, CrfSettings(1, 3, 10, 20), 3)
    assert (refined == brute_force(image, mask, 1, 3, 10, 20)).mean() >= 0.99


@pytest.mark.parametrize('dimensions', [2, 3])
def test_number_of_threads_changes_nothing(dimensions, monkeypatch):
    image, mask = scene((33, 20, 21), 1, contrast=30)
    results = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(environment, 'thread_limit', threads)
        settings = [CrfSettings(*DEFAULTS, max_iter) for max_iter in (1, 3, 20)]
        results.append([grid.refine_by_grid(image, mask > 0, each, dimensions) for each in settings])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
