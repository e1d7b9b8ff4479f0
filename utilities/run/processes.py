"""Where the steps of a case run: here, here side by side, in worker processes, on a Dask cluster. utilities/run/run_cases.py chooses.

Each engine yields (number of a case, function that gives its outcome) as cases get ready. An outcome is (result, None, lines) or
(None, why it failed, lines): lines are (level, text) of the log, said in a worker.
"""

import os
import threading
import time
import warnings
from collections import deque
from contextlib import contextmanager
from functools import partial

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from utilities.base import environment, folder_lock
from utilities.base.errors import one_line
from utilities.base.log import log
from utilities.run.steps import (
    KILLED,
    failed,
    iterate_completed,
    outcome_of,
    run_steps,
    run_with_captured_logs,
    submit,
)


def run_in_processes(steps, to_do, done, number, threads):
    """In `number` worker processes of this machine, each with so many threads.

    When one is killed, the cases that were under way are done again, each in a process of its own; one that is killed again is a failure.
    """

    def task(case):
        return partial(run_with_captured_logs, partial(run_steps, steps, case, done))

    waiting = deque(to_do)
    while waiting:
        lost = []
        with process_pool(number, threads) as executor:
            for each, case, future in iterate_completed(executor, lambda: 0 if lost else number, task, waiting):
                if isinstance(future.exception(), TerminatedWorkerError):
                    lost.append((each, case))
                else:
                    yield each, partial(outcome_of, future)
        if lost:
            number = max(1, number - 1)
            names = ' or '.join(case.name for _, case in lost)
            log.warning(
                one_line(
                    f'warning: a process that worked on {names} was killed, out of memory perhaps; going on with {number}'
                )
            )
        for each, case in lost:
            with process_pool(1, threads) as executor:
                future = submit(executor, task(case))
                again = isinstance(future.exception(), TerminatedWorkerError)
                yield each, partial(failed, KILLED) if again else partial(outcome_of, future)


@contextmanager
def process_pool(number, threads):
    """An executor of worker processes, which end with it, and with this process, however that ends."""
    executor = ProcessPoolExecutor(number, initializer=initialise_worker, initargs=(os.getpid(), threads))
    try:
        with warnings.catch_warnings(action='ignore'):  # it renews a worker that keeps memory
            yield executor
    finally:
        executor.shutdown(kill_workers=True)
        folder_lock.remove_partial_files()  # what a worker was at when it was killed


def initialise_worker(parent, threads):
    """In a worker process, before its first case."""

    def end_with_parent():
        while os.getppid() == parent:
            time.sleep(0.3)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    environment.prepare()
    environment.limit_threads(threads)
