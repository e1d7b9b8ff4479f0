"""Two runs on one folder, and readers of samples that are killed: the run itself ends as if alone."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

from tests.torture.kills import Truth, finish, stages, wait_for_moment
from tests.torture.trial import HANG, Row


def second(row, stage, truth, folder, chance):
    """A run that is held still at a random moment, a second one on its folder, then the first goes on."""
    folder.mkdir(parents=True)
    output = folder / stage.output
    first = stage.start(folder)
    while not (output / '.lock').exists() and not first.poll():
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.5 * max(0, truth.seconds - (time.monotonic() - first.began))))
    if first.signal(signal.SIGSTOP):
        held = stage.start(folder).wait(HANG + 10 * truth.seconds)
        first.signal(signal.SIGCONT)
        ended = first.wait(HANG + 10 * truth.seconds)
        row.tried += 1
        refused = held.code == 1 and len(held.error) == 1
        fault = held.fault() or ('' if refused else f'second: status {held.code}, {held.error or held.err[-200:]}')
        if not fault and ended.code:
            fault = f'first: status {ended.code}, {ended.fault() or ended.error}'
        faults = [fault] if fault else finish(stage, truth, folder)
        row.faults += [f'{stage.what}: {fault}' for fault in faults]
    else:
        first.wait()
    shutil.rmtree(folder)


def without_reader(row, stage, truth, folder, chance):
    """A training, one of whose processes that read samples is killed."""
    folder.mkdir(parents=True)
    script = stage.start(folder)
    wait_for_moment(script, folder / stage.output, truth.seconds, chance)
    children = Path(f'/proc/{script.process.pid}/task/{script.process.pid}/children')
    readers = children.read_text().split() if children.exists() else []
    if readers:
        try:
            os.kill(int(chance.choice(readers)), signal.SIGKILL)
        except ProcessLookupError:  # it ended meanwhile
            readers = []
    ended = script.wait(HANG + 10 * truth.seconds)
    if readers:
        row.tried += 1
        fault = ended.fault() or (f'status {ended.code}: {ended.error}' if ended.code else '')
        row.faults += [f'{stage.what}: {fault}' for fault in ([fault] if fault else finish(stage, truth, folder))]
    shutil.rmtree(folder)


def part(base, folder, clock, seed, short):
    """Rows of second runs on a folder, and of killed readers of samples."""
    kinds, chance = stages(base), random.Random(f'{seed} two runs')
    readers = Row('a process that reads samples is killed, train_ds.py', wanted=0 if short else 3)
    if not short:
        stage, place = kinds['train, 2 workers'], folder / 'readers'
        truth = Truth(stage, place)
        for _ in range(3 * readers.wanted):  # some end before they are hit
            if readers.tried < readers.wanted and not clock.over():
                without_reader(readers, stage, truth, place, chance)
    names = ['3D CRF'] if short else ['train', 'val', 'prepare', '3D CRF', '2D CRF']
    two = Row('a second run on the same folder', wanted=len(names) * (1 if short else 2))
    for name in names:
        if not clock.over():
            truth = Truth(kinds[name], folder / name)
            for _ in range(two.wanted // len(names)):
                second(two, kinds[name], truth, folder / name, chance)
    return [two, readers] if readers.wanted else [two]
