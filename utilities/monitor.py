"""The loss while it trains: a table and a figure in module_dir always, a visdom plot whenever a server answers."""
import math
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlparse

import torch
from tqdm import tqdm

from utilities.errors import InputError
from utilities.figures import draw_loss_curve
from utilities.volume import whole_file

LOSSES = ('loss1', 'loss2', 'loss3', 'loss4', 'total')
COLUMNS = ('epoch', 'step', *LOSSES, 'alpha', 'learning_rate', 'seconds')
FIGURE_EVERY = 60  # seconds; drawing takes a third of one
RETRY = 30  # seconds until a server that did not answer is tried again


class Monitor:
    """Rows of losses: `add` each step, `record` every few, `flush` after an epoch, `close` at the end.

    curve: the rows so far, lists of COLUMNS, of a training that goes on.
    """

    def __init__(self, module_dir, server='', port=8097, curve=()):
        self.file, self.figure = Path(module_dir) / 'loss.csv', Path(module_dir) / 'loss_curve.png'
        self.curve = [list(row) for row in curve]
        self.lines = [','.join(COLUMNS), *map(line, self.curve)]
        self.waiting = []
        self.start = time.monotonic() - (self.curve[-1][-1] if self.curve else 0)
        self.drawn = time.monotonic()
        self.plot = Plot(self.curve, server, port) if server else None

    def add(self, losses, names, **row):
        """A step: a tensor of the LOSSES, which stays on its device until `record`, the names of its cases, and the other columns."""
        self.waiting.append((losses.detach(), names, {**row, 'seconds': time.monotonic() - self.start}))

    def record(self):
        """Take the steps added since the last time into the curve; returns the newest, a dict with COLUMNS.

        All losses are fetched at once, since a GPU stands still for each fetch. Raises InputError for one that is not finite.
        """
        losses = torch.stack([losses for losses, _, _ in self.waiting]).tolist() if self.waiting else []
        for values, (_, names, row) in zip(losses, self.waiting):
            if not all(map(math.isfinite, values)):
                self.write_table()
                raise InputError(f'step {row["step"]}: the loss of {", ".join(names)} is {values}; look at these cases, lower learning_rate '
                                 'or choose another loss; the last good state is kept, to go on by --resume=auto')
            row = {**row, **dict(zip(LOSSES, values))}
            self.curve.append([row[name] for name in COLUMNS])
            self.lines.append(line(self.curve[-1]))
        self.waiting.clear()
        if self.plot:
            self.plot.show()
        return dict(zip(COLUMNS, self.curve[-1]))

    def mean(self, epoch):
        """Mean loss of the output head over an epoch's recorded steps."""
        values = []
        for row in reversed(self.curve):
            if row[0] != epoch:
                break
            values.append(row[COLUMNS.index('loss4')])
        return math.fsum(values) / len(values)

    def flush(self):
        self.write_table()
        if time.monotonic() - self.drawn > FIGURE_EVERY:
            self.draw()

    def close(self):
        """Table and figure of the whole curve, and a few seconds for visdom to take what is left."""
        self.write_table()
        self.draw()
        if self.plot:
            self.plot.close()

    def write_table(self):
        with whole_file(self.file) as part:
            part.write_text('\n'.join(self.lines) + '\n')

    def draw(self):
        draw_loss_curve(self.file, self.figure)
        self.drawn = time.monotonic()


def line(row):
    """A row of loss.csv."""
    return ','.join(f'{int(value)}' if name in ('epoch', 'step') else f'{value:.6g}' for name, value in zip(COLUMNS, row))


class Plot(threading.Thread):
    """The curve in visdom, a window a loss. In a thread of its own: a server that hangs or dies must not hold the training up.

    A server that comes back, or comes late, gets the whole curve.
    """

    def __init__(self, curve, server, port):
        super().__init__(daemon=True)
        self.curve, self.server, self.port = curve, server, port
        self.visdom, self.shown, self.told = None, 0, False
        self.news, self.closing = threading.Event(), False
        self.start()

    def show(self):
        self.news.set()

    def close(self):
        self.closing = True
        self.news.set()
        self.join(timeout=5)

    def run(self):
        while True:
            try:
                self.visdom = connect(self.server, self.port)
                self.told = False
                self.follow()
                return
            except Exception as error:  # visdom wraps what its client meets in several types
                self.visdom, self.shown = None, 0
                if not self.told:
                    tqdm.write(f'warning: no visdom server answers at {self.server}:{self.port} ({type(error).__name__}): training goes on, '
                               'the curve is in loss.csv and loss_curve.png; start one with: python -m visdom.server -bind_local',
                               file=sys.stderr)
                self.told = True
                self.wait_for_retry()
                if self.closing:
                    return

    def follow(self):
        """Send what comes, the last of it after `close` too."""
        while True:
            last = self.closing
            self.send(self.curve[self.shown:])
            if last:
                return
            self.news.wait()
            self.news.clear()

    def wait_for_retry(self):
        end = time.monotonic() + RETRY
        while not self.closing and time.monotonic() < end:
            self.news.wait(end - time.monotonic())
            self.news.clear()

    def send(self, rows):
        if not rows:
            return
        steps = [row[COLUMNS.index('step')] for row in rows]
        for name in LOSSES:
            self.visdom.line([row[COLUMNS.index(name)] for row in rows], steps, win=name, update='append' if self.shown else None, opts={
                'title': 'weighted sum' if name == 'total' else name, 'xlabel': 'step', 'ylabel': 'loss'})
        self.shown += len(rows)


def connect(server, port):
    """visdom's client. Raises whatever hinders it."""
    address = urlparse(server if '://' in server else f'http://{server}')
    socket.create_connection((address.hostname, port), timeout=2).close()
    from visdom import Visdom
    return Visdom(f'{address.scheme}://{address.hostname}', port=port, use_incoming_socket=False, raise_exceptions=True)
