"""The parts of the grid engine against numpy and scipy; its threads."""

import numpy as np
import pytest
from scipy import ndimage

from Densecrf import grid
from Densecrf.crf_settings import CrfSettings
from tests.Densecrf.test_crf import DEFAULTS, brute_force, scene

RNG = np.random.default_rng(0)


def random(*shape):
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
    levels = np.float32(-200), np.float32(1 / 10), np.int32(39), np.uint32(44)
    x = np.arange(n) / 7
    corner, part_x = (x.astype(int) * 44).astype(np.uint32), (x % 1).astype(np.float32)
    cell, part_v, out = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.float32)
    grid._locate(image, levels, corner, cell, part_v)
    line, values, into = random(8, 44), random(n), np.zeros((8, 44), np.float32)
    grid._slice(line.ravel(), cell, part_x, part_v, np.uint32(44), out)
    np.testing.assert_allclose(
        out, ndimage.map_coordinates(line, [x, (image + 200) / 10], order=1, prefilter=False), rtol=1e-4
    )
    grid._splat(values, cell, part_x, part_v, np.uint32(44), into.reshape(-1))
    assert (into * line).sum() == pytest.approx((values * out).sum(), rel=1e-5)
    assert into.sum() == pytest.approx(values.sum(), rel=1e-5)


def test_mix_and_share_are_transposes():
    first, second, source, out = random(4, 50)
    grid._mix(first, second, np.float32(0.3), out)
    np.testing.assert_allclose(out, 0.7 * first + 0.3 * second, rtol=1e-5)
    a, b = np.zeros((2, 50), np.float32)
    grid._share(source, np.float32(0.3), a, b)
    np.testing.assert_allclose([a, b], [0.7 * source, 0.3 * source], rtol=1e-5)


@pytest.mark.parametrize('shape', [(7, 9, 10), (1, 30, 3), (4, 1, 1), (2, 90, 80)])
@pytest.mark.parametrize('s1', [0.2, 1, 2.5])
def test_gaussian(shape, s1):
    p = random(*shape)
    taps = tuple(grid._taps(s1, n) for n in shape)
    wanted = p.astype(float)
    for axis, half in enumerate(taps):
        wanted = ndimage.correlate1d(wanted, np.concatenate([half[:0:-1], half]).astype(float), axis, mode='constant')
    for z in range(shape[0]):
        out = np.empty((shape[1], shape[2] + len(taps[2]) - 1), np.float32)
        grid._gaussian(p, z, taps, out)
        np.testing.assert_allclose(out[:, : shape[2]], wanted[z], rtol=1e-5)


@pytest.mark.parametrize('intervals', [1, 3])
def test_blur(intervals):
    sums, taps = (
        random(intervals, 2, 5, 6, 12),
        tuple(grid._taps(s, n) for s, n in ((0.8, 4), (1.2, 5), (0.8, 6), (0.7, 10))),
    )
    sums[..., 10:] = 0  # the gap between the lines
    whole = np.zeros((intervals + 1, 5, 6, 12))
    whole[:-1] += sums[:, 0]
    whole[1:] += sums[:, 1]
    for axis, half in enumerate(taps):
        whole = ndimage.correlate1d(whole, np.concatenate([half[:0:-1], half]).astype(float), axis, mode='constant')
    for k in range(intervals + 1):
        out = np.empty((5, 72), np.float32)
        grid._blur(sums.reshape(intervals, 2, 5, 72), k, taps, 12, out)
        np.testing.assert_allclose(out.reshape(5, 6, 12)[..., :10], whole[k, ..., :10], rtol=1e-5)


@pytest.mark.parametrize('sigma', [0.3, 1, 3, 10])
def test_axis_covers_all_voxels(sigma):
    for n in range(1, 60):
        nodes, interval, part, taps = grid._axis(n, sigma, 0.5)
        assert (
            nodes >= 2 and interval.min() == 0 and interval.max() <= nodes - 2 and part.min() >= 0 and part.max() <= 1
        )
        np.testing.assert_allclose((interval + part) * max(n - 1, 1) / (nodes - 1), np.arange(n), atol=1e-5)
        assert taps[0] == 1 and len(taps) <= nodes and (np.diff(taps) < 0).all()


@pytest.mark.parametrize('free', [10_000, 6_000, 4_000])
def test_coarser_cells_where_there_would_be_too_many(free, monkeypatch):
    image, mask = scene((9, 12, 11), 0)
    monkeypatch.setattr(grid, 'FREE_CELLS', free)
    monkeypatch.setattr(grid, 'MOST_CELLS', 0)
    refined = grid.refine_by_grid(image, mask > 0, CrfSettings(1, 3, 10, 20), 3)
    assert (refined == brute_force(image, mask, 1, 3, 10, 20)).mean() >= 0.99


@pytest.mark.parametrize('dimensions', [2, 3])
def test_number_of_threads_changes_nothing(dimensions, monkeypatch):
    image, mask = scene((33, 20, 21), 1, contrast=30)
    results = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(grid.machine, 'limit', threads)
        settings = [CrfSettings(*DEFAULTS, max_iter) for max_iter in (1, 3, 20)]
        results.append([grid.refine_by_grid(image, mask > 0, each, dimensions) for each in settings])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
