"""Where the steps of a case run: here, here side by side, in worker processes, on a Dask cluster. utilities/cases.py chooses.

Each engine yields (number of a case, function that gives its outcome) as cases get ready. An outcome is (result, None, lines) or
(None, why it failed, lines): lines are (level, text) of the log, said in a worker.
"""
import asyncio
import errno
import json
import logging
import os
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path

import cloudpickle
from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from utilities import lock, machine, ranks
from utilities.errors import InputError, one_line
from utilities.log import log

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PATIENCE = 10  # seconds until a scheduler that does not answer is given up
ROOT = str(Path(__file__).resolve().parents[1])
SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
KILLED = 'the process that worked on it was killed, and again: out of memory?'
GONE = 'dask_scheduler: {} is gone; start it again, then this command: what is finished is kept'


def attempt(work):
    """(what work() returns, None), or (None, why it failed). A disk without room and a GPU out of memory raise: all cases would fail."""
    try:
        return work(), None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        return None, str(error)
    except (InputError, MemoryError) as error:
        return None, str(error) or 'out of memory'
    except Exception as error:
        if 'out of memory' in str(error):
            raise  # a window of every other case is as large
        # a fault of ours: told in full, and still no reason to lose the other cases
        log.error(traceback.format_exc())
        return None, f'{type(error).__name__}: {error}'


def here(work):
    """Outcome of work(); what it says is said at once."""
    return *attempt(work), []


def aside(work):
    """Outcome of work(), with what this thread said meanwhile, for another process to say, or this one in its turn."""
    kept.lines = []
    try:
        return *attempt(work), kept.lines
    finally:
        del kept.lines


def is_said(record):
    """Keep a line of a thread that is `aside`."""
    if not hasattr(kept, 'lines'):
        return True
    kept.lines.append((record.levelno, record.getMessage()))
    return False


kept = threading.local()
log.addFilter(is_said)


def through(steps, case, done=None):
    """The result of the last step, or of an earlier run: in a worker `done` is asked again, since it notes what the case is made from."""
    result = done(case) if done else None
    if result is None:
        result = steps[0](case)
        for step in steps[1:]:
            result = step(case, result)
    return result


def one_by_one(steps, to_do):
    """to_do: (number, case) in order, as for all engines."""
    for number, case in to_do:
        yield number, partial(here, partial(through, steps, case))


def overlapped(steps, to_do):
    """In order; a thread for each step, and no more cases under way than steps."""
    threads = [ThreadPoolExecutor(1) for _ in steps]
    try:
        under_way = deque()
        for number, case in to_do:
            result = threads[0].submit(steps[0], case)
            for thread, step in zip(threads[1:], steps[1:]):
                result = thread.submit(lambda step, case, before: step(case, before.result()), step, case, result)
            under_way.append((number, partial(here, result.result)))
            if len(under_way) == len(steps):
                yield under_way.popleft()
        yield from under_way
    finally:
        for thread in threads:
            thread.shutdown(wait=False, cancel_futures=True)  # a run that was stopped waits for no step


def taken(to_do, done, counter):
    """Those of to_do that this rank takes, one after the other, while the other ranks take others."""
    while (place := ranks.take(counter)) < len(to_do):
        number, case = to_do[place]
        if done:
            done(case)  # notes what the case is made from
        yield number, case


def spread(executor, places, task, waiting):
    """(number, case, its future) as each gets ready; waiting: a deque of (number, case), places(): how many may be under way at a time.

    task: of a case, what the executor is to call.
    """
    under_way = {}
    while True:
        free = places() - len(under_way) if waiting else 0
        for number, case in [waiting.popleft() for _ in range(min(free, len(waiting)))]:
            under_way[submitted(executor, task(case))] = number, case
        if not under_way:
            return
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            yield *under_way.pop(future), future


def submitted(executor, work):
    """The future of work(), also where the executor is found broken only now."""
    # the signals that end a run reach all its processes: those that are started here inherit the mask, and are ended by this one
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return executor.submit(work)
    except TerminatedWorkerError as error:
        future = Future()
        future.set_exception(error)
        return future
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def outcome(future):
    """Of a worker; what did not even come back is a failure of its case."""
    returned, why = attempt(future.result)
    return returned or (None, why, [])


