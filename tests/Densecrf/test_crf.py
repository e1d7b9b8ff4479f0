"""Both engines of the dense CRF against the exact mean field; empty masks, odd inputs, the box."""

import numpy as np
import pytest

from Densecrf.crf import dense_crf, refine_in_box
from Densecrf.crf_settings import CrfSettings
from utilities.base.errors import InputError

ENGINES = ['grid', 'pydensecrf']
DEFAULTS = 1, 10, 10  # s1, s2, s3


def brute_force(image, mask, s1, s2, s3, max_iter):
    """Mean field over all pairs of voxels, in float64, straight from the energy (Kraehenbuehl and Koltun 2011)."""
    positions = np.argwhere(np.ones(mask.shape)).astype(float)
    intensities = image.reshape(-1, 1).astype(float)

    def kernel(features):
        k = np.exp(-0.5 * sum((f[:, None] - f) ** 2 for f in features.T))
        norm = 1 / np.sqrt(k.sum(1))
        return norm[:, None] * k * norm

    kernels = 3 * kernel(positions / s1) + 10 * kernel(np.hstack([positions / s2, intensities / s3]))
    liver = np.where(mask.ravel(), 0.9, 0.1)
    unary = -np.log(np.stack([1 - liver, liver], 1))
    q = np.exp(-unary) / np.exp(-unary).sum(1, keepdims=True)
    for _ in range(max_iter):
        logit = -unary + kernels @ q  # Potts: agreement is rewarded, up to a constant
        q = np.exp(logit - logit.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    return (q[:, 1] > q[:, 0]).reshape(mask.shape)


def scene(shape, seed, contrast=80, noise=8):
    """Return a bright blob in noise, int16, and its mask, uint8, shifted by two voxels along the last axis.

    Along an axis of up to 4 voxels all slices are alike.
    """
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*map(np.arange, shape), indexing='ij')
    sizes = [n for n in shape if n > 4]
    radius = np.sqrt(sum((g - n / 2) ** 2 for g, n in zip(grid, shape) if n > 4))
    image = np.where(radius < min(sizes) / 3, 20 + contrast, 20) + rng.normal(0, noise, shape)
    return image.astype(np.int16), np.roll(radius < min(sizes) / 3 + 1, 2, -1).astype(np.uint8)


def skip_without(engine):
    if engine == 'pydensecrf':
        pytest.importorskip('pydensecrf', reason='pydensecrf is not installed')


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('shape', [(1, 24, 26), (10, 12, 11)])
@pytest.mark.parametrize('seed', [0, 1])
def test_agrees_with_brute_force(shape, seed, engine):
    skip_without(engine)
    image, mask = scene(shape, seed)
    wanted = brute_force(image, mask, *DEFAULTS, 20)
    ours = dense_crf(image, mask, CrfSettings(*DEFAULTS, 20, engine))
    assert (wanted != mask).mean() > 0.01  # The CRF changes labels, so that the comparison means something.
    assert (ours == wanted).mean() >= 0.99  # Lattice and grid are approximations.


SHAPES = [(10, 12, 11), (14, 15, 13), (3, 22, 24), (24, 26, 2), (1, 30, 31), (28, 1, 30)]


@pytest.mark.parametrize(
    's1, s2, s3', [DEFAULTS, (1, 3, 20), (2, 4, 15), (0.6, 6, 12), (1, 30, 8), (1, 1, 40), (5, 50, 500)]
)
def test_grid_is_as_close_to_brute_force_as_pydensecrf(s1, s2, s3):
    skip_without('pydensecrf')
    errors = dict.fromkeys(ENGINES, 0)
    for shape in SHAPES:
        for seed, contrast in ((0, 60), (1, 45)):
            image, mask = scene(shape, seed, contrast, noise=12)
            wanted = brute_force(image, mask, s1, s2, s3, 20)
            for engine in ENGINES:
                errors[engine] += (dense_crf(image, mask, CrfSettings(s1, s2, s3, 20, engine)) != wanted).sum()
    assert errors['grid'] <= errors['pydensecrf']


@pytest.mark.parametrize('engine', ENGINES)
def test_two_dimensions_refine_each_slice_alone(engine):
    skip_without(engine)
    image, mask = scene((5, 24, 26), 3)
    mask[1] = 0
    settings = CrfSettings(*DEFAULTS, 20, engine)
    refined = dense_crf(image, mask, settings, 2)
    assert refined.dtype == np.uint8 and not refined[1].any()
    for z in (0, 2, 3, 4):
        assert (refined[z] == brute_force(image[z], mask[z], *DEFAULTS, 20)).mean() >= 0.99
        slice_alone = dense_crf(image[z : z + 1], mask[z : z + 1], settings, 2)
        np.testing.assert_array_equal(refined[z : z + 1], slice_alone)


