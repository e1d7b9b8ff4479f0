"""What monitoring costs a training: log, figure, table and a visdom server, beside the same steps without them."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import measure_call
from benchmarks.scene import HU_WINDOW
from benchmarks.trainers import ALPHA, LEARNING_RATE, make_batch, make_our_trainer
from utilities.base.log import log, log_to_file, set_up_log
from utilities.inference.devices import choose_devices
from utilities.inference.predict_mask import WindowSettings, predict_mask
from utilities.training.curve import Curve
from utilities.viewing.training_monitor import FIGURE_INTERVAL, Monitor
from utilities.viewing.visdom_front_end import find_static_folder, is_complete
from utilities.volumes.geometry import Geometry

STAGE = (
    'training steps, 2 x 16 x 64 x 64, with all that is shown of them, in visdom too, beside the same that show nothing'
)
SERVER = Path(__file__).resolve().parents[2] / 'scripts/visdom_server.py'
PRINT_EVERY, FLUSH_EVERY = 5, 8  # steps


def measure(folder: Path, repeats: int) -> dict | None:
    if not is_complete(find_static_folder()):
        return None
    device = choose_devices('')[0]
    ct, label = make_batch(2, 16, 64, device)
    network, _, step = make_our_trainer(ct, label)
    set_up_log()
    log_to_file(folder / 'train_ds.log')
    with visdom_server(folder) as port:
        curve = Curve(folder / 'loss.csv')
        monitor = Monitor(curve, 'http://127.0.0.1', port, {'size': 16})
        ours = MonitoredTraining(step, curve, monitor, network, ct, label)
        steps, seconds, peaks = measure_in_turn(lambda n: [step() for _ in range(n)], ours.run, repeats)
        windows = len(monitor.client.panes)
        monitor.close()
    slower = seconds['ours'] / seconds['plain'] - 1
    return {
        **{f'{name}_s': value for name, value in seconds.items()},
        **{f'{name}_mb': value / 1e6 for name, value in peaks.items()},
        'size': f'{steps} steps',
        'goal': 'at most 2% slower',
        'reached': slower <= 0.02,
        'agreement': f'{slower:+.1%}; {windows} windows of a visdom server beside it, '
        'sample, figure and table each minute',
    }


@contextmanager
def visdom_server(home: Path) -> Iterator[int]:
    """Run a visdom server whose home folder is `home`; yield its port, and kill the server afterwards."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, SERVER, f'--visdom_port={port}']
    environment = {**os.environ, 'HOME': str(home)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        server.stdout.readline()  # the server writes a line when it is ready
        yield port
    finally:
        server.kill()
        server.wait()


class MonitoredTraining:
    """Training steps that are recorded, printed and drawn as train_ds.py does it."""

    def __init__(
        self,
        step: Callable[[], torch.Tensor],
        curve: Curve,
        monitor: Monitor,
        network: torch.nn.Module,
        ct: torch.Tensor,
        label: torch.Tensor,
    ):
        self.step, self.curve, self.monitor = step, curve, monitor
        self.network, self.ct, self.label = network, ct, label

    def run(self, steps: int) -> None:
        first = len(self.curve.rows) + 1
        for number in range(first, first + steps):
            heads = self.step()
            position = dict(epoch=1, step=number, alpha=ALPHA, learning_rate=LEARNING_RATE)
            self.curve.add(torch.cat((heads, heads[3:])), ['volume-0'], **position)
            if number % PRINT_EVERY == 0:
                self.curve.record()
                self.monitor.show_new_rows()
                log.info(f'epoch:1, step:{number}, loss4:{self.curve.newest()["loss4"]:.3f}')
            if self.monitor.should_show_sample():
                geometry = Geometry((1.5, 1.5, 5))
                self.monitor.show_sample('volume-0', self.ct[0, 0], self.label[0], geometry, self.predict, HU_WINDOW)
            if number % FLUSH_EVERY == 0:
                self.curve.write_csv()
                self.monitor.draw_figure_if_due()

    def predict(self, ct: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        self.network.eval()
        mask = predict_mask(self.network, ct, shape, WindowSettings(16, 16, 0.5), self.ct.device)
        self.network.train()
        return mask


def measure_in_turn(
    plain: Callable[[int], object], ours: Callable[[int], object], repeats: int
) -> tuple[int, dict[str, float], dict[str, int]]:
    """Measure as many steps as fit into a minute: half of the plain ones, ours, the other half of the plain ones.

    In a minute whatever is drawn once a minute is drawn at least once.

    Returns:
        The number of steps, and {'plain', 'ours'}: seconds, and peak memory in bytes above what was in use before.
    """
    plain(10)
    ours(10)
    seconds_of_ten, _, _ = measure_call(lambda: plain(10))
    steps = int(1.1 * FIGURE_INTERVAL / seconds_of_ten * 10)
    blocks = [('plain', plain, steps // 2), ('ours', ours, steps), ('plain', plain, steps - steps // 2)]
    seconds, peaks = {'plain': 0.0, 'ours': 0.0}, {'plain': 0, 'ours': 0}
    for name, function, number in blocks * (1 if repeats < 5 else 2):
        elapsed, peak, _ = measure_call(lambda function=function, number=number: function(number))
        seconds[name] += elapsed
        peaks[name] = max(peaks[name], peak)
    return steps, seconds, peaks
