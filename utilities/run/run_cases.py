"""Steps over many cases: the only place that knows how they are run. A bad case never stops the others."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from tqdm import tqdm

from utilities.base import distributed, machine
from utilities.base.errors import one_line
from utilities.base.log import log, progress_bar
from utilities.run import dask_cluster, processes
from utilities.run import steps as case_steps

PRECHECK_THREADS = 8  # cases looked at side by side: each is a wait for the disk
MIN_VOXELS_PER_WORKER = 400e6  # voxels whose work is longer than the start of one more process: three or four CTs
WORKER_BYTES = 550e6  # of a worker process without a case: Python with its libraries


@dataclass(frozen=True)
class Workers:
    """How a stage is spread: the parameters num_workers and dask_scheduler, and the most bytes that a case takes for a voxel of its CT.

    The cases of such a stage have a member `voxels`: of the CT, 0 where that is not known.
    """

    number: int
    scheduler: str
    bytes_per_voxel: float


def run_cases(steps, cases, stage, overlap=False, check=None, done=None, after=None, workers=None):
    """Take each case through the steps, with a progress bar. Returns (results, failures): failures are (name, reason), both in order.

    steps: one function of a case, or a list: the first of a case, each other of the case and what the step before returned.
    overlap: the steps run side by side, so that the next case is read while this one computes and the last one is written.
    check: function of a case that returns warnings; all cases are checked first, and one that fails takes no step.
    done: function of a case that returns the result of an earlier run, or None; a case that has one takes no step.
    after: function of a case and its result, called in this process for each that took its steps.
    workers: spread the cases over processes of this machine, or a Dask cluster; the steps and what they return must travel. Without, they
    stay in this process; under torchrun the ranks share them, the first gets all results, and the others end here.
    A disk without room ends the run with its OSError, and so does memory of the GPU: every other case would fail as well.
    """
    steps = [steps] if callable(steps) else steps
    results, failures = {}, {}  # by the number of the case

    def note(number, outcome):
        result, why, lines = outcome
        for level, line in lines:
            log.log(level, line)
        if why is None:
            results[number] = result
        else:
            failures[number] = (cases[number].name, why)
            log.error(one_line(f'{cases[number].name}: {why}'))

    def look(case):
        for warning in check(case) if check else ():
            log.warning(one_line(f'warning: {case.name}: {warning}'))
        result = done(case) if done else None
        return result, case.voxels if result is None and (workers or distributed.world_size() > 1) else 0

    threads = ThreadPoolExecutor(PRECHECK_THREADS)
    try:
        for number, looked in enumerate(
            [
                threads.submit(case_steps.run_with_captured_logs, partial(look, case))
                for case in cases
                if distributed.is_main_process()
            ]
        ):
            note(number, looked.result())
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    voxels = {number: size for number, (result, size) in results.items() if result is None}
    results = {number: result for number, (result, _) in results.items() if result is not None}
    if results:
        log.info(f'{stage}: {len(results)} of {len(cases)} cases were done before')

    voxels = distributed.broadcast(voxels)
    before, start = set(results), time.monotonic()
    with (
        progress_bar(len(cases), stage, 'case', len(cases) - len(voxels)) as bar,
        closing(choose_engine(steps, cases, voxels, stage, overlap, done, workers)) as under_way,
    ):
        for through, (number, outcome) in enumerate(under_way, 1):
            bar.set_postfix_str(one_line(cases[number].name))
            note(number, outcome())
            if after and number in results:
                after(cases[number], results[number])
            bar.update()
            left = (time.monotonic() - start) * max(0, len(voxels) / through / distributed.world_size() - 1)
            log.debug(
                one_line(
                    f'{stage}: {cases[number].name}, {through} of {len(voxels)}, {tqdm.format_interval(left)} left'
                )
            )

    before |= set(results)
    for theirs in distributed.all_gather((results, failures)):
        results |= theirs[0]
        failures |= theirs[1]
    if not distributed.is_main_process():
        distributed.finish()
        sys.exit()
    for number in sorted(set(results) - before) if after else ():
        after(cases[number], results[number])
    return [results[number] for number in sorted(results)], [failures[number] for number in sorted(failures)]


def choose_engine(steps, cases, voxels, stage, overlap, done, workers):
    """How the cases are run; voxels: number of a case that is still to be done -> voxels of its CT."""
    here = case_steps.run_overlapped if overlap else case_steps.run_one_by_one
    to_do = [(number, cases[number]) for number in voxels]
    largest = sorted(to_do, key=lambda each: -voxels[each[0]])
    if distributed.world_size() > 1:
        return here(steps, case_steps.iterate_assigned(largest, done, stage))
    if workers and to_do:
        peaks = [WORKER_BYTES + workers.bytes_per_voxel * voxels[number] for number, _ in largest]
        if workers.scheduler:
            return dask_cluster.run_on_cluster(steps, largest, done, stage, workers.scheduler, peaks[0])
        number = count_processes(workers.number, peaks, sum(voxels.values()), stage)
        if number > 1:
            return processes.run_in_processes(steps, largest, done, number, max(1, machine.cores() // number))
    return here(steps, to_do)


def count_processes(num_workers, peaks, voxels, stage):
    """Processes for cases that take so many bytes each, the largest first, and have so many voxels in all; a line tells why."""
    cores, free = machine.cores(), machine.free_memory()
    wanted = min(num_workers, cores, len(peaks), 1 + int(voxels // MIN_VOXELS_PER_WORKER))
    fitting = sum(bytes <= free for bytes in accumulate(peaks[: max(1, wanted)]))
    memory = f'{sum(peaks[: max(1, wanted)]) / 1e9:.1f} GB for the largest cases of {free / 1e9:.1f} GB free'
    if not fitting:
        log.warning(f'warning: {stage}: one case at a time, {memory}')
    elif wanted > 1:
        log.info(
            f'{stage}: {fitting} process{"es" * (fitting > 1)} (num_workers {num_workers}, {cores} cores'
            + f'; {memory})' * (fitting < wanted)
            + ')' * (fitting == wanted)
        )
    return fitting
