"""Show what a data set looks like: slice spacing, HU of the liver, slices with liver, size of the liver in them.

These are the figures behind the defaults of slice_thickness, lower and upper.

In:   train_ct_path/volume-N.* and train_seg_path/segmentation-N.*
Out:  a table on the screen, and figure_path/dataset.png

    python data_prepare/analyse_dataset.py --train_ct_path=DIR --train_seg_path=DIR
"""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numpy as np
import pandas

from utilities.base.errors import InputError, one_line
from utilities.base.log import log
from utilities.run import run_cases
from utilities.run.script import run_script
from utilities.viewing.dataset_figure import count_hu, describe_share, draw_dataset
from utilities.viewing.figure_files import save_figure
from utilities.volumes.cases import Case, find_cases
from utilities.volumes.geometry import require_same_grid
from utilities.volumes.read_write import read_label, read_volume

BYTES_PER_VOXEL = 12  # of memory for a case, at most, as benchmarks/benchmark.py measures it


def main(para: SimpleNamespace) -> int:
    """Analyse all cases, show the table and draw the figure; return the exit status."""
    window = (para.lower, para.upper)
    results, failures = run_cases.run_cases(
        partial(analyse_case, window=window, label_folder=para.train_seg_path, grid_tolerance=para.grid_tolerance),
        find_cases(para.train_ct_path, 'train_ct_path', para.train_seg_path, para.spacing_override),
        'analysis',
        workers=run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES_PER_VOXEL),
    )
    if results:
        rows, hu_counts = zip(*results)
        table = pandas.DataFrame(rows).set_index('case')
        print_table(table, window)
        path = Path(para.figure_path) / 'dataset.png'
        save_figure(draw_dataset(table, sum(hu_counts), window), path)
        log.info(one_line(f'written: {path}'))
    for name, reason in failures:
        log.info(one_line(f'failed: {name}: {reason}'))
    return 1 if failures else 0


def analyse_case(
    case: Case, window: tuple[float, float], label_folder: str, grid_tolerance: float
) -> tuple[dict[str, Any], np.ndarray]:
    """Read a case; return its row of the table and the counts of its liver voxels by HU, as `count_hu` makes them.

    Raises InputError if the case has no label in `label_folder`, or one whose corners lie more than `grid_tolerance` mm
    from those of the CT.
    """
    if case.label is None:
        raise InputError(f'{case.ct}: no label in {label_folder}; set train_seg_path')
    ct, geometry = read_volume(case.ct, case.spacing)
    liver, label_geometry = read_label(case.label, case.spacing)
    require_same_grid(case.label, liver.shape, label_geometry, case.ct, ct.shape, geometry, grid_tolerance)
    values = ct[liver > 0]
    row = {'case': case.name, **count_liver(liver, values, window), 'spacing_z': geometry.spacing[2]}
    return row, count_hu(values)


def count_liver(liver: np.ndarray, values: np.ndarray, window: tuple[float, float]) -> dict[str, int]:
    """Count the slices, the slices with liver, their pixels, the liver voxels and those inside the window.

    Args:
        liver: label of one case, 0 or 1, (z, y, x). Without liver all counts but the slices are 0.
        values: the HU of its liver voxels, one-dimensional.
        window: lowest and highest HU of the window.
    """
    liver_slices = int(liver.any((1, 2)).sum())
    return {
        'slices': len(liver),
        'liver_slices': liver_slices,
        'pixels': liver_slices * liver[0].size,
        'liver': values.size,
        'inside': int(((values >= window[0]) & (values <= window[1])).sum()),
    }


def print_table(table: pandas.DataFrame, window: tuple[float, float]) -> None:
    """Log the table of the cases, the mean slice distance, and the shares over all cases."""
    log.info(table.to_string(float_format='{:.3f}'.format))
    log.info(f'mean slice distance: {table["spacing_z"].mean():.2f} mm')
    inside = describe_share(table['inside'], table['liver'])
    log.info(f'liver voxels inside [{window[0]}, {window[1]}] HU: {inside}')
    log.info(f'slices that hold liver: {describe_share(table["liver_slices"], table["slices"])}')
    log.info(f'liver pixels in those slices: {describe_share(table["liver"], table["pixels"])}')


if __name__ == '__main__':
    run_script(main, __doc__)
