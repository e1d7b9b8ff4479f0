"""Take one case through its steps, and many cases one after the other or overlapped in this process.

An engine is a generator of (number of a case, CaseOutcome) in the order in which the cases end. Those of this
module run in this process; processes.py and dask_cluster.py hold the others, and run_cases.py chooses one.
"""

import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from joblib.externals.loky.process_executor import TerminatedWorkerError

from utilities.base import distributed
from utilities.base.errors import DISK_FULL_ERRORS, InputError
from utilities.base.log import capture_log, log

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
SIGNAL_INTERVAL = 0.5  # seconds after which a waiting main thread looks for signals
KILLED = 'the process that worked on it was killed, and again: out of memory?'
NumberedCase = tuple[int, Any]  # the position of a case in the list given to run_cases(), and the case


@dataclass(frozen=True)
class CaseOutcome:
    """The result of a case, or the reason why it failed.

    Attributes:
        result: what the last step returned; None if the case failed.
        error: why the case failed; None if it did not.
        log_records: (level, text) of the records that this process has still to log, since a worker produced them.
    """

    result: Any = None
    error: str | None = None
    log_records: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class CaseSteps:
    """The steps that every case takes.

    Attributes:
        steps: functions; the first takes the case, every other the case and the result of the step before.
        find_result: a function of a case that returns the result of an earlier run, or None. A worker calls it again,
            since it also takes the fingerprints of the files that the case is made from.
    """

    steps: Sequence[Callable]
    find_result: Callable | None = None

    def run(self, case: Any) -> Any:
        """Return the result of the last step, or of an earlier run."""
        result = self.find_result(case) if self.find_result else None
        if result is not None:
            return result
        result = self.steps[0](case)
        for step in self.steps[1:]:
            result = step(case, result)
        return result


def as_outcome(function: Callable, *arguments: Any) -> CaseOutcome:
    """Call a function, and return its result or the reason why it failed.

    Raises the errors that every other case would meet too: a full disk, and a GPU out of memory.
    """
    try:
        return CaseOutcome(function(*arguments))
    except OSError as error:
        if error.errno in DISK_FULL_ERRORS:
            raise
        return CaseOutcome(error=str(error))
    except (InputError, MemoryError) as error:
        return CaseOutcome(error=str(error) or 'out of memory')
    except Exception as error:
        if 'out of memory' in str(error):
            raise  # PyTorch raises a RuntimeError; the windows of every other case are as large.
        # An error in our code: the traceback helps to correct it, and the other cases may still succeed.
        log.error(traceback.format_exc())
        return CaseOutcome(error=f'{type(error).__name__}: {error}')


def run_with_captured_logs(function: Callable, *arguments: Any) -> CaseOutcome:
    """Call a function as as_outcome() does, and return its log records with the outcome instead of writing them."""
    with capture_log() as records:
        outcome = as_outcome(function, *arguments)
    return replace(outcome, log_records=records)


def run_one_by_one(
    steps: Sequence[Callable], to_do: Iterable[NumberedCase], show_case: Callable[[Any], None]
) -> Iterator[tuple[int, CaseOutcome]]:
    """Take the cases through the steps, one after the other.

    Args:
        steps: as in CaseSteps.
        to_do: the cases, in this order.
        show_case: shows the name of a case; called before the engine computes the case or waits for it.
    """
    for number, case in to_do:
        show_case(case)
        yield number, as_outcome(CaseSteps(steps).run, case)


def run_overlapped(
    steps: Sequence[Callable], to_do: Iterable[NumberedCase], show_case: Callable[[Any], None]
) -> Iterator[tuple[int, CaseOutcome]]:
    """Take the cases through the steps in order, at most as many cases at once as there are steps.

    Every step has its own thread, so that one case is read while another is computed. The arguments are those of
    run_one_by_one().
    """
    threads = [ThreadPoolExecutor(1) for _ in steps]
    try:
        in_flight = deque()
        for number, case in to_do:
            future = threads[0].submit(steps[0], case)
            for thread, step in zip(threads[1:], steps[1:]):
                future = thread.submit(run_next_step, step, case, future)
            in_flight.append((number, case, future))
            if len(in_flight) == len(steps):
                yield wait_for_oldest(in_flight, show_case)
        while in_flight:
            yield wait_for_oldest(in_flight, show_case)
    finally:
        for thread in threads:
            thread.shutdown(wait=False, cancel_futures=True)  # A run that is stopped does not wait for its steps.


def run_next_step(step: Callable, case: Any, previous: Future) -> Any:
    """Run a step of a case as soon as the step before it has returned."""
    return step(case, previous.result())


def wait_for_oldest(in_flight: deque, show_case: Callable[[Any], None]) -> tuple[int, CaseOutcome]:
    """Remove the oldest (number, case, future) and return its number and outcome."""
    number, case, future = in_flight.popleft()
    show_case(case)
    wait_for_any([future])
    return number, as_outcome(future.result)


def wait_for_any(futures: Iterable[Future]) -> set[Future]:
    """Wait until at least one future is ready, and return those that are.

    The main thread waits in short intervals: Python does not handle a signal that arrives just before a wait until that
    wait ends, and the wait for a case may take minutes.
    """
    while not (ready := wait(futures, SIGNAL_INTERVAL, FIRST_COMPLETED).done):
        pass
    return ready


def iterate_assigned(
    to_do: Sequence[NumberedCase], find_result: Callable | None, counter: str
) -> Iterator[NumberedCase]:
    """Yield the cases that this rank computes: each rank takes the next one of `to_do` as soon as it is free.

    counter: the name of the number that the ranks share. find_result is called for each case, as in CaseSteps.
    """
    while (index := distributed.next_index(counter)) < len(to_do):
        number, case = to_do[index]
        if find_result:
            find_result(case)  # It takes the fingerprints of the files that the case is made from.
        yield number, case


def iterate_completed(
    submit_case: Callable[[Any], Future], waiting: deque, max_in_flight: Callable[[], int]
) -> Iterator[tuple[int, Any, Future]]:
    """Submit cases to an executor, and yield (number, case, its future) as soon as each has ended.

    Args:
        submit_case: a function of a case that returns its future.
        waiting: (number, case) of the cases; those that are submitted are removed from it.
        max_in_flight: returns the largest number of cases that may be submitted and not ended at this moment.
    """
    in_flight = {}
    while True:
        free = max_in_flight() - len(in_flight) if waiting else 0
        for _ in range(min(free, len(waiting))):
            number, case = waiting.popleft()
            in_flight[submit_case(case)] = number, case
        if not in_flight:
            return
        for future in wait_for_any(in_flight):
            yield *in_flight.pop(future), future


def submit(executor: Executor, function: Callable, *arguments: Any) -> Future:
    """Submit a call to an executor of worker processes; the future holds the error if a worker of it was killed."""
    # A signal that ends the run reaches all its processes. Workers that are started here inherit the blocked signals,
    # so that it is this process that ends them.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return executor.submit(function, *arguments)
    except TerminatedWorkerError as error:
        future = Future()
        future.set_exception(error)
        return future
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def outcome_of(future: Future) -> CaseOutcome:
    """Return the outcome that a worker sent back; a result that cannot be sent is a failure of its case."""
    received = as_outcome(future.result)
    return received.result if received.error is None else received
