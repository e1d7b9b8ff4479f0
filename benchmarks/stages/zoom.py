"""Resampling by cubic splines, beside scipy."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.measure import side_by_side
from benchmarks.scene import HU_WINDOW, make_scan
from utilities.image.resample import zoom

STAGE = 'resample.zoom, 160 x 512 x 512 -> 240 x 256 x 256, int16'
FACTORS = 1.5, 0.5, 0.5


def measure(folder: Path, repeats: int) -> dict:
    ct = np.clip(make_scan(160)[0], *HU_WINDOW)
    row, _, _ = side_by_side(lambda: ndimage.zoom(ct, FACTORS, order=3), lambda: zoom(ct, FACTORS, 3), repeats)
    exact = ndimage.zoom(ct, FACTORS, order=3, output=np.float64)
    error = np.abs(zoom(ct, FACTORS, 3, np.float32) - exact).max()
    is_same = np.array_equal(zoom(ct, FACTORS, 0), ndimage.zoom(ct, FACTORS, order=0))
    return {
        **row,
        'goal': '>= 20 x',
        'reached': row['plain_s'] / row['ours_s'] >= 20 and error <= 1e-3 and is_same,
        'agreement': f'{error:.1e} HU before rounding; order 0 {"identical" if is_same else "DIFFERS"}',
    }
