"""What goes wrong in the end, again and again: kills, malformed and malicious files, full disks, servers that vanish, two runs at once.

Every script of the pipeline runs as a user runs it, on phantoms of a few kilobytes. Survived means: it ended in success or in one clear
line, lost nothing that was finished, and what it left in the end equals what an undisturbed run leaves.

Out:  tests/torture/results.md, results.json, the table in docs/reliability.md; exit status 1 if anything fell short

    python tests/torture/torture.py                       about twelve minutes on two cores
    python tests/torture/torture.py --minutes=30 --seed=7
    python tests/torture/torture.py --short               a minute, prints the table, writes nothing; so does --only=kills,malice
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tqdm import tqdm

from tests.torture import full_disk, kills, malice, mutants, servers, two_runs
from tests.torture.trial import SMALL, Clock, hear_signals, must
from tools.documentation import replace_table
from utilities.base.atomic_write import atomic_write

FOLDER = Path(__file__).resolve().parent
# what runs side by side, and the share of the time for it; the first two use both cores by themselves
PARTS = (('kills',), 0.45), (('mutants',), 0.22), (('full_disk', 'malice'), ('servers', 'two_runs'), 0.33)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=12, help='time that all of it may take (12)')
    parser.add_argument('--seed', type=int, default=0, help='of the moments, the files and their faults (0)')
    parser.add_argument('--short', action='store_true', help='a minute')
    parser.add_argument('--only', default='', help='of kills, mutants, full_disk, malice, servers, two_runs')
    options = parser.parse_args()
    known = [name for *lanes, _ in PARTS for lane in lanes for name in lane]
    names = options.only.split(',') if options.only else known
    if unknown := [name for name in names if name not in known]:
        parser.error(f'--only: wanted names of {", ".join(known)}, got {", ".join(unknown)}')

    hear_signals()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix='torture-'))
    keep = folder / 'faulty'
    try:
        with progress(60 if options.short else options.minutes * 60) as bar:
            rows = tortured(folder, keep, names, options, bar)
    finally:
        for path in folder.iterdir():
            if path != keep:
                shutil.rmtree(path)
        if not keep.exists():
            folder.rmdir()
    short_of = [row for row in rows if row.faults or row.tried < row.wanted]
    minutes = (time.monotonic() - start) / 60
    text = '\n'.join([*map('| {} |'.format, map(' | '.join, table(rows))), '', about(rows, options.seed, minutes)])
    print(text)
    for row in short_of:
        print(f'{row.what}: {row.tried} of {row.wanted} tried, {len(row.faults)} faults')
        for fault in row.faults[:20]:
            print(f'    {fault}')
    if not options.short and not options.only:
        write(rows, text)
    return 1 if short_of else 0


def tortured(folder, keep, names, options, bar):
    """The rows of all parts, in order."""
    base = folder / 'base'
    base.mkdir()
    for script, more in (
        ('data_prepare/make_phantom.py', {}),
        ('data_prepare/get_training_set.py', {}),
        ('train_ds.py', dict(Epoch=1, module_dir='module')),
        ('val.py', dict(module_path='module')),
    ):
        must(script, base, **{**SMALL, **more})
    ways = {
        'kills': lambda clock, place: kills.part(base, place, clock, options.seed, options.short),
        'mutants': lambda clock, place: mutants.part(base, place, keep, clock, options.seed, options.short),
        'full_disk': lambda clock, place: full_disk.part(base, place, clock, options.short),
        'malice': lambda clock, place: malice.part(base, place, keep, clock, options.short),
        'servers': lambda clock, place: servers.part(base, place, clock, options.seed, options.short),
        'two_runs': lambda clock, place: two_runs.part(base, place, clock, options.seed, options.short),
    }
    rows = []
    for *lanes, share in PARTS:
        clock = Clock(share * options.minutes * 60)

        def lane(parts):
            found = []
            for name in parts:
                bar.set_postfix_str(name)
                found += ways[name](clock, folder / name)
            return found

        with ThreadPoolExecutor(len(lanes)) as threads:
            for done in [threads.submit(lane, [name for name in parts if name in names]) for parts in lanes]:
                rows += done.result()
    return rows


class progress:
    """A bar of the seconds that went by."""

    def __init__(self, seconds):
        self.bar, self.over = tqdm(total=round(seconds), desc='torture', unit='s'), threading.Event()

    def __enter__(self):
        threading.Thread(target=self.count, daemon=True).start()
        return self.bar

    def count(self):
        start = time.monotonic()
        while not self.over.wait(1):
            self.bar.n = min(self.bar.total, round(time.monotonic() - start))
            self.bar.refresh()

    def __exit__(self, *_):
        self.over.set()
        self.bar.close()


def survived(row):
    return max(0, row.tried - len(row.faults))


def table(rows):
    yield 'what', 'how often', 'survived', 'remarks'
    yield '---', '--:', '--:', '---'
    for row in rows:
        missing = f'; {row.wanted} wanted' if row.tried < row.wanted else ''
        fell_short = ' **fell short**' if row.faults else ''
        yield (
            row.what,
            f'{row.tried:,}',
            f'{survived(row):,}',
            ((row.remark + missing).lstrip('; ') + fell_short).strip(),
        )


def about(rows, seed, minutes):
    """Totals, and what it ran on."""
    killed = sum(row.tried for row in rows if row.what.startswith('SIGKILL'))
    malformed = sum(row.tried for row in rows if 'malformed' in row.what)
    cores = len(os.sched_getaffinity(0))
    return (
        f'{killed} SIGKILLs and {malformed:,} malformed files in {minutes:.1f} minutes, seed {seed}, on {cores} cores; '
        f'Python {platform.python_version()}, torch {torch.__version__}.'
    )


def write(rows, text):
    with atomic_write(FOLDER / 'results.json') as part:
        part.write_text(json.dumps([{**vars(row), 'survived': survived(row)} for row in rows], indent=1) + '\n')
    with atomic_write(FOLDER / 'results.md') as part:
        part.write_text(text + '\n')
    page = replace_table('torture', text)
    print(f'written: {FOLDER / "results.md"}, results.json and the table of {page}')


if __name__ == '__main__':
    sys.exit(main())
