"""Peak memory of a case of each stage on the CPU, compared with what run_cases.py reserves for it."""

from pathlib import Path

import numpy as np

from benchmarks.case_files import write_case
from benchmarks.measure import run_process
from benchmarks.rows import row_of_peak_memory
from benchmarks.scene import make_scan
from data_prepare import check_dataset, get_training_set
from Densecrf.refine_cases import BYTES_PER_VOXEL
from utilities.run.run_cases import WORKER_BYTES

STAGE = 'peak memory of a case'
SCRIPT = Path(__file__).resolve().parents[1] / 'one_case.py'
STAGES = (  # name, function of one_case.py, bytes a voxel, data type of the CT, slice thickness in mm
    ('check', 'check', check_dataset.BYTES, np.int16, 1.0),
    ('check', 'check', check_dataset.BYTES, np.float32, 1.0),
    ('training set, 1 mm', 'prepare', get_training_set.BYTES, np.int16, 1.0),
    ('training set, 1 mm', 'prepare', get_training_set.BYTES, np.float32, 1.0),
    ('training set, 5 mm to 1 mm', 'prepare', get_training_set.BYTES, np.int16, 5.0),
    ('3D CRF', 'crf', BYTES_PER_VOXEL['grid'], np.int16, 1.0),
    ('3D CRF', 'crf', BYTES_PER_VOXEL['grid'], np.float32, 1.0),
)


def measure(folder: Path, repeats: int) -> list[dict]:
    rows = []
    for name, function, bytes_per_voxel, dtype, thickness in STAGES:
        megabytes = {}
        for depth in (100, 300):
            ct, label, geometry = make_scan(depth, thickness=thickness)
            write_case(folder, ct.astype(dtype), label, geometry)
            seconds, megabytes[ct.size] = run_process([SCRIPT, function, folder], folder)
        row = row_of_peak_memory(seconds, megabytes, bytes_per_voxel, WORKER_BYTES)
        rows.append({'stage': f'{STAGE}, {name}, {np.dtype(dtype)}', **row})
    return rows
