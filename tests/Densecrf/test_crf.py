"""The dense CRF against brute force, its box, its empty cases."""
import numpy as np
import pytest

from Densecrf.crf import dense_crf, grown_box, refine


def brute_force(image, mask, s1, s2, s3, max_iter):
    """Mean field over all pairs of voxels, in float64, straight from the energy (Kraehenbuehl and Koltun 2011)."""
    places = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing='ij'), -1).reshape(-1, mask.ndim).astype(float)
    values = image.reshape(-1, 1).astype(float)

    def kernel(features):
        k = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))
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


def scene(shape, seed):
    """A bright blob in noise and a mask that is off by two voxels."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*map(np.arange, shape), indexing='ij')
    radius = np.sqrt(sum((g - n / 2) ** 2 for g, n in zip(grid, shape)))
    image = np.where(radius < min(shape) / 3, 100, 20) + rng.normal(0, 8, shape)
    return image.astype(np.int16), np.roll(radius < min(shape) / 3 + 1, 2, -1).astype(np.uint8)


@pytest.mark.parametrize('shape', [(24, 26), (10, 12, 11)])
@pytest.mark.parametrize('seed', [0, 1])
def test_agrees_with_brute_force(shape, seed):
    pytest.importorskip('pydensecrf', reason='pydensecrf was not built')
    image, mask = scene(shape, seed)
    wanted = brute_force(image, mask, 1, 10, 10, 20)
    ours = dense_crf(image, mask, 1, 10, 10, 20, 'pydensecrf')
    assert (wanted != mask).mean() > 0.01  # the CRF has something to do
    assert (ours == wanted).mean() >= 0.99  # the lattice is an approximation


def test_empty_masks_stay_empty():
    image = np.zeros((4, 5, 6), np.int16)
    assert not dense_crf(image, np.zeros(image.shape, np.uint8), 1, 10, 10, 20).any()
    assert not refine(image, np.zeros(image.shape, np.uint8), (1, 1, 1), 3).any()


@pytest.mark.parametrize('change', [dict(mask=np.ones((3, 3), np.uint8)), dict(s1=0), dict(max_iter=0), dict(engine='none')])
def test_errors(change):
    arguments = dict(image=np.zeros((3, 4)), mask=np.ones((3, 4), np.uint8), s1=1, s2=1, s3=1, max_iter=1, engine='pydensecrf')
    with pytest.raises(ValueError):
        dense_crf(**{**arguments, **change})


def test_box_holds_both_ends_and_stops_at_the_border():
    mask = np.zeros((10, 20, 30), np.uint8)
    mask[2:9, 5:7, 29] = 1
    assert grown_box(mask, (1, 3, 4)) == (slice(1, 10), slice(2, 10), slice(25, 30))


@pytest.mark.parametrize('dimensions', [2, 3])
def test_nothing_outside_the_box(dimensions):
    pytest.importorskip('pydensecrf', reason='pydensecrf was not built')
    mask = np.zeros((12, 20, 20), np.uint8)
    mask[4:8, 6:14, 6:14] = 1
    image = (20 + 80 * mask).astype(np.int16)
    image[:, :5] = image[:2] = 100  # as bright as the liver, apart from it
    crf = dict(s1=1, s2=10, s3=10, max_iter=2, engine='pydensecrf')
    refined = refine(image, mask, (1, 2, 2), dimensions, **crf)
    assert refined.any() and refined.sum() == refined[3:9, 4:16, 4:16].sum()
