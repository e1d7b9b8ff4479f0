"""The curve of a training: the losses of every step, stored in loss.csv."""

import math
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from statistics import fmean

import pandas
import torch

from utilities.base import distributed
from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError

LOSSES = ('loss1', 'loss2', 'loss3', 'loss4', 'total')
COLUMNS = ('epoch', 'step', *LOSSES, 'alpha', 'learning_rate', 'samples', 'validation_dice', 'gpu_mb', 'seconds')
WHOLE_NUMBERS = ('epoch', 'step', 'samples')
NOT_MEASURED = math.nan  # an empty cell in loss.csv


class Curve:
    """The rows of loss.csv, one for every step of a training.

    Attributes:
        path: loss.csv.
        rows: the recorded steps. A row is a list of numbers in the order of COLUMNS: losses without a unit, `gpu_mb`
            in MB, `seconds` since the start of the training without its interruptions.

    Under torchrun every rank holds the same curve; only the main process writes the file.
    """

    def __init__(self, path: Path | str, rows: Sequence[Sequence[float]] = ()) -> None:
        self.path = Path(path)
        self.rows = [list(row) for row in rows]
        # A long training has 100,000 rows and writes the file after every epoch, so each row is formatted only once.
        self.csv_lines = [','.join(COLUMNS), *map(csv_line, self.rows)]
        self.pending = []  # (losses, case names, other columns) of the steps that were added and not yet recorded
        self.start_time = time.monotonic() - (self.newest()['seconds'] if self.rows else 0)

    def add(self, losses: torch.Tensor, case_names: Sequence[str], **columns: float) -> None:
        """Add a step without waiting for the GPU; `record` completes it.

        Args:
            losses: shape (5,), in the order of LOSSES. Each rank passes the partial losses of its own samples.
            case_names: the cases of the whole batch.
            columns: epoch, step, alpha and learning_rate.
        """
        columns |= {
            'samples': len(case_names),
            'validation_dice': NOT_MEASURED,
            'gpu_mb': torch.cuda.memory_reserved(losses.device) / 1e6 if losses.is_cuda else NOT_MEASURED,
            'seconds': time.monotonic() - self.start_time,
        }
        self.pending.append((losses.detach(), case_names, columns))

    def record(self) -> None:
        """Turn all added steps into rows.

        Their losses are copied from the GPU together, since the GPU waits for each copy.
        Raises InputError, after writing loss.csv up to the step before, if a loss is not finite.
        """
        if not self.pending:
            return
        losses = distributed.all_reduce_sum(torch.stack([losses for losses, _, _ in self.pending])).tolist()
        for values, (_, case_names, columns) in zip(losses, self.pending):
            if not all(map(math.isfinite, values)):
                self.write_csv()
                raise InputError(
                    f'step {columns["step"]}: the loss of {", ".join(case_names)} is {values}; check these cases, '
                    'lower learning_rate or choose another loss; last.pth still holds the last good state: resume it '
                    'with --resume=auto'
                )
            columns |= zip(LOSSES, values)
            self.rows.append([columns[name] for name in COLUMNS])
            self.csv_lines.append(csv_line(self.rows[-1]))
        self.pending.clear()

    def newest(self) -> dict[str, float]:
        """Return the newest row, by the names of its columns."""
        return dict(zip(COLUMNS, self.rows[-1]))

    def set_validation_dice(self, dice: float) -> None:
        """Store the mean Dice of the validation cases in the newest row."""
        self.rows[-1][COLUMNS.index('validation_dice')] = dice
        self.csv_lines[-1] = csv_line(self.rows[-1])

    def mean_loss(self, epoch: int) -> float:
        """Return the mean loss of the output head (loss4) over the newest epoch, whose number is `epoch`."""
        rows = takewhile(lambda row: row[COLUMNS.index('epoch')] == epoch, reversed(self.rows))
        return fmean(row[COLUMNS.index('loss4')] for row in rows)

    def write_csv(self) -> None:
        """Write loss.csv. Raises OSError."""
        if not distributed.is_main_process():
            return
        with atomic_write(self.path) as part:
            part.write_text('\n'.join(self.csv_lines) + '\n')


def csv_line(row: Sequence[float]) -> str:
    """Format a row for loss.csv."""
    return ','.join(map(format_cell, COLUMNS, row))


def format_cell(column: str, value: float) -> str:
    """Format one number of a row for loss.csv."""
    if math.isnan(value):
        return ''
    return f'{int(value)}' if column in WHOLE_NUMBERS else f'{value:.6g}'


def read_rows(path: Path) -> list[list[float]]:
    """Read the rows of a loss.csv, with NaN for empty cells and for columns that it lacks. Raises InputError."""
    if not path.is_file():
        raise InputError(f'{path}: wanted the table of a training, found none; run train_ds.py, or set module_dir')
    try:
        table = pandas.read_csv(path).reindex(columns=COLUMNS).astype(float)
        if table[['epoch', 'step', 'loss4', 'seconds']].isna().any(axis=None):
            raise ValueError('numbers are missing')
    except ValueError as error:
        raise InputError(
            f'{path}: wanted a table with {", ".join(COLUMNS)}, got another ({error}); set module_dir'
        ) from None
    return table.values.tolist()
