"""Steps over many cases: the only place that knows how they are run. A bad case never stops the others."""
import shlex
import sys
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tqdm import tqdm

from utilities.errors import InputError


def run(steps, cases, stage, overlap=False):
    """Take each case through the steps, with a progress bar. Returns (results, failures): failures are (name, reason).

    steps: one function of a case, or a list: the first of a case, each other of the case and what the step before returned.
    overlap: the steps run side by side, so that the next case is read while this one computes and the last one is written.
    """
    steps = [steps] if callable(steps) else steps
    results, failures = [], []
    bar = tqdm(total=len(cases), desc=stage, unit='case', file=sys.stderr)
    for case, result in (overlapped if overlap else one_by_one)(steps, cases):
        bar.set_postfix_str(case.name)
        try:
            results.append(result())
        except (InputError, OSError, MemoryError) as error:
            failures.append((case.name, str(error) or type(error).__name__))
        except Exception as error:
            if 'out of memory' in str(error):
                raise  # a window of every other case is as large
            # a fault of ours: told in full, and still no reason to lose the other cases
            traceback.print_exc()
            failures.append((case.name, f'{type(error).__name__}: {error}'))
        if failures and failures[-1][0] == case.name:
            tqdm.write(f'{case.name}: {failures[-1][1]}', file=sys.stderr)
        bar.update()
    bar.close()
    return results, failures


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
            thread.shutdown(cancel_futures=True)


def report(done, failures, wrote, following):
    """Last lines of a script: what was written, what failed and why, which command comes next. Returns the exit status."""
    if done:
        print(f'{done} case{"s" * (done != 1)} written to {wrote}')
    for name, why in failures:
        print(f'failed: {name}: {why}')
    if done:
        print_next(following)
    return 1 if failures or not done else 0


def print_next(command):
    """The command that comes next, with this run's own overrides."""
    print('next:', shlex.join([*command.split(), *sys.argv[1:]]))
