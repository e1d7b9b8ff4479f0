"""Trainings of a few seconds, run as scripts, and the helpers that several tests use."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import torch

from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

ROOT = Path(__file__).resolve().parents[1]
CASES = 5  # in the training set
SETTINGS = dict(
    size=8,
    stride=4,
    batch_size=2,
    samples_per_case=2,
    loss='Hybrid',
    Epoch=5,
    save_every=2,
    validation_cases=2,
    validate_every=2,
    threshold=0.4,
    visdom_server='',
    print_every=1,
    learning_rate=1e-3,
    learning_rate_decay=[2],
    alpha_epochs=1,
    num_workers=0,
    resume='auto',
)
EPOCH_STEPS = 3  # (5 - 2) cases, 2 samples of each, 2 samples a step
STEPS = EPOCH_STEPS * SETTINGS['Epoch']


def write_training_set(folder: Path) -> None:
    """Write train/ct and train/seg into a folder: noise, quick to train on."""
    rng = np.random.default_rng(0)
    for number in range(CASES):
        ct = rng.integers(-200, 201, (20, 16, 16)).astype(np.int16)
        label = rng.integers(0, 2, (20, 32, 32)).astype(np.uint8)
        write_volume(folder / f'train/ct/volume-{number}.nii', ct, Geometry((1, 1, 1)))
        write_volume(folder / f'train/seg/segmentation-{number}.nii', label, Geometry((0.5, 0.5, 1)))


def start(command: list, folder: Path, **environment: str) -> subprocess.Popen:
    """Start a command in a folder, without GPU and in a process group of its own."""
    return subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', **environment},
    )


def arguments(module_dir: str, **changes) -> list[str]:
    """Return the arguments of a training in module_dir with SETTINGS and changes to them."""
    return [f'--{name}={value}' for name, value in {**SETTINGS, 'module_dir': module_dir, **changes}.items()]


def start_training(folder: Path, module_dir: str, script: str = 'train_ds.py', **changes) -> subprocess.Popen:
    """Start a training in one process."""
    return start([sys.executable, ROOT / script, *arguments(module_dir, **changes)], folder, OMP_NUM_THREADS='1')


def train(folder: Path, module_dir: str, script: str = 'train_ds.py', **changes) -> str:
    """Run a training to its end; return what it printed."""
    return ''.join(finish(start_training(folder, module_dir, script, **changes)))


def finish(run: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    """Wait for the end of a run, which must have this exit status; return its standard output and error."""
    out, err = run.communicate(timeout=240)
    assert run.returncode == status, err
    return out, err


def wait_for_step(run: subprocess.Popen, step: int) -> None:
    """Wait until a run prints the losses of a step."""
    for line in run.stdout:
        if f'step:{step},' in line:
            return
    raise AssertionError(run.stderr.read())


def wait_for_file(path: Path, timeout: float = 60) -> None:
    """Wait until a file exists; timeout in seconds."""
    end = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < end, f'{path} was not written'
        time.sleep(0.005)


def read_curve(folder: Path) -> pandas.DataFrame:
    """Read the loss.csv of a module_dir without its seconds, which differ from run to run."""
    return pandas.read_csv(folder / 'loss.csv').drop(columns='seconds')


def read_state(folder: Path) -> dict:
    """Read the last.pth of a module_dir."""
    return torch.load(folder / 'last.pth', weights_only=True)


def assert_same_training(expected: Path, got: Path) -> None:
    """The weights are the same bytes, and the curve and the state to resume from are equal but for the seconds."""
    for path in expected.glob('*.pth'):
        if path.name != 'last.pth':
            assert path.read_bytes() == (got / path.name).read_bytes(), path.name
    pandas.testing.assert_frame_equal(read_curve(expected), read_curve(got), check_exact=True)
    first, second = read_state(expected), read_state(got)
    torch.testing.assert_close(first['curve'][:, :-1], second['curve'][:, :-1], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(first['random']['torch'], second['random']['torch'])
    for index, slot in first['optimizer'].items():
        assert all(torch.equal(slot[name], second['optimizer'][index][name]) for name in slot)
    assert not list(got.glob('.part-*'))


def children(run: subprocess.Popen, command: str = '') -> list[int]:
    """Return the process ids of the children of a run, of those whose command line contains `command`."""
    selection = ['-f', command] if command else []
    found = subprocess.run(['pgrep', '-P', str(run.pid), *selection], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to processes."""
    for pid in pids:
        os.kill(pid, number)
