"""The dense CRF slice by slice, beside pydensecrf."""

from pathlib import Path

from benchmarks.crf_engines import compare_engines, make_box

STAGE = 'dense_crf 2D, slice by slice, 20 iterations'


def measure(folder: Path, repeats: int) -> dict:
    row, _ = compare_engines(*make_box(), 2, goal=6, min_equal=0.999, plain_repeats=max(1, repeats - 2))
    return row
