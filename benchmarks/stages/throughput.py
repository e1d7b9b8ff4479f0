"""Scripts over many cases on one and on two processes."""

import shutil
import tempfile
from pathlib import Path

from benchmarks.case_files import write_case, write_finished_run
from benchmarks.measure import run_process
from benchmarks.rows import row_of_throughput
from benchmarks.scene import make_scan

STAGE = 'cases on 1 and on 2 processes'
ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (  # script, cases, whether one process uses all cores, options
    ('data_prepare/get_training_set.py', 80, False, []),
    ('Densecrf/3D-CRF.py', 16, True, []),
    ('Densecrf/2D-CRF.py', 4, False, ['--crf_engine=pydensecrf']),
)
RUNS = ('one core', 1, 1), ('1', 1, None), ('2', 2, None)  # name, processes, cores (None: all)


def measure(folder: Path, repeats: int) -> list[dict]:
    row, rows = write_case(folder, *make_scan(160)), []
    for script, cases, uses_all_cores, options in SCRIPTS:
        with tempfile.TemporaryDirectory(dir=folder) as run_folder:
            write_finished_run(Path(run_folder), cases, folder, row)
            runs = measure_runs(script, options, Path(run_folder), repeats)
        name = ', '.join([Path(script).name, *options, f'{cases} cases of 160 x 512 x 512'])
        rows.append(row_of_throughput(name, runs, uses_all_cores))
    return rows


def measure_runs(script: str, options: list[str], folder: Path, repeats: int) -> dict[str, tuple[float, float]]:
    """Return the quickest (seconds, MB) of every run in RUNS by its name."""
    command = [ROOT / script, '--visdom_server=', '--train_ct_path=data/test/CT/', '--train_seg_path=data/test/seg/']
    quickest = {}
    for _ in range(repeats):
        for name, processes, cores in RUNS:
            run = run_process([*command, f'--num_workers={processes}', *options], folder, cores)
            quickest[name] = min(run, quickest.get(name, run))
            for output in ('train', 'crf'):
                shutil.rmtree(folder / output, ignore_errors=True)
    return quickest
