"""A training as it goes: a table and a figure in module_dir always, plots and pictures in visdom whenever a server answers.

Under torchrun every rank keeps the curve of the whole batch, and the first alone writes and shows it.
"""

import math
import time
from pathlib import Path

import torch

from utilities.base import distributed
from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.training.curve import COLUMNS, LOSSES, csv_row
from utilities.viewing.case_figures import draw_case
from utilities.viewing.case_volumes import CaseVolumes
from utilities.viewing.figure_files import save_figure
from utilities.viewing.training_figure import draw_loss_curve
from utilities.viewing.visdom_client import VisdomClient, show_parameters

FIGURE_EVERY = 60  # seconds; drawing takes a third of one
SAMPLE_EVERY = 60  # seconds between two pictures of a sample
SAMPLE_SHARE = 0.01  # of the time, at most, goes into predicting samples for them
MAX_POINTS = 10_000  # in a plot of visdom: of a longer run each nth step is shown
NONE = math.nan  # a column that was not measured; an empty cell in the table


class Monitor:
    """Rows of losses: `add` each step, `record` every few, `flush` after an epoch, `close` at the end.

    parameters: the effective ones, a dict. steps: of the whole training. curve: the rows so far, lists of COLUMNS, of one that goes on.
    """

    def __init__(self, module_dir, server='', port=8097, parameters=None, steps=0, curve=()):
        self.file, self.figure = Path(module_dir) / 'loss.csv', Path(module_dir) / 'loss_curve.png'
        self.curve = [list(row) for row in curve]
        self.lines = [','.join(COLUMNS), *map(csv_row, self.curve)]
        self.waiting = []
        self.start = time.monotonic() - (self.curve[-1][-1] if self.curve else 0)
        self.drawn = time.monotonic()
        self.next_sample, self.parameters = 0, parameters
        self.every = max(1, steps // MAX_POINTS)
        self.board = (
            VisdomClient(
                module_dir,
                server,
                port,
                'training goes on, the curve is in loss.csv and loss_curve.png; start one with: make visdom',
            )
            if server and distributed.is_main_process()
            else None
        )
        if self.board:
            show_curve(self.board, self.curve, 0, self.every)

    def add(self, losses, names, **row):
        """A step: a tensor of the LOSSES, which stays on its device until `record`, the names of its cases, and the other columns.

        Of the ranks each brings what its own samples add to the losses.
        """
        gpu_mb = torch.cuda.memory_reserved(losses.device) / 1e6 if losses.is_cuda else NONE
        self.waiting.append(
            (
                losses.detach(),
                names,
                {
                    **row,
                    'samples': len(names),
                    'validation_dice': NONE,
                    'gpu_mb': gpu_mb,
                    'seconds': time.monotonic() - self.start,
                },
            )
        )

    def record(self):
        """Take the steps added since the last time into the curve; returns the newest, a dict with COLUMNS.

        All losses are fetched at once, since a GPU stands still for each fetch. Raises InputError for one that is not finite.
        """
        before = len(self.curve)
        losses = (
            distributed.all_reduce_sum(torch.stack([losses for losses, _, _ in self.waiting])).tolist()
            if self.waiting
            else []
        )
        for values, (_, names, row) in zip(losses, self.waiting):
            if not all(map(math.isfinite, values)):
                self.write_table()
                raise InputError(
                    f'step {row["step"]}: the loss of {", ".join(names)} is {values}; look at these cases, lower '
                    'learning_rate or choose another loss; the last good state is kept, to go on by --resume=auto'
                )
            row = {**row, **dict(zip(LOSSES, values))}
            self.curve.append([row[name] for name in COLUMNS])
            self.lines.append(csv_row(self.curve[-1]))
        self.waiting.clear()
        if self.board:
            show_curve(self.board, self.curve, before, self.every)
            if self.parameters:  # once, behind the plots
                show_parameters(self.board, self.parameters)
                self.parameters = None
        return dict(zip(COLUMNS, self.curve[-1]))

    def validated(self, dice):
        """The mean Dice of the held-out cases after the newest step."""
        self.curve[-1][COLUMNS.index('validation_dice')] = dice
        self.lines[-1] = csv_row(self.curve[-1])
        log.info(f'epoch:{self.curve[-1][0]}, validation Dice:{dice:.4f}')
        if self.board:
            line_of(self.board, 'validation_dice', dict(zip(COLUMNS, self.curve[-1])), 'validation Dice')

    def mean(self, epoch):
        """Mean loss of the output head over an epoch's recorded steps."""
        values = []
        for row in reversed(self.curve):
            if row[0] != epoch:
                break
            values.append(row[COLUMNS.index('loss4')])
        return math.fsum(values) / len(values)

    def wants_sample(self):
        """Is it time for a picture, and is there a server to show it?"""
        return self.curve and self.board and self.board.is_connected and time.monotonic() >= self.next_sample

    def sample(self, title, ct, label, geometry, predict, window):
        """Show a sample in training: ct (z, y, x) normalised, label (z, Y, X) of this Geometry, predict(ct, shape) -> its mask, uint8.

        window: (lower, upper) HU.
        """
        start = time.monotonic()
        ct, label = ct.numpy(), label.numpy()
        prediction = predict(ct, label.shape)
        end = time.monotonic()
        self.next_sample = end + max(SAMPLE_EVERY, (end - start) / SAMPLE_SHARE)

        def draw():
            full = ct.repeat(label.shape[1] // ct.shape[1], 1).repeat(label.shape[2] // ct.shape[2], 2) * max(
                map(abs, window)
            )
            masks = {'label': label, 'prediction': prediction}
            return draw_case(CaseVolumes(title, full, masks, geometry), window)

        self.board.show_image('sample', draw, f'sample in training: {title}')

    def flush(self):
        self.write_table()
        if time.monotonic() - self.drawn > FIGURE_EVERY:
            self.draw()

    def close(self):
        """Table and figure of the whole curve, and a few seconds for visdom to take what is left."""
        self.write_table()
        self.draw()
        if self.board:
            self.board.close()

    def write_table(self):
        if not distributed.is_main_process():
            return
        with atomic_write(self.file) as part:
            part.write_text('\n'.join(self.lines) + '\n')

    def draw(self):
        if not distributed.is_main_process():
            return
        save_figure(draw_loss_curve(self.file), self.figure)
        self.drawn = time.monotonic()


def show_curve(board, curve, first=0, every=1):
    """Rows of the curve from `first` on, of which each `every`th step is shown, and every validation."""
    for number in range(first, len(curve)):
        row = dict(zip(COLUMNS, curve[number]))
        if not math.isnan(row['validation_dice']):
            line_of(board, 'validation_dice', row, 'validation Dice')
        if row['step'] % every:
            continue
        board.add_point(
            'loss',
            row['step'],
            [row[name] for name in LOSSES],
            log_scale=True,
            title='loss',
            xlabel='step',
            width=640,
            height=300,
            legend=[*LOSSES[:4], 'weighted sum'],
        )
        for name, title, options in (('learning_rate', 'learning rate', {'log_scale': True}), ('alpha', 'alpha', {})):
            line_of(board, name, row, title, **options)
        seconds = row['seconds'] - (curve[number - 1][-1] if number else 0)
        if seconds > 0:
            line_of(board, 'seconds_per_step', {**row, 'seconds_per_step': seconds}, 'seconds per step')
            if row['samples'] == row['samples']:
                line_of(
                    board,
                    'samples_per_second',
                    {**row, 'samples_per_second': row['samples'] / seconds},
                    'samples per second',
                )
        if not math.isnan(row['gpu_mb']):
            line_of(board, 'gpu_mb', row, 'GPU memory, MB')


def line_of(board, name, row, title, **options):
    board.add_point(name, row['step'], [row[name]], title=title, xlabel='step', width=310, height=300, **options)
