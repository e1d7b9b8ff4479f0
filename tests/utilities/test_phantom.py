"""The phantom: deterministic, anatomical, and not to be solved by a threshold."""
import numpy as np
import pytest
from scipy import ndimage

from utilities.phantom import phantom

SHAPE, SPACING = (40, 96, 96), (3.6, 3.6, 7.0)


@pytest.fixture(scope='module')
def phantoms():
    return [phantom(seed, SHAPE, SPACING) for seed in range(5)]


def test_same_seed_same_bytes(phantoms):
    again = phantom(1, SHAPE, SPACING)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again, phantoms[1]))
    assert (phantoms[0][1] != phantoms[1][1]).any()


def test_labels(phantoms):
    for ct, label in phantoms:
        assert ct.dtype == np.int16 and label.dtype == np.uint8 and set(np.unique(label)) <= {0, 1, 2}
        liver = label > 0
        assert ndimage.label(liver)[1] == 1
        assert 0.02 < liver.mean() < 0.06
        slices = np.flatnonzero(liver.any((1, 2)))
        assert slices[0] >= 4 and slices[-1] < len(liver) - 4
        assert 85 < np.median(ct[label == 1]) < 120
        assert not (label == 2).any() or 35 < np.median(ct[label == 2]) < 80
    assert any((label == 2).any() for _, label in phantoms)


def test_livers_differ_from_case_to_case(phantoms):
    livers = [label > 0 for _, label in phantoms]
    for a, b in zip(livers, livers[1:]):
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) < 0.93


@pytest.mark.parametrize('smooth', [1, 3])
def test_no_threshold_finds_the_liver(phantoms, smooth):
    for ct, label in phantoms:
        ct, liver = ndimage.uniform_filter(ct.astype(np.float32), smooth), label > 0
        best = 0
        for low in range(30, 130, 5):
            for high in range(low + 10, 190, 5):
                found = (ct >= low) & (ct <= high)
                best = max(best, 2 * (found & liver).sum() / (found.sum() + liver.sum()))
        assert 0.3 < best < 0.75


def test_something_of_the_livers_intensity_touches_it(phantoms):
    for ct, label in phantoms:
        liver = label > 0
        around = ndimage.binary_dilation(liver, iterations=3) & ~ndimage.binary_dilation(liver)
        alike = np.abs(ndimage.uniform_filter(ct.astype(np.float32), 3) - np.median(ct[label == 1])) < 12
        assert (around & alike).mean() > 0.0005


@pytest.mark.parametrize('shape, spacing', [((15, 96, 96), SPACING), ((40, 96), SPACING), (SHAPE, (1, 1, 0)), (SHAPE, (1, 1))])
def test_errors(shape, spacing):
    with pytest.raises(ValueError, match='wanted'):
        phantom(0, shape, spacing)
