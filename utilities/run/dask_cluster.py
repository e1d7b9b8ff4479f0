"""Run cases on the workers of a Dask cluster."""

import asyncio
import json
import logging
import os
import pickle
import threading
from collections import deque
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path

import cloudpickle

from utilities.base import environment, folder_lock
from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.run.steps import KILLED, failed, iterate_completed, outcome_of, run_steps, run_with_captured_logs

SCHEDULER_TIMEOUT = 10  # seconds until a scheduler that does not answer is given up
ROOT = str(Path(__file__).resolve().parents[2])
GONE = 'dask_scheduler: {} is gone; start it again, then this command: what is finished is kept'


def run_on_cluster(steps, to_do, done, stage, scheduler, peak):
    """On the workers of a Dask cluster, a case for each of their threads, as far as they have `peak` bytes for each.

    Workers may come and go. The cases of one that is lost are done again by others, as often as the scheduler's allowed-failures says.
    """
    locks = [folder.absolute() / '.lock' for folder in folder_lock.written_folders]
    place = ROOT, os.getcwd(), [(str(path), path.read_text()) for path in locks]
    with connect_client(scheduler) as client:
        for worker, fault in client.run(as_worker_task(place), on_error='return').items():
            if fault:
                raise InputError(
                    f'dask_scheduler {scheduler}: its worker {worker} cannot work for this run with {ROOT}: {fault}'
                )

        def places():
            workers = client.scheduler_info()['workers'].values()
            return sum(max(1, int(min(w['nthreads'], (w['memory_limit'] or inf) // peak))) for w in workers) or 1

        def task(case):
            return as_worker_task(place, partial(run_with_captured_logs, partial(run_steps, steps, case, done)))

        def told(future):
            if future.cancelled():
                raise InputError(GONE.format(scheduler))
            return failed(KILLED) if type(future.exception()).__name__ == 'KilledWorker' else outcome_of(future)

        log.info(f'{stage}: {places()} at a time on the Dask cluster {scheduler}')
        try:
            for number, _, future in iterate_completed(client.get_executor(pure=False), places, task, deque(to_do)):
                yield number, partial(told, future)
        except OSError as error:
            raise InputError(f'{GONE.format(scheduler)} ({error})') from None


@contextmanager
def connect_client(scheduler):
    """Client of the Dask scheduler at an address, or of that in a scheduler file."""
    try:
        import dask
        import distributed
    except ImportError:
        raise InputError(
            "dask_scheduler: Dask is not installed; pip install -r requirements-dask.txt, or set dask_scheduler=''"
        ) from None
    for name in logging.root.manager.loggerDict:
        if name.startswith('distributed'):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what goes wrong is told here, in one line
    dask.config.set({'distributed.comm.timeouts.connect': SCHEDULER_TIMEOUT})
    try:
        address = json.loads(Path(scheduler).read_text())['address'] if scheduler.endswith('.json') else scheduler
        # first, since a client would wait without end for a server of another kind
        asyncio.run(asyncio.wait_for(distributed.comm.connect(address), SCHEDULER_TIMEOUT)).abort()
        client = distributed.Client(address, timeout=SCHEDULER_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = str(error) or type(error).__name__
        raise InputError(f'dask_scheduler: wanted a Dask scheduler at {scheduler}, found none ({why})') from None
    try:
        try:
            client.wait_for_workers(1, SCHEDULER_TIMEOUT)
        except TimeoutError:
            raise InputError(f'dask_scheduler: {scheduler} has no workers; start some with: dask worker') from None
        yield client
    finally:
        client.close(SCHEDULER_TIMEOUT)
        folder_lock.remove_partial_files()  # what a worker was at when it was killed


def as_worker_task(place, work=None):
    """A function for a Dask worker, which may know nothing of our modules, and have been started in any folder."""
    root, packed = ROOT, cloudpickle.dumps(work)

    def call():
        import sys

        if root not in sys.path:
            sys.path.insert(0, root)
        from utilities.run.dask_cluster import run_on_worker

        return run_on_worker(place, packed)

    return call


def run_on_worker(place, packed):
    """On a Dask worker: what was `sent`, in the folder in which the run was started. InputError if that is not on this machine."""
    root, folder, locks = place
    if root != ROOT:
        raise InputError(f'it works with the modules in {ROOT}; start it again')
    if not os.path.isdir(folder):
        raise InputError(f'it sees no folder {folder}')
    for path, holder in locks:
        if not os.path.isfile(path) or Path(path).read_text() != holder:
            raise InputError(f'it does not see the folder {os.path.dirname(path)} that the results go to')
    work = pickle.loads(packed)
    if work:
        environment.prepare()
        environment.limit_threads(1)
        with in_folder(folder):
            return work()


@contextmanager
def in_folder(folder):
    """A process has one working folder: cases of a run that was started in another wait for those under way."""
    with turn:
        turn.wait_for(lambda: not at_work or os.getcwd() == folder)
        os.chdir(folder)
        at_work.append(folder)
    try:
        yield
    finally:
        with turn:
            at_work.remove(folder)
            turn.notify_all()


turn, at_work = threading.Condition(), []
