"""Every stage beside the plain way of doing it, at the size of a LiTS case: seconds, peak memory, and whether the results agree.

Out:  benchmarks/results.md, benchmarks/results.json, the table in docs/speed.md

    python benchmarks/benchmark.py                      about a quarter of an hour on two cores
    python benchmarks/benchmark.py --full               each way more often
    python benchmarks/benchmark.py --only=zoom,crf_3d   prints these alone, writes nothing
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numba
import numpy
import torch
from tqdm import tqdm

from benchmarks.stages import STAGES
from tools.documentation import replace_table
from utilities.base.atomic_write import atomic_write

FOLDER = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--full', action='store_true', help='each way more often')
    parser.add_argument('--only', default='', help=f'of {", ".join(STAGES)}')
    options = parser.parse_args()
    names = options.only.split(',') if options.only else list(STAGES)
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f'--only: wanted names of {", ".join(STAGES)}, got {", ".join(unknown)}')

    rows = []
    for name in (bar := tqdm(names, desc='benchmark', unit='stage')):
        bar.set_postfix_str(name)
        done = subprocess.run(
            [sys.executable, FOLDER / 'stages.py', name, *['--full'] * options.full], stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f'error: stage {name} ended with status {done.returncode}')
        rows += json.loads(done.stdout.splitlines()[-1])
    text = '\n'.join([*map('| {} |'.format, map(' | '.join, table(rows))), '', machine()])
    print(text)
    if not options.only:
        with atomic_write(FOLDER / 'results.json') as part:
            part.write_text(json.dumps({'machine': machine(), 'rows': rows}, indent=1) + '\n')
        with atomic_write(FOLDER / 'results.md') as part:
            part.write_text(text + '\n')
        replace_table('benchmark', text)
        print(f'written: {FOLDER / "results.md"}, results.json and the table of docs/speed.md; next: make readme')


def table(rows):
    yield 'stage', 'plain, s', 'ours, s', 'ratio', 'wanted', 'plain, MB', 'ours, MB', 'agreement'
    yield ('---', *['--:'] * 3, '---', *['--:'] * 2, '---')
    for row in rows:
        if 'ours_s' not in row:
            yield row['stage'], 'not measured', *[''] * 6
            continue
        name, goal = (
            ', '.join(filter(None, (row['stage'], row.get('size')))),
            row['goal'] + ('' if row['reached'] else ' **missed**'),
        )
        plain_s, ratio, plain_mb = '', '', ''
        if 'plain_s' in row:
            plain_s, ratio, plain_mb = (
                f'{row["plain_s"]:.3g}',
                f'{row["plain_s"] / row["ours_s"]:.1f}',
                f'{row["plain_mb"]:,.0f}',
            )
        yield name, plain_s, f'{row["ours_s"]:.3g}', ratio, goal, plain_mb, f'{row["ours_mb"]:,.0f}', row['agreement']


def machine():
    """What it was measured on."""
    model = next(
        (line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name')),
        platform.processor(),
    )
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'no GPU'
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return (
        f'{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {gpu}; Python {platform.python_version()}, '
        f'torch {torch.__version__}, numpy {numpy.__version__}, numba {numba.__version__}. Seconds: medians of runs in turn; '
        'MB: peak over what was there before; of val.py, and where there is no plain way, of the whole process.'
    )


if __name__ == '__main__':
    main()
