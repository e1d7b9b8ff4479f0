"""A case's row, against numpy."""
import numpy as np
import pytest

from utilities.calculate_metrics import calculate_metrics
from utilities.tables import score


def masks():
    rng = np.random.default_rng(0)
    return [(rng.random((6, 7, 8)) < share).astype(np.uint8) for share in (0.5, 0.4, 0.6)]


def test_score_with_a_label():
    label, before, after = masks()
    row = score('volume-1.nii', label, before, after, (0.7, 0.8, 2.0), 1.5)
    final, first = (calculate_metrics(label, mask, (0.7, 0.8, 2.0), 1.5) for mask in (after, before))
    wanted = {'case': 'volume-1.nii', **final, **{f'{key}_before': value for key, value in first.items()}}
    wanted.update(intersection=(label & after).sum(), sizes=int(label.sum()) + int(after.sum()))
    assert row == wanted and list(row) == list(wanted)


def test_score_without_a_label():
    _, before, after = masks()
    row = score('volume-1.nii', None, before, after, (0.7, 0.8, 2.0), 1.5)
    assert row == {'case': 'volume-1.nii', 'volume_ml': pytest.approx(after.sum() * 0.7 * 0.8 * 2 / 1000)}
