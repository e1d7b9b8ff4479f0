"""Kill runs again and again and then let them finish: they must leave what an undisturbed run leaves."""

import random
import shutil
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.torture.compare import content, differences
from tests.torture.trial import HANG, SMALL, Clock, Ended, Row, Script, must

SIGNALS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
KILLS = {'prepare': 30, 'train': 16, 'train, 2 workers': 10, 'val': 24, '3D CRF': 20, '2D CRF': 12}  # trials of a stage
SIGNALLED = {'prepare': 3, 'train': 3, 'train, 2 workers': 3, 'val': 3, '3D CRF': 3}
SHORT_KILLS, SHORT_SIGNALLED = {'prepare': 3, 'train': 2, '3D CRF': 2}, {'prepare': 1}


class Stage:
    """A script with its overrides, and the folder that it fills inside the folder in which it runs."""

    def __init__(self, what: str, script: str, output: str, **overrides):
        self.what, self.script, self.output, self.overrides = what, script, output, {**SMALL, **overrides}

    def start(self, folder: Path, limits: Sequence[tuple[int, int]] = (), **overrides) -> Script:
        return Script(self.script, folder, limits, **{**self.overrides, **overrides})


def stages(base: Path) -> dict[str, Stage]:
    """Return every stage that writes, on the phantoms, training set, weights and masks in the folder `base`."""
    test = dict(test_ct_path=base / 'data/test/CT', test_seg_path=base / 'data/test/seg')
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
        'val': Stage('val.py', 'val.py', 'pred', module_path=base / 'module', **test),
        '3D CRF': Stage('3D-CRF.py', 'Densecrf/3D-CRF.py', 'crf', pred_path=base / 'pred', **test),
        '2D CRF': Stage('2D-CRF.py', 'Densecrf/2D-CRF.py', 'crf', pred_path=base / 'pred', **test),
    }


class Truth:
    """What an undisturbed run leaves, the sizes of its files in bytes, and the seconds that it takes."""

    def __init__(self, stage: Stage, folder: Path):
        folder.mkdir(parents=True)
        ended = must(stage.script, folder, **stage.overrides)
        self.seconds, self.content = ended.seconds, content(folder / stage.output)
        self.sizes = [path.stat().st_size for path in (folder / stage.output).rglob('*') if path.is_file()]
        shutil.rmtree(folder)


