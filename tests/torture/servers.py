"""Visdom servers that die, come back, or never answer: training goes on, gives the same weights, and takes no longer."""

import os
import random
import shutil
import socket
import subprocess
import sys
import time

from tests.torture.kills import Truth, finish, stages, wait_for_moment
from tests.torture.trial import HANG, ROOT, Row
from utilities.viewing.visdom_front_end import find_static_folder, is_complete

LONGER = 8  # seconds that a server may cost a whole training


class Server:
    """visdom's server, its home in `home`, or one that misbehaves in a way of stand_in.py, as a process that can be killed."""

    def __init__(self, port, way, home):
        visdom, stand_in = (
            [ROOT / 'scripts/visdom_server.py', f'--visdom_port={port}'],
            [ROOT / 'tests/torture/stand_in.py', port, way],
        )
        self.process = subprocess.Popen(
            [sys.executable, *map(str, visdom if way == 'visdom' else stand_in)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, 'HOME': str(home)},
        )
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            with socket.socket() as client:
                if not client.connect_ex(('127.0.0.1', port)):
                    break
            time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def part(base, folder, clock, seed, short):
    """A row: training beside servers that are killed, killed and started again, silent, slow, or that answer nonsense."""
    port = free_port()
    stage, chance, longest = stages(base)['train'], random.Random(f'{seed} servers'), 0
    stage.overrides |= dict(visdom_server='http://127.0.0.1', visdom_port=port, Epoch=1 if short else 2)
    truth = Truth(stage, folder / 'truth')
    good = 'visdom' if is_complete(find_static_folder()) else 'good'
    ways = [
        ('killed', good),
        ('stays', good),
        ('killed', good),
        ('comes back', good),
        ('silent', 'silent'),
        ('refuses', 'refusing'),
        ('nonsense', 'nonsense'),
    ][: 1 if short else None]
    row = Row('servers that vanish or never answer, train_ds.py', wanted=len(ways))
    for way, kind in ways:
        if clock.over():
            break
        place = folder / way
        place.mkdir(parents=True)
        server = Server(port, kind, folder)
        script = stage.start(place)
        if way in ('killed', 'comes back'):
            wait_for_moment(script, place / stage.output, truth.seconds, chance)
            server.kill()
            if way == 'comes back':
                time.sleep(0.3)
                server = Server(port, kind, folder)
        ended = script.wait(HANG + 10 * truth.seconds)
        server.kill()
        longer = ended.seconds - truth.seconds
        longest = max(longest, longer)
        faults = [f'exit status {ended.code}: {ended.fault() or ended.error}'] if ended.code or ended.fault() else []
        faults += finish(stage, truth, place) or (
            [f'{longer:.1f} s longer than without a server'] if longer > LONGER else []
        )
        row.tried += 1
        row.faults += [f'{way}: {fault}' for fault in faults[:1]]
        shutil.rmtree(place)
    who = 'visdom itself' if good == 'visdom' else 'a stand-in for visdom, whose front end is not there'
    row.remark = f'{who}; at most {longest:.1f} s longer'
    return [row]
