"""Metrics of a mask, beside scipy's KD-trees."""

from pathlib import Path

from benchmarks import plain
from benchmarks.measure import side_by_side
from benchmarks.scene import make_rough_mask, make_scan
from utilities.evaluation.calculate_metrics import calculate_metrics
from utilities.image.post_process import keep_liver

STAGE = 'calculate_metrics, 160 x 512 x 512'


def measure(folder: Path, repeats: int) -> dict:
    _, label, geometry = make_scan(160)
    mask = keep_liver(make_rough_mask(label), 5e4)
    row, theirs, ours = side_by_side(
        lambda: plain.metrics(label, mask, geometry.spacing),
        lambda: calculate_metrics(label, mask, geometry.spacing),
        repeats,
    )
    error = max(abs(ours[name] - value) / abs(value) for name, value in theirs.items())
    return {
        **row,
        'goal': '>= 4 x',
        'reached': row['plain_s'] / row['ours_s'] >= 4 and error <= 1e-6,
        'agreement': f'{error:.0e} relative, {len(theirs)} metrics',
    }
