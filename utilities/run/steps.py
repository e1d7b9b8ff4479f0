"""Run the steps of one case, and iterate over the outcomes of many."""

import signal
import traceback
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial

from joblib.externals.loky.process_executor import TerminatedWorkerError

from utilities.base import distributed
from utilities.base.errors import DISK_FULL_ERRORS, InputError
from utilities.base.log import capture_log, log

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
KILLED = 'the process that worked on it was killed, and again: out of memory?'


def attempt(work):
    """(what work() returns, None), or (None, why it failed). A disk without room and a GPU out of memory raise: all cases would fail."""
    try:
        return work(), None
    except OSError as error:
        if error.errno in DISK_FULL_ERRORS:
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


def run_directly(work):
    """Outcome of work(); what it says is said at once."""
    return *attempt(work), []


def run_with_captured_logs(work):
    """Run work() and return its outcome with the log records of this thread, which another process may log."""
    with capture_log() as records:
        return *attempt(work), records


def run_steps(steps, case, done=None):
    """The result of the last step, or of an earlier run: in a worker `done` is asked again, since it notes what the case is made from."""
    result = done(case) if done else None
    if result is None:
        result = steps[0](case)
        for step in steps[1:]:
            result = step(case, result)
    return result


def run_one_by_one(steps, to_do):
    """to_do: (number, case) in order, as for all engines."""
    for number, case in to_do:
        yield number, partial(run_directly, partial(run_steps, steps, case))


def run_overlapped(steps, to_do):
    """In order; a thread for each step, and no more cases under way than steps."""
    threads = [ThreadPoolExecutor(1) for _ in steps]
    try:
        under_way = deque()
        for number, case in to_do:
            result = threads[0].submit(steps[0], case)
            for thread, step in zip(threads[1:], steps[1:]):
                result = thread.submit(lambda step, case, before: step(case, before.result()), step, case, result)
            under_way.append((number, partial(run_directly, result.result)))
            if len(under_way) == len(steps):
                yield under_way.popleft()
        yield from under_way
    finally:
        for thread in threads:
            thread.shutdown(wait=False, cancel_futures=True)  # a run that was stopped waits for no step


def iterate_assigned(to_do, done, counter):
    """Those of to_do that this rank takes, one after the other, while the other ranks take others."""
    while (place := distributed.next_index(counter)) < len(to_do):
        number, case = to_do[place]
        if done:
            done(case)  # notes what the case is made from
        yield number, case


def iterate_completed(executor, places, task, waiting):
    """(number, case, its future) as each gets ready; waiting: a deque of (number, case), places(): how many may be under way at a time.

    task: of a case, what the executor is to call.
    """
    under_way = {}
    while True:
        free = places() - len(under_way) if waiting else 0
        for number, case in [waiting.popleft() for _ in range(min(free, len(waiting)))]:
            under_way[submit(executor, task(case))] = number, case
        if not under_way:
            return
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            yield *under_way.pop(future), future


def submit(executor, work):
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


def outcome_of(future):
    """Of a worker; what did not even come back is a failure of its case."""
    returned, why = attempt(future.result)
    return returned or (None, why, [])


def failed(why):
    return None, why, []
