"""Runs that are killed again and again, and then let finish: what they leave equals what an undisturbed run leaves."""

import random
import shutil
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.torture.compare import content, differences
from tests.torture.trial import HANG, SMALL, Row, Script, must

SIGNALS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


class Stage:
    """A script with its overrides, and the folder that it fills, inside the folder in which it runs."""

    def __init__(self, what, script, output, **overrides):
        self.what, self.script, self.output, self.overrides = what, script, output, {**SMALL, **overrides}

    def start(self, folder, limits=(), **more):
        return Script(self.script, folder, limits, **{**self.overrides, **more})


def stages(base):
    """Every stage that writes, on the phantoms, training set, module and masks in `base`."""
    tests = dict(test_ct_path=base / 'data/test/CT', test_seg_path=base / 'data/test/seg')
    train = dict(training_set_path=base / 'train', module_dir='module', Epoch=2, save_every=1, resume='auto')
    return {
        'prepare': Stage(
            'get_training_set.py',
            'data_prepare/get_training_set.py',
            'train',
            train_ct_path=base / 'data/train/CT',
            train_seg_path=base / 'data/train/seg',
        ),
        'train': Stage('train_ds.py', 'train_ds.py', 'module', **train),
        'train, 2 workers': Stage('train_ds.py, 2 workers', 'train_ds.py', 'module', **{**train, 'num_workers': 2}),
        'val': Stage('val.py', 'val.py', 'pred', module_path=base / 'module', **tests),
        '3D CRF': Stage('3D-CRF.py', 'Densecrf/3D-CRF.py', 'crf', pred_path=base / 'pred', **tests),
        '2D CRF': Stage('2D-CRF.py', 'Densecrf/2D-CRF.py', 'crf', pred_path=base / 'pred', **tests),
    }


class Truth:
    """What an undisturbed run leaves, the sizes of its files, and how long it takes."""

    def __init__(self, stage, folder):
        folder.mkdir(parents=True)
        ended = must(stage.script, folder, **stage.overrides)
        self.seconds, self.content = ended.seconds, content(folder / stage.output)
        self.sizes = [path.stat().st_size for path in (folder / stage.output).rglob('*') if path.is_file()]
        shutil.rmtree(folder)


def listing(folder):
    """Names, sizes and times of what is there, half-written files too."""
    found = []
    for path in folder.rglob('*') if folder.is_dir() else ():
        try:
            status = path.lstat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
        except FileNotFoundError:  # renamed meanwhile
            continue
    return sorted(found)


def wait_for_moment(script, output, seconds, chance):
    """Until a random moment: one of the whole run, or shortly after one of its first changes on disk. Returns if anything was written."""
    before = listing(output)
    changes, until = (
        (0, chance.uniform(0, seconds)) if chance.random() < 0.25 else (chance.randint(1, 10), HANG + 10 * seconds)
    )
    last = before
    while time.monotonic() - script.began < until and not script.poll():
        now = listing(output) if changes else last
        if now != last:
            changes, last = changes - 1, now
            if not changes:
                time.sleep(chance.choice((0, 0, 0.001, 0.01, 0.1)))
                break
        time.sleep(0.0005 if changes else 0.005)
    return listing(output) != before


def unfinished(folder, truth):
    """Files under their final names that are not as an undisturbed run writes them.

    Left out: the state and the curve of a training, which grow, and records, which also say what is begun.
    """
    grows = ('last.pth', 'best.pth', 'loss.csv', 'loss_curve.png', '.json')
    return [
        name for name, value in content(folder).items() if not name.endswith(grows) and truth.content.get(name) != value
    ]


def kill_and_finish(row, stage, truth, folder, chance, kills):
    """A new folder, a run in it killed `kills` times or until it is through, then a run to the end. Returns (kills that hit, hits while
    writing)."""
    folder.mkdir(parents=True)
    output, hits, writing = folder / stage.output, 0, 0
    faults = []
    for _ in range(kills):
        script = stage.start(folder)
        wrote = wait_for_moment(script, output, truth.seconds, chance)
        if script.signal(signal.SIGKILL):
            killed = script.wait().code == -signal.SIGKILL
            hits, writing = hits + killed, writing + (killed and wrote)
        ended = script.wait()
        if ended.code not in (0, -signal.SIGKILL):
            faults.append(f'the killed run ended with status {ended.code}: {ended.fault() or ended.error}')
            break
        if half := unfinished(output, truth):
            faults.append(f'after a kill, not whole: {half}')
            break
    faults += finish(stage, truth, folder)
    row.tried += hits
    row.faults += [f'{stage.what}: {fault}' for fault in faults[:1]]
    shutil.rmtree(folder)
    return writing