def list_files(folder: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of all files under a folder, half-written ones too; empty if it does not exist."""
    found = []
    for path in folder.rglob('*') if folder.is_dir() else ():
        try:
            status = path.lstat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
        except FileNotFoundError:  # it was renamed meanwhile
            continue
    return sorted(found)


def list_parts(folder: Path) -> list[str]:
    """Return the names of the half-written files under a folder."""
    return [path.name for path in folder.rglob('.part-*')]


def wait_for_moment(script: Script, output: Path, seconds: float, rng: random.Random) -> bool:
    """Wait for a random moment of a run: any time, or shortly after one of its first changes on disk.

    Args:
        script: the run.
        output: the folder that it fills.
        seconds: what an undisturbed run takes.
        rng: draws the moment.

    Returns:
        Whether the script has written anything.
    """
    before = list_files(output)
    if rng.random() < 0.25:
        changes, deadline = 0, rng.uniform(0, seconds)
    else:
        changes, deadline = rng.randint(1, 10), HANG + 10 * seconds
    last = before
    while time.monotonic() - script.start_time < deadline and not script.poll():
        now = list_files(output) if changes else last
        if now != last:
            changes, last = changes - 1, now
            if not changes:
                time.sleep(rng.choice((0, 0, 0.001, 0.01, 0.1)))
                break
        time.sleep(0.0005 if changes else 0.005)
    return list_files(output) != before


def unfinished(folder: Path, truth: Truth) -> list[str]:
    """Return the files under their final names that are not as an undisturbed run writes them.

    State and curve of a training are left out, since they grow, and so are records, which also say what was started.
    """
    growing = ('last.pth', 'best.pth', 'loss.csv', 'loss_curve.png', '.json')
    return [
        name
        for name, value in content(folder).items()
        if not name.endswith(growing) and truth.content.get(name) != value
    ]


def finish(stage: Stage, truth: Truth, folder: Path, **overrides) -> list[str]:
    """Let a last run go to its end, and return the faults of this run and of what is in its folder then."""
    ended = stage.start(folder, **overrides).wait(HANG + 10 * truth.seconds)
    if ended.code:
        return [f'the last run ended with status {ended.code}: {ended.fault() or ended.error}']
    if parts := list_parts(folder):
        return [f'left behind: {parts}']
    different = differences(truth.content, content(folder / stage.output))
    return [f'not as undisturbed: {different}'] if different else []


class StageTrials:
    """The trials of one stage: rows, undisturbed run, random generator, and counts for the remark."""

    def __init__(self, stage: Stage, folder: Path, rng: random.Random, row: Row, signal_row: Row, signalled: int):
        self.stage, self.folder, self.rng, self.row, self.signal_row = stage, folder, rng, row, signal_row
        self.signalled_left = signalled
        self.writing = self.finished = 0
        self.truth: Truth | None = None

    def prepare(self, compare_twice: bool) -> None:
        """Make the undisturbed run, and a second one that must leave the same if `compare_twice`."""
        self.truth = Truth(self.stage, self.folder)
        if compare_twice:
            different = differences(self.truth.content, Truth(self.stage, self.folder).content)
            if different:
                self.row.faults.append(f'{self.stage.what}: two undisturbed runs differ: {different}')

    def is_done(self) -> bool:
        return not self.signalled_left and self.row.tried >= self.row.wanted

    def next_trial(self, short: bool) -> None:
        """Make the next trial with a signal, if one is left, and the next trial with kills."""
        if self.signalled_left:
            self.signalled_left -= 1
            self.signal_and_finish(SIGNALS[self.signalled_left % len(SIGNALS)])
        if self.row.tried < self.row.wanted:
            self.kill_and_finish(2 if short else self.rng.randint(2, 5))
            self.finished += 1

    def kill_and_finish(self, kills: int) -> None:
        """Kill a run in a new folder `kills` times, or until it ends by itself, then let it finish."""
        self.folder.mkdir(parents=True)
        output, faults = self.folder / self.stage.output, []
        for _ in range(kills):
            script = self.stage.start(self.folder)
            wrote = wait_for_moment(script, output, self.truth.seconds, self.rng)
            if script.signal(signal.SIGKILL) and script.wait().code == -signal.SIGKILL:
                self.row.tried += 1
                self.writing += wrote
            ended = script.wait()
            if ended.code not in (0, -signal.SIGKILL):
                faults.append(f'the killed run ended with status {ended.code}: {ended.fault() or ended.error}')
                break
            if half_written := unfinished(output, self.truth):
                faults.append(f'not whole after a kill: {half_written}')
                break
        faults += finish(self.stage, self.truth, self.folder)
        self.row.faults += [f'{self.stage.what}: {fault}' for fault in faults[:1]]
        shutil.rmtree(self.folder)

    def signal_and_finish(self, number: int) -> None:
        """Ask a run to end by a signal: status 128 + number, one line, nothing half-written; then let it finish."""
        self.folder.mkdir(parents=True)
        output, faults = self.folder / self.stage.output, []
        script = self.stage.start(self.folder)
        while not (output.is_dir() and any(output.iterdir())) and not script.poll():
            time.sleep(0.002)  # before that Python is starting
        elapsed = time.monotonic() - script.start_time
        time.sleep(self.rng.uniform(0, 0.8 * max(0.1, self.truth.seconds - elapsed)))
        if script.signal(number, group=self.rng.random() < 0.5):
            ended = script.wait(HANG + self.truth.seconds)
            faults += signal_faults(ended, number, self.folder)
            self.signal_row.tried += ended.code != 0
        script.wait()
        faults += finish(self.stage, self.truth, self.folder)
        self.signal_row.faults += [f'{self.stage.what}: {fault}' for fault in faults[:1]]
        shutil.rmtree(self.folder)


def signal_faults(ended: Ended, number: int, folder: Path) -> list[str]:
    """Return what is wrong with how a run ended after a signal; an empty list if nothing is."""
    name = signal.Signals(number).name
    if ended.code == -number and 'next: ' in ended.out:
        return []  # everything was done and printed, and Python, about to end, no longer handled signals
    if ended.code not in (0, 128 + number):
        reason = ended.fault() or ended.err[-200:]
        return [f'{name}: wanted exit status {128 + number}, got {ended.code}: {reason}']
    if 'Traceback' in ended.err or ended.hung:
        return [f'{name}: {ended.fault()}']
    lines = (ended.out + ended.err).splitlines()
    if ended.code and not any(name in line or 'keyboard' in line for line in lines):
        return [f'{name}: no line says why it ended: {ended.err[-200:]}']
    parts = list_parts(folder)
    return [f'{name}: left behind: {parts}'] if parts else []


def part(base: Path, folder: Path, clock: Clock, seed: int, short: bool) -> list[Row]:
    """Return the rows of kills and of signals, two stages at once, until there are enough or the time is over."""
    kinds = stages(base)
    kills, signalled = (SHORT_KILLS, SHORT_SIGNALLED) if short else (KILLS, SIGNALLED)
    signal_row = Row('SIGTERM, SIGINT, SIGHUP', wanted=sum(signalled.values()) // 4)
    trials = {
        name: StageTrials(
            kinds[name],
            folder / name,
            random.Random(f'{seed} {name}'),
            Row(f'SIGKILL, {kinds[name].what}', wanted=kills.get(name, 0)),
            signal_row,
            signalled.get(name, 0),
        )
        for name in {**kills, **signalled}
    }
    training = [trial for name, trial in trials.items() if name.startswith('train')]
    others = [trial for name, trial in trials.items() if not name.startswith('train')]
    with ThreadPoolExecutor(2) as threads:
        for job in [threads.submit(run_in_turn, group, clock, short) for group in (training, others)]:
            job.result()
    return [*(trial.row for trial in trials.values() if trial.row.wanted), signal_row]


def run_in_turn(trials: Sequence[StageTrials], clock: Clock, short: bool) -> None:
    """Make the trials of several stages in turn, so that each gets its share of a time that is too short."""
    for trial in trials:
        trial.prepare(compare_twice=not short)
    waiting = list(trials)
    while waiting and not clock.over():
        trial = waiting.pop(0)
        trial.next_trial(short)
        if not trial.is_done():
            waiting.append(trial)
    for trial in trials:
        trial.row.remark = f'{trial.writing} after it had begun to write, {trial.finished} times let finish'
