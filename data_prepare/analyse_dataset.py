"""The figures behind the defaults: slice thickness, intensity window, share of liver.

In:   train_ct_path/volume-N.* and train_seg_path/segmentation-N.*
Out:  a table on the screen; nothing is written

    python data_prepare/analyse_dataset.py --train_ct_path=DIR --train_seg_path=DIR
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas

from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.run import run_cases
from utilities.run.script import run_script
from utilities.volumes.cases import find_cases
from utilities.volumes.geometry import require_same_grid
from utilities.volumes.read_write import read_label, read_volume

BYTES = 12  # of memory for a voxel of a CT, at most; see benchmarks/benchmark.py


def main(para):
    def analyse(case):
        if case.label is None:
            raise InputError(f'{case.ct}: no label in {para.train_seg_path}; set train_seg_path')
        ct, geometry = read_volume(case.ct, case.spacing)
        liver, label_geometry = read_label(case.label, case.spacing)
        require_same_grid(case.label, liver.shape, label_geometry, case.ct, ct.shape, geometry, para.grid_tolerance)
        return {'case': case.name, **liver_figures(ct, liver, para.lower, para.upper), 'spacing_z': geometry.spacing[2]}

    found = find_cases(para.train_ct_path, 'train_ct_path', para.train_seg_path, para.spacing_override)
    rows, failures = run_cases.run_cases(
        analyse, found, 'analysis', workers=run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES)
    )
    if rows:
        table = pandas.DataFrame(rows).set_index('case')
        log.info(table.to_string(float_format='{:.3f}'.format))
        log.info(f'mean slice distance: {table["spacing_z"].mean():.2f} mm')
        log.info(
            f'liver voxels inside [{para.lower}, {para.upper}] HU: {table["inside"].sum() / table["liver"].sum():.2%}'
        )
        log.info(f'slices that hold liver: {table["liver_slices"].sum() / table["slices"].sum():.2%}')
        log.info(f'liver pixels in those slices: {table["liver"].sum() / table["pixels"].sum():.2%}')
    for name, why in failures:
        log.info(f'failed: {name}: {why}')
    return 1 if failures else 0


def liver_figures(ct, liver, lower, upper):
    """Counts for one case, ct in HU and liver (0 or 1) both (z, y, x): slices, those with liver, their pixels, liver voxels, those
    inside [lower, upper] HU. Without liver all but the slices are 0."""
    held = liver.any((1, 2))
    values = ct[liver > 0]
    return {
        'slices': len(liver),
        'liver_slices': int(held.sum()),
        'pixels': int(held.sum()) * liver[0].size,
        'liver': values.size,
        'inside': int(((values >= lower) & (values <= upper)).sum()),
    }


if __name__ == '__main__':
    run_script(main, __doc__)
