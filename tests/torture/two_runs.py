"""Start a second run on the folder of a first one, and kill processes that read samples."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

from tests.torture.kills import Stage, Truth, finish, stages, wait_for_moment
from tests.torture.trial import HANG, Clock, Row


def run_twice(row: Row, stage: Stage, truth: Truth, folder: Path, rng: random.Random) -> None:
    """Stop a run at a random moment, start a second one on its folder, and let the first one continue.

    The second run must be refused in one line, and the first one must end as if alone.
    """
    folder.mkdir(parents=True)
    output = folder / stage.output
    first = stage.start(folder)
    while not (output / '.lock').exists() and not first.poll():
        time.sleep(0.001)
    elapsed = time.monotonic() - first.start_time
    time.sleep(rng.uniform(0, 0.5 * max(0, truth.seconds - elapsed)))
    if first.signal(signal.SIGSTOP):
        second_ended = stage.start(folder).wait(HANG + 10 * truth.seconds)
        first.signal(signal.SIGCONT)
        first_ended = first.wait(HANG + 10 * truth.seconds)
        row.tried += 1
        is_refused = second_ended.code == 1 and len(second_ended.error) == 1
        fault = second_ended.fault()
        if not fault and not is_refused:
            fault = f'second: status {second_ended.code}, {second_ended.error or second_ended.err[-200:]}'
        if not fault and first_ended.code:
            fault = f'first: status {first_ended.code}, {first_ended.fault() or first_ended.error}'
        faults = [fault] if fault else finish(stage, truth, folder)
        row.faults += [f'{stage.what}: {fault}' for fault in faults]
    else:
        first.wait()
    shutil.rmtree(folder)


def kill_reader(row: Row, stage: Stage, truth: Truth, folder: Path, rng: random.Random) -> None:
    """Kill one of the processes that read samples for a training; the training must end as if undisturbed."""
    folder.mkdir(parents=True)
    script = stage.start(folder)
    wait_for_moment(script, folder / stage.output, truth.seconds, rng)
    children = Path(f'/proc/{script.process.pid}/task/{script.process.pid}/children')
    readers = children.read_text().split() if children.exists() else []
    if readers:
        try:
            os.kill(int(rng.choice(readers)), signal.SIGKILL)
        except ProcessLookupError:  # it ended meanwhile
            readers = []
    ended = script.wait(HANG + 10 * truth.seconds)
    if readers:
        row.tried += 1
        fault = ended.fault() or (f'status {ended.code}: {ended.error}' if ended.code else '')
        faults = [fault] if fault else finish(stage, truth, folder)
        row.faults += [f'{stage.what}: {fault}' for fault in faults]
    shutil.rmtree(folder)


def part(base: Path, folder: Path, clock: Clock, seed: int, short: bool) -> list[Row]:
    """Return the rows of second runs on a folder and of killed readers of samples."""
    kinds, rng = stages(base), random.Random(f'{seed} two runs')
    readers = Row('a process that reads samples is killed, train_ds.py', wanted=0 if short else 3)
    if not short:
        stage, run_folder = kinds['train, 2 workers'], folder / 'readers'
        truth = Truth(stage, run_folder)
        for _ in range(3 * readers.wanted):  # some runs end before their reader is killed
            if readers.tried < readers.wanted and not clock.over():
                kill_reader(readers, stage, truth, run_folder, rng)
    names = ['3D CRF'] if short else ['train', 'val', 'prepare', '3D CRF', '2D CRF']
    trials = 1 if short else 2  # of each stage
    two_runs = Row('a second run on the same folder', wanted=len(names) * trials)
    for name in names:
        if not clock.over():
            truth = Truth(kinds[name], folder / name)
            for _ in range(trials):
                run_twice(two_runs, kinds[name], truth, folder / name, rng)
    return [two_runs, readers] if readers.wanted else [two_runs]
