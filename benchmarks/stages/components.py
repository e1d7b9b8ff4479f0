"""Post-processing of a mask, beside scikit-image."""

from pathlib import Path

import numpy as np

from benchmarks import plain
from benchmarks.measure import side_by_side
from benchmarks.scene import make_rough_mask, make_scan
from utilities.image.post_process import keep_liver

STAGE = 'keep_liver, 160 x 512 x 512, 300 islands'


def measure(folder: Path, repeats: int) -> dict:
    mask = make_rough_mask(make_scan(160)[1])
    row, theirs, ours = side_by_side(lambda: plain.keep_liver(mask, 5e4), lambda: keep_liver(mask, 5e4), repeats)
    is_same = np.array_equal(theirs, ours)
    return {
        **row,
        'goal': '>= 10 x',
        'reached': row['plain_s'] / row['ours_s'] >= 10 and is_same,
        'agreement': 'identical' if is_same else 'DIFFERS',
    }
