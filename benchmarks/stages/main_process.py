"""What a case costs the main process when many workers do the work: prechecks, handing out, tables."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.case_files import write_case
from benchmarks.dask_workers import dask_cluster
from benchmarks.measure import measure_call, process_memory
from benchmarks.rows import row_without_plain_way
from benchmarks.scene import make_scan
from utilities.evaluation.tables import write_tables
from utilities.run import dask_cluster as dask
from utilities.run import processes
from utilities.run.manifest import Manifest
from utilities.run.settings import read_settings
from utilities.run.steps import CaseSteps
from utilities.volumes.cases import Case
from utilities.volumes.checks import check_header

STAGE = 'what a case costs the first process'
CHECKED_CASES = 200
CASES = 2000


def measure(folder: Path, repeats: int) -> dict:
    row = write_case(folder, *make_scan(16, 64))
    rows = [{**row, 'case': str(number)} for number in range(CASES)]
    store = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True)
    write = partial(write_tables, folder, 'result', rows, vars(read_settings([])), [])
    seconds = {
        'look_s': measure_prechecks(folder, row),
        'rank_s': measure_call(lambda: [store.add('place', 1) for _ in range(CASES)])[0] / CASES,
        'table_s': measure_call(write)[0] / CASES,
        'process_s': measure_engine(lambda cases: processes.run_in_processes(CaseSteps([str]), cases, 2, 1)),
    }
    with dask_cluster(folder) as scheduler:
        seconds['dask_s'] = measure_engine(
            lambda cases: dask.run_on_cluster(CaseSteps([str]), cases, 'benchmark', scheduler, 1e6)
        )
    ms = {name: f'{1e3 * value:.2g} ms' for name, value in seconds.items()}
    remark = (
        f'first look {ms["look_s"]}; handing out: process {ms["process_s"]}, Dask {ms["dask_s"]}, '
        f'torchrun {ms["rank_s"]}; row of the tables {ms["table_s"]}'
    )
    total = seconds['look_s'] + seconds['dask_s'] + seconds['table_s']
    return {**seconds, **row_without_plain_way(total, process_memory('VmHWM') / 1e6, remark)}


def measure_prechecks(folder: Path, row: dict) -> float:
    """Return the seconds to check a case's headers and to find that it is finished."""
    manifest = Manifest(folder / 'made', {}, 'pred_path')
    case = Case(folder / 'volume.nii', folder / 'segmentation.nii')
    for number in range(CHECKED_CASES):
        (manifest.folder / f'{number}.nii').write_text('')
        manifest.finish_case(str(number), case.files, [f'{number}.nii'], row)

    def check_all() -> None:
        for number in range(CHECKED_CASES):
            check_header(case, True, 0.1)
            manifest.find_finished(str(number), case.files)

    return measure_call(check_all)[0] / CHECKED_CASES


def measure_engine(run: Callable[[list[tuple[int, str]]], Iterator]) -> float:
    """Return the seconds that an engine takes for a case without work, its start not counted.

    run: starts the engine on [(number, case)] and iterates over the completed cases.
    """
    times = [time.perf_counter() for _ in run([(number, str(number)) for number in range(CASES)])]
    started = CASES // 10
    return (times[-1] - times[started]) / (CASES - 1 - started)
