"""Run cases in worker processes of this machine."""

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from utilities.base import environment, folder_lock
from utilities.base.errors import one_line
from utilities.base.log import log
from utilities.run.steps import (
    KILLED,
    CaseOutcome,
    CaseSteps,
    NumberedCase,
    iterate_completed,
    outcome_of,
    run_with_captured_logs,
    submit,
)

PARENT_CHECK_INTERVAL = 0.3  # seconds after which a worker looks again whether its parent lives


def run_in_processes(
    case_steps: CaseSteps, to_do: Sequence[NumberedCase], workers: int, threads: int
) -> Iterator[tuple[int, CaseOutcome]]:
    """Take cases through their steps in `workers` processes with `threads` threads each; an engine as in steps.py.

    When a worker is killed, all cases that were being computed are repeated, each in a process of its own. A case whose
    process is killed again fails. The other cases go on with one worker fewer.
    """
    waiting = deque(to_do)
    while waiting:
        interrupted = []
        yield from run_in_pool(case_steps, waiting, interrupted, workers, threads)
        if interrupted:
            workers = max(1, workers - 1)
            names = ' or '.join(case.name for _, case in interrupted)
            reason = f'a process that worked on {names} was killed, out of memory perhaps'
            log.warning(one_line(f'warning: {reason}; going on with {workers}'))
        for repeated in interrupted:
            interrupted_again = []
            yield from run_in_pool(case_steps, deque([repeated]), interrupted_again, 1, threads)
            for number, _ in interrupted_again:
                yield number, CaseOutcome(error=KILLED)


def run_in_pool(
    case_steps: CaseSteps, waiting: deque, interrupted: list[NumberedCase], workers: int, threads: int
) -> Iterator[tuple[int, CaseOutcome]]:
    """Take cases through their steps in one pool of workers, until all have ended or a worker was killed.

    Args:
        case_steps: the steps of every case.
        waiting: the cases; those that were started are removed from it.
        interrupted: the cases that were being computed when a worker was killed are appended to it.
        workers: the number of worker processes.
        threads: the number of threads of each.
    """
    with process_pool(workers, threads) as executor:

        def submit_case(case: Any) -> Future:
            return submit(executor, run_with_captured_logs, case_steps.run, case)

        def max_in_flight() -> int:
            return 0 if interrupted else workers  # A pool that lost a worker takes no more cases.

        for number, case, future in iterate_completed(submit_case, waiting, max_in_flight):
            if isinstance(future.exception(), TerminatedWorkerError):
                interrupted.append((number, case))
            else:
                yield number, outcome_of(future)


@contextmanager
def process_pool(workers: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Yield an executor whose worker processes end with the block, and with this process, however it ends."""
    executor = ProcessPoolExecutor(workers, initializer=initialise_worker, initargs=(os.getpid(), threads))
    try:
        # loky warns when it replaces a worker whose memory keeps growing.
        with warnings.catch_warnings(action='ignore'):
            yield executor
    finally:
        executor.shutdown(kill_workers=True)
        folder_lock.remove_partial_files()  # of workers that were killed


def initialise_worker(parent: int, threads: int) -> None:
    """Prepare a worker process before its first case; parent: the process id of the run."""
    environment.prepare()
    environment.limit_threads(threads)
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End this process as soon as its parent has ended."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_INTERVAL)
    os._exit(1)