def finish(stage, truth, folder, **more):
    """Faults of a last run to the end, and of what lies there then."""
    ended = stage.start(folder, **more).wait(HANG + 10 * truth.seconds)
    if ended.code:
        return [f'the last run ended with status {ended.code}: {ended.fault() or ended.error}']
    if parts := [path.name for path in folder.rglob('.part-*')]:
        return [f'left behind: {parts}']
    different = differences(truth.content, content(folder / stage.output))
    return [f'not as undisturbed: {different}'] if different else []


def signalled(row, stage, truth, folder, chance, number):
    """A run that a signal asks to end: 128 + n, one line, nothing half-written; then a run to the end."""
    folder.mkdir(parents=True)
    output, faults = folder / stage.output, []
    script = stage.start(folder)
    while not (output.is_dir() and any(output.iterdir())) and not script.poll():
        time.sleep(0.002)  # before that it is Python that starts
    time.sleep(chance.uniform(0, 0.8 * max(0.1, truth.seconds - (time.monotonic() - script.began))))
    if script.signal(number, group=chance.random() < 0.5):
        ended = script.wait(HANG + truth.seconds)
        name = signal.Signals(number).name
        if ended.code == -number and 'next: ' in ended.out:
            pass  # all was done and said, and Python, about to end, no longer listens
        elif ended.code not in (0, 128 + number):
            faults.append(
                f'{name}: wanted exit status {128 + number}, got {ended.code}: {ended.fault() or ended.err[-200:]}'
            )
        elif 'Traceback' in ended.err or ended.hung:
            faults.append(f'{name}: {ended.fault()}')
        elif ended.code and not any(
            name in line or 'keyboard' in line for line in (ended.out + ended.err).splitlines()
        ):
            faults.append(f'{name}: no line says why it ended: {ended.err[-200:]}')
        elif parts := [path.name for path in folder.rglob('.part-*')]:
            faults.append(f'{name}: left behind: {parts}')
        row.tried += ended.code != 0
    script.wait()
    faults += finish(stage, truth, folder)
    row.faults += [f'{stage.what}: {fault}' for fault in faults[:1]]
    shutil.rmtree(folder)


def part(base, folder, clock, seed, short):
    """Rows of kills and of signals, in two lanes, until there are enough or the time is over."""
    kinds = stages(base)
    wanted = {'prepare': 30, 'train': 16, 'train, 2 workers': 10, 'val': 24, '3D CRF': 20, '2D CRF': 12}
    asked = {'prepare': 3, 'train': 3, 'train, 2 workers': 3, 'val': 3, '3D CRF': 3}
    if short:
        wanted, asked = {'prepare': 3, 'train': 2, '3D CRF': 2}, {'prepare': 1}
    rows = {name: Row(f'SIGKILL, {kinds[name].what}', wanted=wanted.get(name, 0)) for name in {**wanted, **asked}}
    writing, finished = Counter(), Counter()
    chance = {name: random.Random(f'{seed} {name}') for name in rows}
    ask = Row('SIGTERM, SIGINT, SIGHUP', wanted=sum(asked.values()) // 4)

    def lane(names):
        truths = {}
        for name in names:
            truths[name] = Truth(kinds[name], folder / name)
            if not short and (control := differences(truths[name].content, Truth(kinds[name], folder / name).content)):
                rows[name].faults.append(f'{kinds[name].what}: two undisturbed runs differ: {control}')
        under_way = list(names)
        while under_way and not clock.over():
            name = under_way.pop(0)  # by turns, so that each has its share of a time that is too short
            trial = kinds[name], truths[name], folder / name, chance[name]
            if asked.get(name):
                asked[name] -= 1
                signalled(ask, *trial, SIGNALS[asked[name] % 3])
            if rows[name].tried < wanted.get(name, 0):
                writing[name] += kill_and_finish(rows[name], *trial, kills=2 if short else chance[name].randint(2, 5))
                finished[name] += 1
            if asked.get(name) or rows[name].tried < wanted.get(name, 0):
                under_way.append(name)
        for name in names:
            rows[name].remark = f'{writing[name]} after it had begun to write, {finished[name]} times let finish'

    lanes = [
        [name for name in rows if name.startswith('train')],
        [name for name in rows if not name.startswith('train')],
    ]
    with ThreadPoolExecutor(2) as threads:
        for job in [threads.submit(lane, names) for names in lanes]:
            job.result()
    return [*(row for row in rows.values() if row.wanted), ask]
