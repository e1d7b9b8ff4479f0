"""Compare every stage with the plain way of doing it, at the size of a LiTS case: seconds, peak memory, agreement.

Out:  benchmarks/results.json and benchmarks/results.md; tools/benchmark_tables.py copies them to the documentation

    python benchmarks/benchmark.py                      three quarters of an hour on two cores
    python benchmarks/benchmark.py --full               more repeats
    python benchmarks/benchmark.py --only=zoom,crf_3d   only these stages; prints the table and writes nothing
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numba
import numpy
import torch
from tqdm import tqdm

from benchmarks.stages import NAMES, measure_stage
from utilities.base.atomic_write import atomic_write

FOLDER = Path(__file__).resolve().parent
COLUMNS = 'stage', 'plain, s', 'ours, s', 'ratio', 'wanted', 'plain, MB', 'ours, MB', 'agreement'
ALIGNMENT = '---', '--:', '--:', '--:', '---', '--:', '--:', '---'
REPEATS, FULL_REPEATS = 3, 5


def main() -> None:
    options = parse_arguments()
    repeats = FULL_REPEATS if options.full else REPEATS
    if options.stage:
        print_stage(options.stage, repeats)
        return
    rows = []
    for name in (bar := tqdm(options.only, desc='benchmark', unit='stage')):
        bar.set_postfix_str(name)
        rows += run_stage(name, options.full)
    text = '\n'.join([*(f'| {" | ".join(cells)} |' for cells in table(rows)), '', describe_machine()])
    print(text)
    if options.only == list(NAMES):
        write_results(rows, text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--full', action='store_true', help='more repeats')
    parser.add_argument('--only', default=','.join(NAMES), help=f'names of stages: {", ".join(NAMES)}')
    parser.add_argument('--stage', default='', help='measure one stage in this process and print its rows as JSON')
    options = parser.parse_args()
    options.only = options.only.split(',')
    if unknown := {*options.only, options.stage} - {*NAMES, ''}:
        parser.error(f'wanted names of {", ".join(NAMES)}, got {", ".join(sorted(unknown))}')
    return options


def run_stage(name: str, is_full: bool) -> list[dict]:
    """Measure a stage in a process of its own, so that its peak memory is not that of another stage."""
    command = [sys.executable, __file__, f'--stage={name}', *(['--full'] if is_full else [])]
    completed = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if completed.returncode:
        sys.exit(f'error: stage {name} ended with status {completed.returncode}')
    return json.loads(completed.stdout.splitlines()[-1])


def print_stage(name: str, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure_stage(name, Path(folder), repeats)))


def write_results(rows: Sequence[dict], text: str) -> None:
    with atomic_write(FOLDER / 'results.json') as part:
        part.write_text(json.dumps({'machine': describe_machine(), 'rows': rows}, indent=1) + '\n')
    with atomic_write(FOLDER / 'results.md') as part:
        part.write_text(text + '\n')
    print(f'written: {FOLDER / "results.md"} and results.json; next: make readme')


def table(rows: Sequence[dict]) -> Iterator[Sequence[str]]:
    """Yield the header, the alignment and a sequence of cells for each row."""
    yield COLUMNS
    yield ALIGNMENT
    for row in rows:
        yield table_cells(row)


def table_cells(row: dict) -> Sequence[str]:
    if 'ours_s' not in row:
        return row['stage'], 'not measured', *[''] * 6
    name = f'{row["stage"]}, {row["size"]}' if 'size' in row else row['stage']
    goal = row['goal'] if row['reached'] else f'{row["goal"]} **missed**'
    plain_s, ratio, plain_mb = '', '', ''
    if 'plain_s' in row:
        plain_s = f'{row["plain_s"]:.3g}'
        ratio = f'{row["plain_s"] / row["ours_s"]:.1f}'
        plain_mb = f'{row["plain_mb"]:,.0f}'
    return name, plain_s, f'{row["ours_s"]:.3g}', ratio, goal, plain_mb, f'{row["ours_mb"]:,.0f}', row['agreement']


def describe_machine() -> str:
    """Return a sentence on the machine, the versions and how the figures are to be read."""
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    models = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    model = models[0] if models else platform.processor()
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'no GPU'
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return (
        f'{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {gpu}; '
        f'Python {platform.python_version()}, torch {torch.__version__}, numpy {numpy.__version__}, '
        f'numba {numba.__version__}. Seconds: medians of repeated runs, plain and ours in turn; MB: peak '
        'above what was in use before, or of the whole process for val.py and where there is no plain way.'
    )


if __name__ == '__main__':
    main()
