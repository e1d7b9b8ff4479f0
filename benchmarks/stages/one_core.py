"""A case of the training set and of the 3D CRF on one core, by its number of slices."""

import os
import statistics
from pathlib import Path

from benchmarks.case_files import write_case
from benchmarks.measure import measure_call, process_memory
from benchmarks.one_case import prepare, refine
from benchmarks.rows import row_of_one_core
from benchmarks.scene import make_scan
from utilities.base.environment import limit_threads
from utilities.run.settings import read_settings
from utilities.volumes.cases import Case

STAGE = 'a case on one core'


def measure(folder: Path, repeats: int) -> list[dict]:
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    limit_threads(1)
    para, rows = read_settings(['--visdom_server=']), []
    case = Case(folder / 'volume.nii', folder / 'segmentation.nii')
    for script, function in (('get_training_set.py', prepare), ('3D-CRF.py', refine)):
        seconds = {}
        for depth in (160, 448):
            write_case(folder, *make_scan(depth, thickness=300 / depth))
            function(case, folder, para)  # not counted, since it compiles
            calls = [measure_call(lambda run=function: run(case, folder, para)) for _ in range(repeats)]
            seconds[depth] = statistics.median(elapsed for elapsed, _, _ in calls)
        rows.append(row_of_one_core(script, seconds, process_memory('VmHWM') / 1e6))
    return rows
