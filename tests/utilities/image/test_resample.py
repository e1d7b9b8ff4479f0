"""Spline zoom: grid and values compared with scipy; rounding, types and edges."""

import numpy as np
import pytest
from scipy import ndimage

from utilities.image.resample import zoom

RNG = np.random.default_rng(3)


def resize(array, shape, order):
    return zoom(array, np.divide(shape, array.shape), order)


@pytest.mark.parametrize('order', [0, 1, 3])
@pytest.mark.parametrize('factors', [(1.5, 0.5, 0.5), (0.4, 1, 1), (1, 0.5, 0.5), (2.2, 1.3, 0.7)])
def test_agrees_with_scipy(factors, order):
    array = RNG.normal(0, 100, (11, 18, 13)).astype(np.float32)
    wanted = ndimage.zoom(array, factors, order=order)
    ours = zoom(array, factors, order)
    assert ours.shape == wanted.shape == tuple(round(n * f) for n, f in zip(array.shape, factors))
    np.testing.assert_allclose(ours, wanted, atol=1e-3)


def test_no_zero_at_the_last_sample():
    """A last coordinate that rounding moves past the last sample must not count as outside."""
    for old_length in range(2, 40):
        for new_length in range(2, 90):
            ones = resize(np.ones(old_length, np.float32), (new_length,), 1)
            assert len(ones) == new_length and (ones > 0.999).all()


def test_integers_are_rounded():
    array = RNG.integers(-200, 200, (8, 8, 8)).astype(np.int16)
    ours = zoom(array, (2, 0.5, 0.5), 3)
    exact = zoom(array.astype(np.float64), (2, 0.5, 0.5), 3)
    assert ours.dtype == np.int16 and np.abs(ours - exact).max() <= 0.5 + 1e-9


def test_an_array_whose_shape_does_not_change_is_returned_itself():
    array = RNG.normal(size=(4, 5, 6))
    assert zoom(array, (1, 1, 1), 3) is array and zoom(array, (1.05, 1, 0.99), 3) is array


def test_end_points_keep_their_values():
    array = np.linspace(-3, 5, 10)
    ours = zoom(array, [2.3], 3)
    assert (ours[0], ours[-1]) == pytest.approx((-3, 5))


@pytest.mark.parametrize('factors', [(1, 1), (0, 1, 1), (-1, 1, 1), (np.nan, 1, 1), (0.01, 1, 1)])
def test_wrong_factors_are_refused(factors):
    with pytest.raises(ValueError, match='factors'):
        zoom(np.zeros((4, 4, 4)), factors, 1)


@pytest.mark.parametrize('order', [0, 1, 3])
@pytest.mark.parametrize(
    'old, new', [((1, 5, 5), (3, 5, 4)), ((1, 1, 1), (2, 3, 1)), ((2, 2, 2), (5, 1, 2)), ((40, 1, 70), (90, 1, 33))]
)
def test_axes_of_one_or_two_voxels_agree_with_scipy(old, new, order):
    array = RNG.normal(0, 100, old).astype(np.float32)
    np.testing.assert_allclose(
        resize(array, new, order),
        ndimage.zoom(array, [n / o for n, o in zip(new, old)], order=order, mode='mirror'),
        atol=1e-3,
    )


@pytest.mark.parametrize('dtype', [np.int16, np.uint8, np.float32, np.float64])
def test_a_constant_stays_constant(dtype):
    ours = zoom(np.full((20, 30, 40), 200, dtype), (1.7, 0.5, 0.3), 3)
    assert ours.dtype == dtype and np.abs(ours - 200.0).max() < 1e-3


def test_overshoot_is_clipped_to_the_range_of_the_type():
    steps = np.repeat(np.array([0, 255, 0, 255], np.uint8), 8)
    ours = zoom(steps, [2.7], 3)
    exact = np.clip(np.rint(zoom(steps.astype(float), [2.7], 3)), 0, 255)
    assert exact.min() == 0 and exact.max() == 255
    np.testing.assert_array_equal(ours, exact)


@pytest.mark.parametrize('factors', [(1.5, 0.5, 0.5), (1, 0.5, 1), (2, 1, 1), (1, 1, 1)])
def test_integers_resampled_to_float_are_not_rounded(factors):
    array = RNG.integers(-200, 200, (9, 10, 12)).astype(np.int16)
    ours = zoom(array, factors, 3, np.float32)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, ndimage.zoom(array.astype(float), factors, order=3), atol=1e-3)


def test_float64_is_computed_in_float64():
    array = RNG.normal(0, 100, (30, 41, 22))
    np.testing.assert_allclose(
        zoom(array, (1.4, 0.5, 0.7), 3), ndimage.zoom(array, (1.4, 0.5, 0.7), order=3), atol=1e-5
    )
