"""One function over many cases: the only place that knows how they are run. A bad case never stops the others."""
import shlex
import sys
import traceback

from tqdm import tqdm

from utilities.errors import InputError


def run(function, cases, stage):
    """function(case) for each case, with a progress bar. Returns (results, failures): failures are (name, reason)."""
    results, failures = [], []
    bar = tqdm(cases, desc=stage, unit='case', file=sys.stderr)
    for case in bar:
        bar.set_postfix_str(case.name)
        try:
            results.append(function(case))
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
    return results, failures


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
