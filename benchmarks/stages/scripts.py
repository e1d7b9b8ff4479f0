"""Whole scripts over one and over three cases, for the seconds that they take to start and that each case adds."""

import tempfile
from pathlib import Path

from benchmarks.case_files import write_case, write_finished_run
from benchmarks.measure import run_process
from benchmarks.rows import row_of_script
from benchmarks.scene import make_scan

STAGE = 'whole scripts, cases of 448 x 512 x 512'
ROOT = Path(__file__).resolve().parents[2]
CASES = 3
SCRIPTS = {  # script: its options
    'data_prepare/check_dataset.py': [
        '--train_ct_path=data/test/CT/',
        '--train_seg_path=data/test/seg/',
        '--test_ct_path=none/',
    ],
    'Densecrf/2D-CRF.py': ['--crf_path=crf2D/'],
    'Densecrf/3D-CRF.py': [],
    'scripts/draw_figures.py': [],
    'scripts/write_report.py': [],
}


def measure(folder: Path, repeats: int) -> list[dict]:
    row = write_case(folder, *make_scan(448, thickness=300 / 448))
    runs = {}
    for cases in (1, CASES, 1, CASES):  # the first run compiles, so the quicker one counts
        with tempfile.TemporaryDirectory(dir=folder) as run_folder:
            write_finished_run(Path(run_folder), cases, folder, row)
            for script, options in SCRIPTS.items():
                run = run_process([ROOT / script, '--visdom_server=', *options], Path(run_folder))
                runs[script, cases] = min(run, runs.get((script, cases), run))
    return [row_of_script(Path(script).name, runs[script, 1], runs[script, CASES], CASES) for script in SCRIPTS]
