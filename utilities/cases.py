"""Steps over many cases: the only place that knows how they are run. A bad case never stops the others."""
import errno
import shlex
import sys
import time
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

from tqdm import tqdm

from utilities.errors import InputError, one_line
from utilities.log import log, progress

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def run(steps, cases, stage, overlap=False, check=None, done=None):
    """Take each case through the steps, with a progress bar. Returns (results, failures): failures are (name, reason), both in order.

    steps: one function of a case, or a list: the first of a case, each other of the case and what the step before returned.
    overlap: the steps run side by side, so that the next case is read while this one computes and the last one is written.
    check: function of a case that returns warnings; all cases are checked first, and one that fails takes no step.
    done: function of a case that returns the result of an earlier run, or None; a case that has one takes no step.
    A disk without room ends the run with its OSError, and so does memory of the GPU: every other case would fail as well.
    """
    steps = [steps] if callable(steps) else steps
    results, failures = {}, {}  # by the number of the case

    def attempt(number, work):
        try:
            results[number] = work()
            return
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            why = str(error)
        except (InputError, MemoryError) as error:
            why = str(error) or 'out of memory'
        except Exception as error:
            if 'out of memory' in str(error):
                raise  # a window of every other case is as large
            # a fault of ours: told in full, and still no reason to lose the other cases
            log.error(traceback.format_exc())
            why = f'{type(error).__name__}: {error}'
        failures[number] = (cases[number].name, why)
        log.error(one_line(f'{cases[number].name}: {why}'))

    def earlier(case):
        for warning in check(case) if check else ():
            log.warning(one_line(f'warning: {case.name}: {warning}'))
        return done(case) if done else None

    for number, case in enumerate(cases):
        attempt(number, partial(earlier, case))
    results = {number: result for number, result in results.items() if result is not None}
    if results:
        log.info(f'{stage}: {len(results)} of {len(cases)} cases were done before')

    to_do = [number for number in range(len(cases)) if number not in results and number not in failures]
    start = time.monotonic()
    with progress(len(cases), stage, 'case', len(cases) - len(to_do)) as bar, \
            closing((overlapped if overlap else one_by_one)(steps, [cases[number] for number in to_do])) as under_way:
        for through, (number, (case, result)) in enumerate(zip(to_do, under_way), 1):
            bar.set_postfix_str(one_line(case.name))
            attempt(number, result)
            bar.update()
            left = (time.monotonic() - start) / through * (len(to_do) - through)
            log.debug(one_line(f'{stage}: {case.name}, {through} of {len(to_do)}, {tqdm.format_interval(left)} left'))
    return [results[number] for number in sorted(results)], [failures[number] for number in sorted(failures)]


def one_by_one(steps, cases):
    """(case, function that computes and returns its result)."""
    def through(case):
        result = steps[0](case)
        for step in steps[1:]:
            result = step(case, result)
        return result

    for case in cases:
        yield case, partial(through, case)


def overlapped(steps, cases):
    """(case, function that waits for its result), in order; a thread for each step, and no more cases under way than steps."""
    threads = [ThreadPoolExecutor(1) for _ in steps]
    try:
        under_way = deque()
        for case in cases:
            result = threads[0].submit(steps[0], case)
            for thread, step in zip(threads[1:], steps[1:]):
                result = thread.submit(lambda step, case, before: step(case, before.result()), step, case, result)
            under_way.append((case, result.result))
            if len(under_way) == len(steps):
                yield under_way.popleft()
        yield from under_way
    finally:
        for thread in threads:
            thread.shutdown(wait=False, cancel_futures=True)  # a run that was stopped waits for no step


def report(done, failures, wrote, following):
    """Last lines of a script: what was written, what failed and why, which command comes next. Returns the exit status."""
    if done:
        log.info(one_line(f'{done} case{"s" * (done != 1)} written to {wrote}'))
    for name, why in failures:
        log.info(one_line(f'failed: {name}: {why}'))
    if done:
        print_next(following)
    return 1 if failures or not done else 0


def print_next(command):
    """The command that comes next, with this run's own overrides."""
    log.info(one_line(f'next: {shlex.join([*command.split(), *sys.argv[1:]])}'))
