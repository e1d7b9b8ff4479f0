"""Both engines of the dense CRF against brute force, its box, its empty and odd cases."""

import numpy as np
import pytest

from Densecrf.crf import dense_crf, refine
from utilities.base.errors import InputError
from utilities.image.bounding_box import grown_box

ENGINES = ['grid', 'pydensecrf']
DEFAULTS = 1, 10, 10


def brute_force(image, mask, s1, s2, s3, max_iter):
    """Mean field over all pairs of voxels, in float64, straight from the energy (Kraehenbuehl and Koltun 2011)."""
    places = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing='ij'), -1).reshape(-1, mask.ndim).astype(float)
    values = image.reshape(-1, 1).astype(float)

    def kernel(features):
        k = np.exp(-0.5 * sum((f[:, None] - f) ** 2 for f in features.T))
        norm = 1 / np.sqrt(k.sum(1))
        return norm[:, None] * k * norm

    kernels = 3 * kernel(places / s1) + 10 * kernel(np.hstack([places / s2, values / s3]))
    liver = np.where(mask.ravel(), 0.9, 0.1)
    unary = -np.log(np.stack([1 - liver, liver], 1))
    q = np.exp(-unary) / np.exp(-unary).sum(1, keepdims=True)
    for _ in range(max_iter):
        logit = -unary + kernels @ q  # Potts: agreement is rewarded, up to a constant
        q = np.exp(logit - logit.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    return (q[:, 1] > q[:, 0]).reshape(mask.shape)


def scene(shape, seed, contrast=80, noise=8):
    """A bright blob in noise and a mask that is off by two voxels; along axes of up to 4 voxels all is alike."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*map(np.arange, shape), indexing='ij')
    sizes = [n for n in shape if n > 4]
    radius = np.sqrt(sum((g - n / 2) ** 2 for g, n in zip(grid, shape) if n > 4))
    image = np.where(radius < min(sizes) / 3, 20 + contrast, 20) + rng.normal(0, noise, shape)
    return image.astype(np.int16), np.roll(radius < min(sizes) / 3 + 1, 2, -1).astype(np.uint8)


def need(engine):
    if engine == 'pydensecrf':
        pytest.importorskip('pydensecrf', reason='pydensecrf was not built')


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('shape', [(1, 24, 26), (10, 12, 11)])
@pytest.mark.parametrize('seed', [0, 1])
def test_agrees_with_brute_force(shape, seed, engine):
    need(engine)
    image, mask = scene(shape, seed)
    wanted = brute_force(image, mask, *DEFAULTS, 20)
    ours = dense_crf(image, mask, *DEFAULTS, 20, engine)
    assert (wanted != mask).mean() > 0.01  # the CRF has something to do
    assert (ours == wanted).mean() >= 0.99  # lattice and grid are approximations


SHAPES = [(10, 12, 11), (14, 15, 13), (3, 22, 24), (24, 26, 2), (1, 30, 31), (28, 1, 30)]


@pytest.mark.parametrize(
    's1, s2, s3', [DEFAULTS, (1, 3, 20), (2, 4, 15), (0.6, 6, 12), (1, 30, 8), (1, 1, 40), (5, 50, 500)]
)
def test_grid_is_as_close_to_brute_force_as_pydensecrf(s1, s2, s3):
    need('pydensecrf')
    errors = dict.fromkeys(ENGINES, 0)
    for shape in SHAPES:
        for seed, contrast in ((0, 60), (1, 45)):
            image, mask = scene(shape, seed, contrast, noise=12)
            wanted = brute_force(image, mask, s1, s2, s3, 20)
            for engine in ENGINES:
                errors[engine] += (dense_crf(image, mask, s1, s2, s3, 20, engine) != wanted).sum()
    assert errors['grid'] <= errors['pydensecrf']


@pytest.mark.parametrize('engine', ENGINES)
def test_slices_are_fields_of_their_own(engine):
    need(engine)
    image, mask = scene((5, 24, 26), 3)
    mask[1] = 0
    refined = dense_crf(image, mask, *DEFAULTS, 20, engine, dimensions=2)
    assert refined.dtype == np.uint8 and not refined[1].any()
    for z in (0, 2, 3, 4):
        assert (refined[z] == brute_force(image[z], mask[z], *DEFAULTS, 20)).mean() >= 0.99
        np.testing.assert_array_equal(
            refined[z : z + 1], dense_crf(image[z : z + 1], mask[z : z + 1], *DEFAULTS, 20, engine, dimensions=2)
        )


@pytest.mark.parametrize('shape', [(1, 1, 1), (1, 1, 20), (20, 1, 1), (1, 12, 2), (2, 2, 2), (6, 7, 8)])
def test_constant_and_tiny_images(shape):
    image = np.full(shape, -200, np.int16)
    whole, third = np.ones(shape, np.uint8), np.zeros(shape, np.uint8)
    third.ravel()[: (third.size + 2) // 3] = 1
    for mask in (whole, third):
        np.testing.assert_array_equal(dense_crf(image, mask, *DEFAULTS, 20), brute_force(image, mask, *DEFAULTS, 20))
        refined = dense_crf(image, mask, *DEFAULTS, 20, dimensions=2)
        for z in np.flatnonzero(mask.any((1, 2))):
            np.testing.assert_array_equal(refined[z], brute_force(image[z], mask[z], *DEFAULTS, 20))


@pytest.mark.parametrize('engine', ENGINES)
def test_how_the_array_is_stored_does_not_matter(engine):
    need(engine)
    image, mask = scene((8, 14, 15), 4)
    image[:, :3] = 3000  # far outside of the window
    wanted = dense_crf(image, mask, *DEFAULTS, 5, engine)
    room = np.zeros((10, 20, 40), np.int16)
    room[1:9, 2:16, 3:33:2] = image
    for other in (
        np.asfortranarray(image),
        image.astype('>i2'),
        image.astype(np.int64),
        image.astype(np.float32),
        image.astype(float),
        room[1:9, 2:16, 3:33:2],
    ):
        np.testing.assert_array_equal(dense_crf(other, mask, *DEFAULTS, 5, engine), wanted)
    for other in (mask.astype(bool), mask * 7.5, np.asfortranarray(mask), mask[::-1].copy()[::-1]):
        np.testing.assert_array_equal(dense_crf(image, other, *DEFAULTS, 5, engine), wanted)


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('dimensions', [2, 3])
def test_tolerance_stops_after_the_iteration_that_changes_little(dimensions, engine):
    need(engine)
    image, mask = scene((4, 24, 26), 5)
    steps = [dense_crf(image, mask, *DEFAULTS, n, engine, dimensions) for n in range(1, 21)]
    changed = [(b != a).mean() for a, b in zip([mask, *steps], steps)]
    assert changed[0] > changed[1] > 0
    stopped = [dense_crf(image, mask, *DEFAULTS, 20, engine, dimensions, tolerance) for tolerance in (0.99, 0)]
    np.testing.assert_array_equal(stopped[0], steps[0])
    np.testing.assert_array_equal(stopped[1], steps[-1])
    if dimensions == 3:
        stopped = dense_crf(image, mask, *DEFAULTS, 20, engine, 3, (changed[0] + changed[1]) / 2)
        np.testing.assert_array_equal(stopped, steps[1])


def test_empty_masks_stay_empty():
    image = np.zeros((4, 5, 6), np.int16)
    for engine in ENGINES:  # whether it is installed or not
        for dimensions in (2, 3):
            assert not dense_crf(image, np.zeros(image.shape, np.uint8), *DEFAULTS, 20, engine, dimensions).any()
            assert not refine(image, np.zeros(image.shape, np.uint8), (1, 1, 1), dimensions).any()
    assert dense_crf(image[:0], image[:0], *DEFAULTS, 20).shape == (0, 5, 6)


@pytest.mark.parametrize(
    'change',
    [
        dict(mask=np.ones((1, 3, 3), np.uint8)),
        dict(image=np.zeros((3, 4)), mask=np.ones((3, 4))),
        dict(s1=0),
        dict(s2=float('nan')),
        dict(s3=float('inf')),
        dict(max_iter=0),
        dict(engine='none'),
        dict(dimensions=1),
        dict(tolerance=1),
        dict(tolerance=-0.1),
        dict(image=np.full((1, 3, 4), np.nan)),
        dict(image=np.full((1, 3, 4), -np.inf)),
    ],
)
def test_errors(change):
    arguments = dict(image=np.zeros((1, 3, 4)), mask=np.ones((1, 3, 4), np.uint8), s1=1, s2=1, s3=1, max_iter=1)
    with pytest.raises(ValueError):
        dense_crf(**{**arguments, **change})


def test_a_grid_too_fine_is_refused_by_name():
    image, mask = scene((40, 40, 40), 6)
    with pytest.raises(InputError, match='s2, s3: .*got 1 and 0.1, or crf_engine=.pydensecrf'):
        dense_crf(image, mask, 1, 1, 0.1, 1)


def test_box_holds_both_ends_and_stops_at_the_border():
    mask = np.zeros((10, 20, 30), np.uint8)
    mask[2:9, 5:7, 29] = 1
    assert grown_box(mask, (1, 3, 4)) == (slice(1, 10), slice(2, 10), slice(25, 30))


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('dimensions', [2, 3])
def test_nothing_outside_the_box(dimensions, engine):
    need(engine)
    mask = np.zeros((12, 20, 20), np.uint8)
    mask[4:8, 6:14, 6:14] = 1
    image = (20 + 80 * mask).astype(np.int16)
    image[:, :5] = image[:2] = 100  # as bright as the liver, apart from it
    refined = refine(image, mask, (1, 2, 2), dimensions, s1=1, s2=10, s3=10, max_iter=2, engine=engine)
    assert refined.any() and refined.sum() == refined[3:9, 4:16, 4:16].sum()
