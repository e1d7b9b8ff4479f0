"""Take many cases through the steps of a stage: the one place that decides how they are run.

A case that fails never stops the other cases.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from tqdm import tqdm

from utilities.base import distributed, machine
from utilities.base.errors import one_line
from utilities.base.log import log, progress_bar
from utilities.run import dask_cluster, processes
from utilities.run.steps import (
    CaseOutcome,
    CaseSteps,
    iterate_assigned,
    run_one_by_one,
    run_overlapped,
    run_with_captured_logs,
)

PRECHECK_THREADS = 8  # cases that are checked at the same time: a check mostly waits for the disk
MIN_VOXELS_PER_WORKER = 400e6  # three or four CTs, whose work takes longer than the start of one more process
WORKER_BYTES = 550e6  # memory of a worker process without a case: Python with its libraries


@dataclass(frozen=True)
class Workers:
    """How a stage may be distributed over processes.

    The cases of such a stage have an attribute `voxels`, the number of voxels of the CT, 0 if it is not known.

    Attributes:
        num_workers: the parameter of that name.
        dask_scheduler: the parameter of that name.
        bytes_per_voxel: the most memory that a case needs per voxel of its CT.
    """

    num_workers: int
    dask_scheduler: str
    bytes_per_voxel: float


def run_cases(
    steps: Callable | Sequence[Callable],
    cases: Sequence[Any],
    stage: str,
    overlap: bool = False,
    check_case: Callable | None = None,
    find_result: Callable | None = None,
    on_result: Callable | None = None,
    workers: Workers | None = None,
) -> tuple[list, list[tuple[str, str]]]:
    """Take every case through the steps and show a progress bar.

    Args:
        steps: one function of a case, or several: the first takes a case, every other a case and what the step before
            returned.
        cases: objects with a `name`.
        stage: what the log and the progress bar call this work.
        overlap: run the steps in parallel threads, so that the next case is read while one is computed.
        check_case: a function of a case that returns warnings. All cases are checked before the first step; a case
            whose check raises fails.
        find_result: a function of a case that returns the result of an earlier run, or None. A case that has one takes
            no step.
        on_result: a function of a case and its result, called in this process for every case that took its steps.
        workers: distribute the cases over processes of this machine or a Dask cluster. Steps and results must be
            possible to pickle. None: all cases stay in this process.

    Returns:
        The results, and (name, reason) of the cases that failed, both in the order of the cases. Under torchrun the
        ranks share the cases; the main process gets all results, and the other ranks exit here.

    Raises:
        OSError if the disk is full, RuntimeError if the GPU is out of memory: every other case would fail as well.
    """
    case_steps = CaseSteps([steps] if callable(steps) else steps, find_result)
    needs_voxels = workers is not None or distributed.world_size() > 1
    outcomes, voxels = {}, {}  # by the number of the case
    if distributed.is_main_process():
        outcomes, voxels = inspect_cases(cases, stage, check_case, find_result, needs_voxels)
    voxels = distributed.broadcast(voxels)

    with progress_bar(len(cases), stage, 'case', len(cases) - len(voxels)) as bar:

        def show_case(case: Any) -> None:
            bar.set_postfix_str(one_line(case.name))

        engine = choose_engine(case_steps, cases, voxels, stage, overlap, workers, show_case)
        start = time.monotonic()
        with closing(engine):
            for finished, (number, outcome) in enumerate(engine, 1):
                show_case(cases[number])
                outcomes[number] = log_outcome(cases[number], outcome)
                if on_result and outcome.error is None:
                    on_result(cases[number], outcome.result)
                bar.update()
                log_remaining_time(stage, cases[number], start, finished, len(voxels))

    merge_ranks(cases, outcomes, on_result)
    return results_and_failures(cases, outcomes)


def results_and_failures(cases: Sequence[Any], outcomes: dict[int, CaseOutcome]) -> tuple[list, list[tuple[str, str]]]:
    """Return the results, and (name, reason) of the cases that failed, both in the order of the cases."""
    in_order = sorted(outcomes.items())
    results = [outcome.result for _, outcome in in_order if outcome.error is None]
    failures = [(cases[number].name, outcome.error) for number, outcome in in_order if outcome.error is not None]
    return results, failures


def inspect_cases(
    cases: Sequence[Any],
    stage: str,
    check_case: Callable | None,
    find_result: Callable | None,
    needs_voxels: bool,
) -> tuple[dict[int, CaseOutcome], dict[int, int]]:
    """Check all cases, and find those that an earlier run has finished.

    The arguments are those of run_cases(). needs_voxels: whether the sizes of the CTs are needed.
    Returns the outcomes of the cases that are finished or failed the check, and the voxels of all others (0 where they
    are not needed), both by the number of the case.
    """
    outcomes, voxels = {}, {}
    threads = ThreadPoolExecutor(PRECHECK_THREADS)
    try:
        futures = [
            threads.submit(run_with_captured_logs, inspect_case, case, check_case, find_result, needs_voxels)
            for case in cases
        ]
        for number, future in enumerate(futures):
            inspected = log_outcome(cases[number], future.result())
            if inspected.error is not None:
                outcomes[number] = inspected
                continue
            result, case_voxels = inspected.result
            if result is None:
                voxels[number] = case_voxels
            else:
                outcomes[number] = CaseOutcome(result)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    done_before = sum(outcome.error is None for outcome in outcomes.values())
    if done_before:
        log.info(f'{stage}: {done_before} of {len(cases)} cases were done before')
    return outcomes, voxels


def inspect_case(
    case: Any, check_case: Callable | None, find_result: Callable | None, needs_voxels: bool
) -> tuple[Any, int]:
    """Log the warnings about a case; return its earlier result or None, and its voxels if it has none."""
    for warning in check_case(case) if check_case else ():
        log.warning(one_line(f'warning: {case.name}: {warning}'))
    result = find_result(case) if find_result else None
    return result, case.voxels if result is None and needs_voxels else 0


def log_outcome(case: Any, outcome: CaseOutcome) -> CaseOutcome:
    """Write the records of an outcome and its error to the log; return the outcome without the records."""
    for level, text in outcome.log_records:
        log.log(level, text)
    if outcome.error is not None:
        log.error(one_line(f'{case.name}: {outcome.error}'))
    return CaseOutcome(outcome.result, outcome.error)


def choose_engine(
    case_steps: CaseSteps,
    cases: Sequence[Any],
    voxels: dict[int, int],
    stage: str,
    overlap: bool,
    workers: Workers | None,
    show_case: Callable[[Any], None],
) -> Iterator[tuple[int, CaseOutcome]]:
    """Return the engine that runs the cases, a generator of (number of a case, CaseOutcome).

    Args:
        case_steps: the steps of every case.
        cases: all cases.
        voxels: the numbers of the cases to be run, with the voxels of their CTs. Where several processes share the
            cases, the largest are started first.
        stage: what the log calls this work.
        overlap, workers: as in run_cases().
        show_case: shows the name of the case that this process works on.
    """
    run_here = run_overlapped if overlap else run_one_by_one
    to_do = [(number, cases[number]) for number in voxels]
    largest_first = [(number, cases[number]) for number in sorted(voxels, key=voxels.get, reverse=True)]
    if distributed.world_size() > 1:
        assigned = iterate_assigned(largest_first, case_steps.find_result, stage)
        return run_here(case_steps.steps, assigned, show_case)
    if workers and to_do:
        peaks = [WORKER_BYTES + workers.bytes_per_voxel * voxels[number] for number, _ in largest_first]
        if workers.dask_scheduler:
            return dask_cluster.run_on_cluster(case_steps, largest_first, stage, workers.dask_scheduler, peaks[0])
        number = count_processes(workers.num_workers, peaks, sum(voxels.values()), stage)
        if number > 1:
            threads = max(1, machine.cores() // number)
            return processes.run_in_processes(case_steps, largest_first, number, threads)
    return run_here(case_steps.steps, to_do, show_case)


def count_processes(num_workers: int, peaks: Sequence[float], voxels: float, stage: str) -> int:
    """Return how many processes to start for some cases, 0 or more, and log the reason.

    Args:
        num_workers: the parameter of that name.
        peaks: the memory of each case in bytes, the largest first.
        voxels: the voxels of all cases together.
        stage: what the log calls this work.
    """
    cores, free = machine.cores(), machine.free_memory()
    wanted = min(num_workers, cores, len(peaks), 1 + int(voxels // MIN_VOXELS_PER_WORKER))
    largest_peaks = peaks[: max(1, wanted)]
    fitting = sum(total <= free for total in accumulate(largest_peaks))
    memory = f'{sum(largest_peaks) / 1e9:.1f} GB for the largest cases of {free / 1e9:.1f} GB free'
    if not fitting:
        log.warning(f'warning: {stage}: one case at a time, {memory}')
    elif wanted > 1:
        reason = f'num_workers {num_workers}, {cores} cores'
        if fitting < wanted:
            reason += f'; {memory}'
        log.info(f'{stage}: {fitting} {"processes" if fitting > 1 else "process"} ({reason})')
    return fitting


def log_remaining_time(stage: str, case: Any, start: float, finished: int, total: int) -> None:
    """Log that a case is finished, and the time that the remaining cases of all ranks will take.

    Args:
        stage: what the log calls this work.
        case: the case that has just been finished.
        start: the time.monotonic() at which the first case was started.
        finished: the number of cases that this rank has finished.
        total: the number of cases of all ranks.
    """
    remaining_rounds = max(0, total / finished / distributed.world_size() - 1)
    remaining = tqdm.format_interval((time.monotonic() - start) * remaining_rounds)
    log.debug(one_line(f'{stage}: {case.name}, {finished} of {total}, {remaining} left'))


def merge_ranks(cases: Sequence[Any], outcomes: dict[int, CaseOutcome], on_result: Callable | None) -> None:
    """Add the outcomes of all ranks to those of the main process, and end the other ranks.

    The main process calls on_result for the new ones. Without torchrun nothing happens.
    """
    own = set(outcomes)
    for outcomes_of_rank in distributed.all_gather(outcomes):
        outcomes.update(outcomes_of_rank)
    if not distributed.is_main_process():
        distributed.finish()
        sys.exit()
    for number in sorted(set(outcomes) - own):
        if on_result and outcomes[number].error is None:
            on_result(cases[number], outcomes[number].result)
