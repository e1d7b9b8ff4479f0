"""Do to the scripts what goes wrong in practice, again and again.

The parts are kills, malformed files (mutants), malicious files, full disks, servers that vanish, and two runs at once.
Every script of the pipeline runs as a user runs it, on phantoms of a few kilobytes. A script survives if it ends in
success or in one clear line, loses no finished work, and in the end leaves what an undisturbed run leaves.

Out:  tests/torture/results.md, results.json and the table in docs/reliability.md; the exit status is 1 if a script did
      not survive, or if too little was tried

    python tests/torture/torture.py                       about twelve minutes on two cores
    python tests/torture/torture.py --minutes=30 --seed=7
    python tests/torture/torture.py --short               a minute; prints the table and writes nothing
    python tests/torture/torture.py --only=kills,malice   these parts; prints the table and writes nothing
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tqdm import tqdm

from tests.torture import full_disk, kills, malice, mutants, servers, two_runs
from tests.torture.trial import SMALL, Clock, Row, hear_signals, must
from tools.documentation import replace_table
from utilities.base.atomic_write import atomic_write

FOLDER = Path(__file__).resolve().parent
SHORT_SECONDS = 60
# Groups of lanes with their shares of the time. Lanes run at once, the parts of a lane one after the other. The first
# two groups have a single lane, since kills and mutants use both cores by themselves.
GROUPS = (
    ((('kills',),), 0.45),
    ((('mutants',),), 0.22),
    ((('full_disk', 'malice'), ('servers', 'two_runs')), 0.33),
)
PARTS = [name for lanes, _ in GROUPS for lane in lanes for name in lane]


def main() -> int:
    options = parse_arguments()
    hear_signals()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix='torture-'))
    faulty_files = folder / 'faulty'
    try:
        with ProgressBar(SHORT_SECONDS if options.short else options.minutes * 60) as bar:
            rows = run_parts(folder, faulty_files, options, bar)
    finally:
        remove_all_but(folder, faulty_files)
    text = format_table(rows, options.seed, (time.monotonic() - start) / 60)
    print(text)
    failed = [row for row in rows if row.faults or row.tried < row.wanted]
    print_faults(failed)
    if not options.short and options.only == PARTS:
        write_results(rows, text)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=12, help='time for everything (12)')
    parser.add_argument('--seed', type=int, default=0, help='of the moments, the files and their faults (0)')
    parser.add_argument('--short', action='store_true', help='a minute')
    parser.add_argument('--only', default=','.join(PARTS), help=f'names of parts: {", ".join(PARTS)}')
    options = parser.parse_args()
    options.only = options.only.split(',')
    if unknown := [name for name in options.only if name not in PARTS]:
        parser.error(f'--only: wanted names of {", ".join(PARTS)}, got {", ".join(unknown)}')
    return options


class ProgressBar:
    """A progress bar of the elapsed seconds, out of those that everything may take."""

    def __init__(self, seconds: float):
        self.bar, self.is_over = tqdm(total=round(seconds), desc='torture', unit='s'), threading.Event()

    def __enter__(self) -> tqdm:
        threading.Thread(target=self.count, daemon=True).start()
        return self.bar

    def count(self) -> None:
        start = time.monotonic()
        while not self.is_over.wait(1):
            self.bar.n = min(self.bar.total, round(time.monotonic() - start))
            self.bar.refresh()

    def __exit__(self, *_) -> None:
        self.is_over.set()
        self.bar.close()


def run_parts(folder: Path, faulty_files: Path, options: argparse.Namespace, bar: tqdm) -> list[Row]:
    """Run the wanted parts and return their rows.

    Args:
        folder: an empty folder.
        faulty_files: folder for the files that a script did not survive.
        options: of the command line.
        bar: shows the name of the part.
    """
    make_base(folder / 'base')
    rows = []
    for lanes, share in GROUPS:
        clock = Clock(share * options.minutes * 60)
        with ThreadPoolExecutor(len(lanes)) as threads:
            jobs = [threads.submit(run_lane, lane, folder, faulty_files, options, clock, bar) for lane in lanes]
            for job in jobs:
                rows += job.result()
    return rows


def make_base(base: Path) -> None:
    """Make phantoms, a training set, weights and masks, which the parts work on."""
    base.mkdir()
    must('data_prepare/make_phantom.py', base, **SMALL)
    must('data_prepare/get_training_set.py', base, **SMALL)
    must('train_ds.py', base, **SMALL, Epoch=1, module_dir='module')
    must('val.py', base, **SMALL, module_path='module')


def run_lane(
    lane: Sequence[str], folder: Path, faulty_files: Path, options: argparse.Namespace, clock: Clock, bar: tqdm
) -> list[Row]:
    """Run the wanted parts of a lane one after the other; the arguments are those of run_parts."""
    rows = []
    for name in lane:
        if name in options.only:
            bar.set_postfix_str(name)
            rows += run_part(name, folder, faulty_files, options, clock)
    return rows


def run_part(name: str, folder: Path, faulty_files: Path, options: argparse.Namespace, clock: Clock) -> list[Row]:
    """Run one part and return its rows; the arguments are those of run_parts."""
    base, part_folder, seed, short = folder / 'base', folder / name, options.seed, options.short
    if name == 'kills':
        return kills.part(base, part_folder, clock, seed, short)
    if name == 'mutants':
        return mutants.part(base, part_folder, faulty_files, clock, seed, short)
    if name == 'full_disk':
        return full_disk.part(base, part_folder, clock, short)
    if name == 'malice':
        return malice.part(base, part_folder, faulty_files, clock, short)
    if name == 'servers':
        return servers.part(base, part_folder, clock, seed, short)
    return two_runs.part(base, part_folder, clock, seed, short)


def remove_all_but(folder: Path, kept: Path) -> None:
    """Remove a folder and all in it, except for one folder inside it if that exists."""
    for path in folder.iterdir():
        if path != kept:
            shutil.rmtree(path)
    if not kept.exists():
        folder.rmdir()


def count_survived(row: Row) -> int:
    return max(0, row.tried - len(row.faults))


def format_table(rows: Sequence[Row], seed: int, minutes: float) -> str:
    """Return the table as Markdown, and a line on what it was made with."""
    lines = [f'| {" | ".join(cells)} |' for cells in table(rows)]
    return '\n'.join([*lines, '', describe_run(rows, seed, minutes)])


def table(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """Yield the header, the alignment and the cells of each row."""
    yield 'what', 'how often', 'survived', 'remarks'
    yield '---', '--:', '--:', '---'
    for row in rows:
        remarks = [row.remark] if row.remark else []
        if row.tried < row.wanted:
            remarks.append(f'{row.wanted} wanted')
        fell_short = ' **fell short**' if row.faults else ''
        yield row.what, f'{row.tried:,}', f'{count_survived(row):,}', ('; '.join(remarks) + fell_short).strip()


def describe_run(rows: Sequence[Row], seed: int, minutes: float) -> str:
    """Return a sentence with the totals, and on what machine and versions they were reached."""
    killed = sum(row.tried for row in rows if row.what.startswith('SIGKILL'))
    malformed = sum(row.tried for row in rows if 'malformed' in row.what)
    cores = len(os.sched_getaffinity(0))
    return (
        f'{killed} SIGKILLs and {malformed:,} malformed files in {minutes:.1f} minutes, seed {seed}, on {cores} cores; '
        f'Python {platform.python_version()}, torch {torch.__version__}.'
    )


def print_faults(rows: Sequence[Row]) -> None:
    for row in rows:
        print(f'{row.what}: {row.tried} of {row.wanted} tried, {len(row.faults)} faults')
        for fault in row.faults[:20]:
            print(f'    {fault}')


def write_results(rows: Sequence[Row], text: str) -> None:
    results = [{**vars(row), 'survived': count_survived(row)} for row in rows]
    with atomic_write(FOLDER / 'results.json') as part:
        part.write_text(json.dumps(results, indent=1) + '\n')
    with atomic_write(FOLDER / 'results.md') as part:
        part.write_text(text + '\n')
    page = replace_table('torture', text)
    print(f'written: {FOLDER / "results.md"}, results.json and the table of {page}')


if __name__ == '__main__':
    sys.exit(main())
