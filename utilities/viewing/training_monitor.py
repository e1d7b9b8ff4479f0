"""Show the curve of a training while it runs: loss_curve.png always, and plots in visdom whenever a server answers."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from utilities.base import distributed
from utilities.training.curve import COLUMNS, LOSSES, Curve
from utilities.viewing.case_figures import draw_case
from utilities.viewing.case_volumes import CaseVolumes
from utilities.viewing.figure_files import save_figure
from utilities.viewing.training_figure import draw_loss_curve
from utilities.viewing.visdom_client import VisdomClient, show_parameters
from utilities.volumes.geometry import Geometry

FIGURE_INTERVAL = 60  # seconds between two drawings of loss_curve.png; one takes a third of a second
SAMPLE_INTERVAL = 60  # seconds between two pictures of a sample
SAMPLE_TIME_SHARE = 0.01  # largest share of the time of a training that predicting samples for pictures may take
MAX_POINTS = 10_000  # steps in a plot of visdom; of a longer training every nth step is shown
NO_SERVER = 'training continues, its curve is in loss.csv and loss_curve.png; start a server with: make visdom'


class Monitor:
    """Show a Curve as it grows. Under torchrun only the main process shows it.

    Args:
        curve: the curve. The figure is drawn beside its file.
        server: address of the visdom server; '' shows nothing in visdom.
        port: port of the visdom server.
        parameters: the settings of the run, shown as a table in visdom.
        total_steps: number of steps of the whole training.
    """

    def __init__(
        self, curve: Curve, server: str = '', port: int = 8097, parameters: dict | None = None, total_steps: int = 0
    ):
        self.curve, self.parameters = curve, parameters
        self.figure_path = curve.path.with_name('loss_curve.png')
        self.figure_time, self.next_sample_time = time.monotonic(), 0
        self.plot_every = max(1, total_steps // MAX_POINTS)
        self.plotted_rows = 0
        self.client = None
        if server and distributed.is_main_process():
            self.client = VisdomClient(curve.path.parent, server, port, NO_SERVER)
            self.show_new_rows()

    def show_new_rows(self) -> None:
        """Send the rows that the curve gained since the last call to visdom."""
        if not self.client:
            return
        show_curve(self.client, self.curve.rows, self.plotted_rows, self.plot_every)
        self.plotted_rows = len(self.curve.rows)
        if self.parameters and self.plotted_rows:  # once, and after the plots, so that visdom places them first
            show_parameters(self.client, self.parameters)
            self.parameters = None

    def show_validation_dice(self) -> None:
        """Send the validation Dice of the newest row to visdom."""
        if self.client:
            plot_column(self.client, 'validation_dice', self.curve.newest(), 'validation Dice')

    def should_show_sample(self) -> bool:
        """Return whether a picture of a sample is due and a visdom server is there to show it."""
        is_connected = self.client is not None and self.client.is_connected
        return is_connected and bool(self.curve.rows) and time.monotonic() >= self.next_sample_time

    def show_sample(
        self,
        title: str,
        ct: torch.Tensor,
        label: torch.Tensor,
        geometry: Geometry,
        predict: Callable[[np.ndarray, tuple[int, ...]], np.ndarray],
        window: tuple[float, float],
    ) -> None:
        """Show a training sample in visdom, with its label and the mask that the network predicts now.

        Args:
            title: the title of the picture.
            ct: the normalised CT, (z, y, x).
            label: the label, uint8 (z, Y, X).
            geometry: the Geometry of the label.
            predict: function of a normalised CT and the shape of its mask that returns the mask, uint8.
            window: lower and upper end of the intensity window in HU.
        """
        start = time.monotonic()
        ct, label = ct.numpy(), label.numpy()
        masks = {'label': label, 'prediction': predict(ct, label.shape)}
        end = time.monotonic()
        self.next_sample_time = end + max(SAMPLE_INTERVAL, (end - start) / SAMPLE_TIME_SHARE)

        def draw():
            rows, columns = np.array(label.shape[1:]) // ct.shape[1:]
            hu = ct.repeat(rows, 1).repeat(columns, 2) * max(map(abs, window))
            return draw_case(CaseVolumes(title, hu, masks, geometry), window)

        self.client.show_image('sample', draw, f'sample in training: {title}')

    def draw_figure_if_due(self) -> None:
        """Draw loss_curve.png from loss.csv if the last drawing is longer than FIGURE_INTERVAL ago."""
        if time.monotonic() - self.figure_time > FIGURE_INTERVAL:
            self.draw_figure()

    def draw_figure(self) -> None:
        """Draw loss_curve.png from loss.csv."""
        if distributed.is_main_process():
            save_figure(draw_loss_curve(self.curve.path), self.figure_path)
            self.figure_time = time.monotonic()

    def close(self) -> None:
        """Draw the final figure and give visdom a few seconds to receive what was not sent yet."""
        self.draw_figure()
        if self.client:
            self.client.close()


def show_curve(client: VisdomClient, rows: Sequence[Sequence[float]], first: int = 0, every: int = 1) -> None:
    """Plot the rows of a curve in visdom.

    Args:
        client: the visdom environment.
        rows: all rows of the curve.
        first: index of the first row to plot.
        every: plot the losses of every nth step only; a validation Dice is always plotted.
    """
    for index in range(first, len(rows)):
        row = dict(zip(COLUMNS, rows[index]))
        if not math.isnan(row['validation_dice']):
            plot_column(client, 'validation_dice', row, 'validation Dice')
        if row['step'] % every:
            continue
        losses, legend = [row[name] for name in LOSSES], [*LOSSES[:4], 'weighted sum']
        client.add_point(
            'loss',
            row['step'],
            losses,
            log_scale=True,
            title='loss',
            xlabel='step',
            width=640,
            height=300,
            legend=legend,
        )
        plot_column(client, 'learning_rate', row, 'learning rate', log_scale=True)
        plot_column(client, 'alpha', row, 'alpha')
        row['seconds_per_step'] = row['seconds'] - (rows[index - 1][-1] if index else 0)
        if row['seconds_per_step'] > 0:
            row['samples_per_second'] = row['samples'] / row['seconds_per_step']
            plot_column(client, 'seconds_per_step', row, 'seconds per step')
            if not math.isnan(row['samples']):
                plot_column(client, 'samples_per_second', row, 'samples per second')
        if not math.isnan(row['gpu_mb']):
            plot_column(client, 'gpu_mb', row, 'GPU memory, MB')


def plot_column(client: VisdomClient, name: str, row: dict[str, float], title: str, log_scale: bool = False) -> None:
    """Add one value of a row to the plot of its column."""
    client.add_point(
        name, row['step'], [row[name]], log_scale=log_scale, title=title, xlabel='step', width=310, height=300
    )
