"""The loss while it trains: a table and a figure in module_dir always, a visdom plot where a server answers."""
import csv
import math
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import torch

from utilities.errors import InputError
from utilities.figures import draw_loss_curve

LOSSES = ('loss1', 'loss2', 'loss3', 'loss4', 'total')
COLUMNS = ('epoch', 'step', *LOSSES, 'alpha', 'learning_rate', 'seconds')
FIGURE_EVERY = 60  # seconds; drawing takes a third of one


class Monitor:
    """Rows of losses: `add` each step, `record` every few, `flush` after an epoch. Goes on from the first `steps` rows of loss.csv."""

    def __init__(self, module_dir, server, port, steps=0):
        self.file, self.figure = Path(module_dir) / 'loss.csv', Path(module_dir) / 'loss_curve.png'
        self.visdom = connect(server, port)
        self.drawn, self.waiting = time.monotonic(), []
        rows = []
        if steps and self.file.exists():
            with open(self.file, newline='') as file:
                rows = [row for row in list(csv.reader(file))[1:] if int(row[1]) <= steps]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.csv = open(self.file, 'w', newline='')
        self.writer = csv.writer(self.csv)
        self.writer.writerows([COLUMNS, *rows])
        self.csv.flush()

    def add(self, row, losses):
        """A step: a dict with the COLUMNS that are no loss, and a tensor of the others, which stays on its device until `record`."""
        self.waiting.append((row, losses.detach()))

    def record(self):
        """Write the steps added since the last time into loss.csv, and the newest into visdom; returns them, dicts with COLUMNS.

        All losses are fetched at once, since a GPU stands still for each fetch. Raises InputError for one that is not finite.
        """
        if not self.waiting:
            return []
        losses = torch.stack([losses for _, losses in self.waiting]).tolist()
        rows = [{**row, **dict(zip(LOSSES, values))} for (row, _), values in zip(self.waiting, losses)]
        self.waiting.clear()
        for row in rows:
            if not math.isfinite(row['total']):
                raise InputError(f'step {row["step"]}: the loss is {row["total"]}; lower learning_rate, or choose another loss')
            self.writer.writerow([f'{row[name]:.6g}' if isinstance(row[name], float) else row[name] for name in COLUMNS])
        if self.visdom:
            self.plot(rows[-1])
        return rows

    def plot(self, row):
        try:
            for name in LOSSES:
                self.visdom.line([row[name]], [row['step']], win=name, update='append', opts={
                    'title': 'weighted sum' if name == 'total' else name, 'xlabel': 'step', 'ylabel': 'loss'})
        except Exception as error:  # visdom wraps what its client meets in several types
            print(f'visdom no longer answers ({type(error).__name__}): going on without, loss.csv has all')
            self.visdom = None

    def flush(self, last=False):
        self.csv.flush()
        if last or time.monotonic() - self.drawn > FIGURE_EVERY:
            draw_loss_curve(self.file, self.figure)
            self.drawn = time.monotonic()


def connect(server, port):
    """visdom's client, or None and one warning where no server answers."""
    if not server:
        return None
    address = urlparse(server if '://' in server else f'http://{server}')
    try:
        socket.create_connection((address.hostname, port), timeout=2).close()
        from visdom import Visdom
        return Visdom(f'{address.scheme}://{address.hostname}', port=port, use_incoming_socket=False, raise_exceptions=True)
    except Exception as error:
        print(f'warning: no visdom server at {server}:{port} ({type(error).__name__}): training goes on, the curve is in loss.csv '
              'and loss_curve.png; start one with: python -m visdom.server -bind_local', file=sys.stderr)
        return None
