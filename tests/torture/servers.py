"""Train beside visdom servers that die, come back, or never answer.

Training must continue, leave the same weights, and take hardly longer.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.torture.kills import Stage, Truth, finish, stages, wait_for_moment
from tests.torture.trial import HANG, ROOT, Clock, Row
from utilities.viewing.visdom_front_end import find_static_folder, is_complete

MAX_DELAY = 8  # seconds that a server may add to a whole training
START_TIMEOUT = 60  # seconds until a server must accept connections


class Server:
    """A server in a process that can be killed.

    Args:
        port: that it listens on.
        kind: 'visdom' for visdom's own server, or a way of stand_in.py.
        home: home folder of visdom.
    """

    def __init__(self, port: int, kind: str, home: Path):
        visdom = [ROOT / 'scripts/visdom_server.py', f'--visdom_port={port}']
        stand_in = [ROOT / 'tests/torture/stand_in.py', port, kind]
        self.process = subprocess.Popen(
            [sys.executable, *map(str, visdom if kind == 'visdom' else stand_in)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, 'HOME': str(home)},
        )
        deadline = time.monotonic() + START_TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as client:
                if not client.connect_ex(('127.0.0.1', port)):
                    break
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def train_beside_server(
    stage: Stage, truth: Truth, folder: Path, event: str, kind: str, rng: random.Random
) -> tuple[list[str], float]:
    """Train once in a new folder.

    Args:
        stage: the training; its overrides name the port.
        truth: what a training without a server leaves.
        folder: where the training runs.
        event: 'killed' or 'comes back', at a random moment; anything else leaves the server alone.
        kind: of the server, see `Server`.
        rng: draws the moment.

    Returns:
        The faults, and the seconds that the training took longer than without a server.
    """
    folder.mkdir(parents=True)
    port = stage.overrides['visdom_port']
    server = Server(port, kind, folder.parent)
    script = stage.start(folder)
    if event in ('killed', 'comes back'):
        wait_for_moment(script, folder / stage.output, truth.seconds, rng)
        server.kill()
    if event == 'comes back':
        time.sleep(0.3)
        server = Server(port, kind, folder.parent)
    ended = script.wait(HANG + 10 * truth.seconds)
    server.kill()
    delay = ended.seconds - truth.seconds
    faults = [f'exit status {ended.code}: {ended.fault() or ended.error}'] if ended.code or ended.fault() else []
    faults += finish(stage, truth, folder)
    if not faults and delay > MAX_DELAY:
        faults.append(f'{delay:.1f} s longer than without a server')
    shutil.rmtree(folder)
    return faults, delay


def part(base: Path, folder: Path, clock: Clock, seed: int, short: bool) -> list[Row]:
    """Return one row: servers that are killed, killed and started again, silent, or that answer nonsense."""
    stage, rng, max_delay = stages(base)['train'], random.Random(f'{seed} servers'), 0.0
    stage.overrides |= dict(visdom_server='http://127.0.0.1', visdom_port=free_port(), Epoch=1 if short else 2)
    truth = Truth(stage, folder / 'truth')
    good = 'visdom' if is_complete(find_static_folder()) else 'good'
    events = [
        ('killed', good),
        ('stays', good),
        ('killed', good),
        ('comes back', good),
        ('silent', 'silent'),
        ('refuses', 'refusing'),
        ('nonsense', 'nonsense'),
    ]
    if short:
        events = events[:1]
    row = Row('servers that vanish or never answer, train_ds.py', wanted=len(events))
    for event, kind in events:
        if clock.over():
            break
        faults, delay = train_beside_server(stage, truth, folder / event, event, kind, rng)
        max_delay = max(max_delay, delay)
        row.tried += 1
        row.faults += [f'{event}: {fault}' for fault in faults[:1]]
    server = 'visdom itself' if good == 'visdom' else 'a stand-in for visdom, whose front end is not there'
    row.remark = f'{server}; at most {max_delay:.1f} s longer'
    return [row]
