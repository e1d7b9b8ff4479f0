"""Run cases on the workers of a Dask cluster."""

import asyncio
import json
import logging
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from utilities.base import environment, folder_lock
from utilities.base.errors import InputError
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

if TYPE_CHECKING:
    from distributed import Client

SCHEDULER_TIMEOUT = 10  # seconds after which a scheduler that does not answer is given up
ROOT = str(Path(__file__).resolve().parents[2])
SCHEDULER_GONE = 'dask_scheduler: {} is gone; start it again, then this command: what is finished is kept'

# A process has one working folder, but a worker may serve runs that were started in different folders.
folder_change = threading.Condition()
folders_in_use = []  # the folder of every case that runs now; all are the same


def run_on_cluster(
    case_steps: CaseSteps, to_do: Sequence[NumberedCase], stage: str, scheduler: str, peak: float
) -> Iterator[tuple[int, CaseOutcome]]:
    """Take cases through their steps on the workers of a Dask cluster; an engine as in steps.py.

    Every thread of a worker takes a case, as long as the worker has `peak` bytes of memory for each. Workers may come
    and go. The cases of a worker that is lost are done again by others, as often as the scheduler's allowed-failures
    says.

    Args:
        case_steps: the steps, which must be possible to pickle, as their results must.
        to_do: the cases; the largest come first.
        stage: what the log calls this work.
        scheduler: the address of the scheduler, or its file (.json).
        peak: the most bytes of memory that a case needs.
    Raises InputError if the cluster cannot be reached, or a worker cannot work for this run.
    """
    requirements = worker_requirements()
    with connect_client(scheduler) as client:
        require_suitable_workers(client, scheduler, requirements)
        executor = client.get_executor(pure=False)

        def submit_case(case: Any) -> Future:
            work = partial(run_with_captured_logs, case_steps.run, case)
            return submit(executor, as_worker_task(requirements, work))

        max_in_flight = partial(count_free_places, client, peak)
        log.info(f'{stage}: {max_in_flight()} at a time on the Dask cluster {scheduler}')
        try:
            for number, _, future in iterate_completed(submit_case, deque(to_do), max_in_flight):
                if future.cancelled():
                    raise InputError(SCHEDULER_GONE.format(scheduler))
                if type(future.exception()).__name__ == 'KilledWorker':
                    yield number, CaseOutcome(error=KILLED)
                else:
                    yield number, outcome_of(future)
        except OSError as error:
            raise InputError(f'{SCHEDULER_GONE.format(scheduler)} ({error})') from None


def worker_requirements() -> dict[str, Any]:
    """Return what a worker must have to work for this run.

    These are plain values, since they are sent to workers that may not know our modules.
    """
    locks = [folder.absolute() / '.lock' for folder in folder_lock.written_folders]
    return {'root': ROOT, 'working_folder': os.getcwd(), 'locks': {str(path): path.read_text() for path in locks}}


def require_suitable_workers(client: 'Client', scheduler: str, requirements: dict[str, Any]) -> None:
    """Raise InputError if a worker of the cluster has not what this run requires."""
    for worker, error in client.run(as_worker_task(requirements), on_error='return').items():
        if error:
            raise InputError(
                f'dask_scheduler {scheduler}: its worker {worker} cannot work for this run with {ROOT}: {error}'
            )


def count_free_places(client: 'Client', peak: float) -> int:
    """Return how many cases of `peak` bytes the cluster can run at once, 1 or more."""
    workers = client.scheduler_info()['workers'].values()
    return sum(max(1, int(min(w['nthreads'], (w['memory_limit'] or inf) // peak))) for w in workers) or 1


@contextmanager
def connect_client(scheduler: str) -> Iterator['Client']:
    """Yield a client of the Dask scheduler at an address, or of the one that a scheduler file (.json) names.

    Raises InputError if Dask is not installed, the scheduler does not answer, or it has no workers.
    """
    try:
        import dask
        import distributed
    except ImportError:
        raise InputError(
            "dask_scheduler: Dask is not installed; pip install -r requirements-dask.txt, or set dask_scheduler=''"
        ) from None
    for name in logging.root.manager.loggerDict:
        if name.startswith('distributed'):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # Our errors report faults in one line.
    dask.config.set({'distributed.comm.timeouts.connect': SCHEDULER_TIMEOUT})
    try:
        address = json.loads(Path(scheduler).read_text())['address'] if scheduler.endswith('.json') else scheduler
        # A client would wait forever for a server of another kind, so a plain connection is tried first.
        asyncio.run(asyncio.wait_for(distributed.comm.connect(address), SCHEDULER_TIMEOUT)).abort()
        client = distributed.Client(address, timeout=SCHEDULER_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f'dask_scheduler: wanted a Dask scheduler at {scheduler}, found none ({reason})') from None
    try:
        try:
            client.wait_for_workers(1, SCHEDULER_TIMEOUT)
        except TimeoutError:
            raise InputError(f'dask_scheduler: {scheduler} has no workers; start some with: dask worker') from None
        yield client
    finally:
        client.close(SCHEDULER_TIMEOUT)
        folder_lock.remove_partial_files()  # of workers that were killed


def as_worker_task(requirements: dict[str, Any], work: Callable | None = None) -> Callable:
    """Return a function that checks the requirements on a Dask worker and then returns work(), if there is any.

    A nested function is sent as its code, not by the name of its module, which a worker may be unable to import.
    """
    root, pickled_work = ROOT, cloudpickle.dumps(work)

    def task() -> Any:
        import sys

        if root not in sys.path:
            sys.path.insert(0, root)
        from utilities.run.dask_cluster import run_on_worker

        return run_on_worker(requirements, pickled_work)

    return task


def run_on_worker(requirements: dict[str, Any], pickled_work: bytes) -> Any:
    """Return the result of the work, done on a Dask worker in the folder in which the run was started.

    Raises InputError if the worker uses other modules, or does not see the run's folders.
    """
    if requirements['root'] != ROOT:
        raise InputError(f'it works with the modules in {ROOT}; start it again')
    folder = requirements['working_folder']
    if not os.path.isdir(folder):
        raise InputError(f'it sees no folder {folder}')
    for path, owner in requirements['locks'].items():
        if not os.path.isfile(path) or Path(path).read_text() != owner:
            raise InputError(f'it does not see the folder {os.path.dirname(path)} that the results go to')
    environment.prepare()
    environment.limit_threads(1)
    work = pickle.loads(pickled_work)
    if work is None:
        return None
    with working_folder(folder):
        return work()


@contextmanager
def working_folder(folder: str) -> Iterator[None]:
    """Change to a folder, after the cases of runs that were started in other folders have ended."""
    with folder_change:
        folder_change.wait_for(lambda: not folders_in_use or os.getcwd() == folder)
        os.chdir(folder)
        folders_in_use.append(folder)
    try:
        yield
    finally:
        with folder_change:
            folders_in_use.remove(folder)
            folder_change.notify_all()