def in_processes(steps, to_do, done, number, threads):
    """In `number` worker processes of this machine, each with so many threads.

    When one is killed, the cases that were under way are done again, each in a process of its own; one that is killed again is a failure.
    """
    def task(case):
        return partial(aside, partial(through, steps, case, done))

    waiting = deque(to_do)
    while waiting:
        lost = []
        with processes(number, threads) as executor:
            for each, case, future in spread(executor, lambda: 0 if lost else number, task, waiting):
                if isinstance(future.exception(), TerminatedWorkerError):
                    lost.append((each, case))
                else:
                    yield each, partial(outcome, future)
        if lost:
            number = max(1, number - 1)
            names = ' or '.join(case.name for _, case in lost)
            log.warning(one_line(f'warning: a process that worked on {names} was killed, out of memory perhaps; going on with {number}'))
        for each, case in lost:
            with processes(1, threads) as executor:
                future = submitted(executor, task(case))
                again = isinstance(future.exception(), TerminatedWorkerError)
                yield each, partial(failed, KILLED) if again else partial(outcome, future)


def failed(why):
    return None, why, []


@contextmanager
def processes(number, threads):
    """An executor of worker processes, which end with it, and with this process, however that ends."""
    os.environ.setdefault('PYTHONWARNINGS', 'ignore:resource_tracker')  # the process that clears up after a stop says so
    executor = ProcessPoolExecutor(number, initializer=begin, initargs=(os.getpid(), threads))
    try:
        with warnings.catch_warnings(action='ignore'):  # it renews a worker that keeps memory
            yield executor
    finally:
        executor.shutdown(kill_workers=True)
        lock.leave_nothing_half_written()  # what a worker was at when it was killed


def begin(parent, threads):
    """In a worker process, before its first case."""
    def end_with_parent():
        while os.getppid() == parent:
            time.sleep(0.3)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    machine.limit_threads(threads)


def on_cluster(steps, to_do, done, stage, scheduler, peak):
    """On the workers of a Dask cluster, a case for each of their threads, as far as they have `peak` bytes for each.

    Workers may come and go. The cases of one that is lost are done again by others, as often as the scheduler's allowed-failures says.
    """
    locks = [folder.absolute() / '.lock' for folder in lock.written_to]
    place = ROOT, os.getcwd(), [(str(path), path.read_text()) for path in locks]
    with client_of(scheduler) as client:
        for worker, fault in client.run(sent(place), on_error='return').items():
            if fault:
                raise InputError(f'dask_scheduler {scheduler}: its worker {worker} cannot work for this run with {ROOT}: {fault}')

        def places():
            workers = client.scheduler_info()['workers'].values()
            return sum(max(1, int(min(w['nthreads'], (w['memory_limit'] or inf) // peak))) for w in workers) or 1

        def task(case):
            return sent(place, partial(aside, partial(through, steps, case, done)))

        def told(future):
            if future.cancelled():
                raise InputError(GONE.format(scheduler))
            return failed(KILLED) if type(future.exception()).__name__ == 'KilledWorker' else outcome(future)

        log.info(f'{stage}: {places()} at a time on the Dask cluster {scheduler}')
        try:
            for number, _, future in spread(client.get_executor(pure=False), places, task, deque(to_do)):
                yield number, partial(told, future)
        except OSError as error:
            raise InputError(f'{GONE.format(scheduler)} ({error})') from None


@contextmanager
def client_of(scheduler):
    """Client of the Dask scheduler at an address, or of that in a scheduler file."""
    try:
        import dask
        import distributed
    except ImportError:
        raise InputError("dask_scheduler: Dask is not installed; pip install -r requirements-dask.txt, or set dask_scheduler=''") from None
    for name in logging.root.manager.loggerDict:
        if name.startswith('distributed'):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what goes wrong is told here, in one line
    dask.config.set({'distributed.comm.timeouts.connect': PATIENCE})
    try:
        address = json.loads(Path(scheduler).read_text())['address'] if scheduler.endswith('.json') else scheduler
        # first, since a client would wait without end for a server of another kind
        asyncio.run(asyncio.wait_for(distributed.comm.connect(address), PATIENCE)).abort()
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = str(error) or type(error).__name__
        raise InputError(f'dask_scheduler: wanted a Dask scheduler at {scheduler}, found none ({why})') from None
    try:
        try:
            client.wait_for_workers(1, PATIENCE)
        except TimeoutError:
            raise InputError(f'dask_scheduler: {scheduler} has no workers; start some with: dask worker') from None
        yield client
    finally:
        client.close(PATIENCE)
        lock.leave_nothing_half_written()  # what a worker was at when it was killed


def sent(place, work=None):
    """A function for a Dask worker, which may know nothing of our modules, and have been started in any folder."""
    root, packed = ROOT, cloudpickle.dumps(work)

    def call():
        import sys
        if root not in sys.path:
            sys.path.insert(0, root)
        from utilities.engines import in_place
        return in_place(place, packed)

    return call


def in_place(place, packed):
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
        machine.limit_threads(1)
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
