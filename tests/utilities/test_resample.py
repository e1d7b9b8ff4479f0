"""Spline zoom: scipy's grid and values, rounding, edges."""
import numpy as np
import pytest
from scipy import ndimage

from utilities.resample import resize, zoom

RNG = np.random.default_rng(3)


@pytest.mark.parametrize('order', [0, 1, 3])
@pytest.mark.parametrize('factors', [(1.5, 0.5, 0.5), (0.4, 1, 1), (1, 0.5, 0.5), (2.2, 1.3, 0.7)])
def test_agrees_with_scipy(factors, order):
    array = RNG.normal(0, 100, (11, 18, 13)).astype(np.float32)
    wanted = ndimage.zoom(array, factors, order=order)
    ours = zoom(array, factors, order)
    assert ours.shape == wanted.shape == tuple(round(n * f) for n, f in zip(array.shape, factors))
    np.testing.assert_allclose(ours, wanted, atol=1e-3)


def test_no_zero_at_the_far_end():
    """A last coordinate that rounding moves past the last sample must not read as outside."""
    for n in range(2, 40):
        for m in range(2, 90):
            ones = resize(np.ones(n, np.float32), (m,), 1)
            assert len(ones) == m and (ones > 0.999).all()


def test_integers_are_rounded_in_their_type():
    array = RNG.integers(-200, 200, (8, 8, 8)).astype(np.int16)
    ours = zoom(array, (2, 0.5, 0.5), 3)
    exact = zoom(array.astype(np.float64), (2, 0.5, 0.5), 3)
    assert ours.dtype == np.int16 and np.abs(ours - exact).max() <= 0.5 + 1e-9


def test_a_shape_that_stays_is_not_touched():
    array = RNG.normal(size=(4, 5, 6))
    assert zoom(array, (1, 1, 1), 3) is array and zoom(array, (1.05, 1, 0.99), 3) is array


def test_end_points_stay():
    array = np.linspace(-3, 5, 10)
    ours = zoom(array, [2.3], 3)
    assert (ours[0], ours[-1]) == pytest.approx((-3, 5))


@pytest.mark.parametrize('factors', [(1, 1), (0, 1, 1), (-1, 1, 1), (np.nan, 1, 1), (0.01, 1, 1)])
def test_errors(factors):
    with pytest.raises(ValueError, match='factors'):
        zoom(np.zeros((4, 4, 4)), factors, 1)