@pytest.mark.parametrize('shape', [(1, 1, 1), (1, 1, 20), (20, 1, 1), (1, 12, 2), (2, 2, 2), (6, 7, 8)])
def test_constant_and_tiny_images(shape):
    image = np.full(shape, -200, np.int16)
    whole, third = np.ones(shape, np.uint8), np.zeros(shape, np.uint8)
    third.ravel()[: (third.size + 2) // 3] = 1
    settings = CrfSettings(*DEFAULTS, 20)
    for mask in (whole, third):
        np.testing.assert_array_equal(dense_crf(image, mask, settings), brute_force(image, mask, *DEFAULTS, 20))
        refined = dense_crf(image, mask, settings, 2)
        for z in np.flatnonzero(mask.any((1, 2))):
            np.testing.assert_array_equal(refined[z], brute_force(image[z], mask[z], *DEFAULTS, 20))


@pytest.mark.parametrize('engine', ENGINES)
def test_type_and_memory_order_do_not_matter(engine):
    skip_without(engine)
    image, mask = scene((8, 14, 15), 4)
    image[:, :3] = 3000  # far outside of the window
    settings = CrfSettings(*DEFAULTS, 5, engine)
    wanted = dense_crf(image, mask, settings)
    larger = np.zeros((10, 20, 40), np.int16)
    larger[1:9, 2:16, 3:33:2] = image
    for other in (
        np.asfortranarray(image),
        image.astype('>i2'),
        image.astype(np.int64),
        image.astype(np.float32),
        image.astype(float),
        larger[1:9, 2:16, 3:33:2],
    ):
        np.testing.assert_array_equal(dense_crf(other, mask, settings), wanted)
    for other in (mask.astype(bool), mask * 7.5, np.asfortranarray(mask), mask[::-1].copy()[::-1]):
        np.testing.assert_array_equal(dense_crf(image, other, settings), wanted)


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('dimensions', [2, 3])
def test_tolerance_stops_after_the_iteration_that_changes_little(dimensions, engine):
    skip_without(engine)
    image, mask = scene((4, 24, 26), 5)

    def refined(max_iter, tolerance=0):
        return dense_crf(image, mask, CrfSettings(*DEFAULTS, max_iter, engine, tolerance), dimensions)

    steps = [refined(n) for n in range(1, 21)]
    changed = [(new != old).mean() for old, new in zip([mask, *steps], steps)]
    assert changed[0] > changed[1] > 0
    np.testing.assert_array_equal(refined(20, tolerance=0.99), steps[0])
    np.testing.assert_array_equal(refined(20, tolerance=0), steps[-1])
    if dimensions == 3:
        np.testing.assert_array_equal(refined(20, tolerance=(changed[0] + changed[1]) / 2), steps[1])


def test_empty_masks_stay_empty():
    image = np.zeros((4, 5, 6), np.int16)
    mask = np.zeros(image.shape, np.uint8)
    for engine in ENGINES:  # whether it is installed or not
        settings = CrfSettings(*DEFAULTS, 20, engine)
        for dimensions in (2, 3):
            assert not dense_crf(image, mask, settings, dimensions).any()
            assert not refine_in_box(image, mask, settings, dimensions, (1, 1, 1)).any()
    assert dense_crf(image[:0], image[:0], settings).shape == (0, 5, 6)


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
        dict(confidence=0.5),
        dict(confidence=1),
        dict(confidence=float('nan')),
        dict(image=np.full((1, 3, 4), np.nan)),
        dict(image=np.full((1, 3, 4), -np.inf)),
    ],
)
def test_errors(change):
    arguments = dict(image=np.zeros((1, 3, 4)), mask=np.ones((1, 3, 4), np.uint8), dimensions=3)
    settings = dict(s1=1, s2=1, s3=1, max_iter=1)
    with pytest.raises(ValueError, match='wanted'):
        for name, value in change.items():
            (arguments if name in arguments else settings)[name] = value
        dense_crf(settings=CrfSettings(**settings), **arguments)


def test_a_grid_too_fine_is_refused_by_name():
    image, mask = scene((40, 40, 40), 6)
    with pytest.raises(InputError, match='s2, s3: .*got 1 and 0.1, or crf_engine=.pydensecrf'):
        dense_crf(image, mask, CrfSettings(1, 1, 0.1, 1))


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('dimensions', [2, 3])
def test_voxels_outside_the_box_become_background(dimensions, engine):
    skip_without(engine)
    mask = np.zeros((12, 20, 20), np.uint8)
    mask[4:8, 6:14, 6:14] = 1
    image = (20 + 80 * mask).astype(np.int16)
    image[:, :5] = image[:2] = 100  # as bright as the liver, and apart from it
    refined = refine_in_box(image, mask, CrfSettings(*DEFAULTS, 2, engine), dimensions, (1, 2, 2))
    assert refined.any() and refined.sum() == refined[3:9, 4:16, 4:16].sum()
