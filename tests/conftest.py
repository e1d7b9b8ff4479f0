"""What several tests share: scripts run through the command line, and volumes on disk."""

from utilities.base import environment

environment.prepare()  # before numpy and torch are imported, as scripts do

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from net.ResUNet import ResUNet
from tests.reference import recipe
from tests.small_cases import write_case
from tests.torture.trial import hear_signals
from tests.training_runs import train, write_training_set
from utilities.base.log import set_up_log
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [
    'data_prepare/make_phantom.py',
    'data_prepare/analyse_dataset.py',
    'data_prepare/check_dataset.py',
    'data_prepare/get_training_set.py',
    'train_ds.py',
    'val.py',
    'Densecrf/2D-CRF.py',
    'Densecrf/3D-CRF.py',
    'scripts/draw_figures.py',
    'scripts/write_report.py',
    'scripts/send_to_visdom.py',
    'tools/visdom_front_end.py',
    'scripts/visdom_server.py',
]


@pytest.fixture(scope='session', autouse=True)
def signals_and_log():
    """Let signals end tests as usual, and let log records reach the captured output, as in a script."""
    hear_signals()
    set_up_log()


@pytest.fixture(scope='session')
def recorded():
    folder = ROOT / 'tests/reference'
    return json.loads((folder / 'reference.json').read_text()), dict(np.load(folder / 'reference.npz'))


def running(*selection):
    """Return {process id: command} of the processes that options of `ps` select.

    Processes that have ended and were not yet waited for by their parent are left out.
    """
    lines = subprocess.run(
        ['ps', '-ww', '-o', 'pid=,stat=,args=', *selection], capture_output=True, text=True
    ).stdout.splitlines()
    return {
        int(number): command for number, state, command in (line.split(None, 2) for line in lines) if 'Z' not in state
    }


@pytest.fixture
def script(tmp_path):
    """script('val.py', size=16, ...) runs a script in tmp_path with these overrides; returns the completed process."""

    def run(name, *arguments, **overrides):
        command = [sys.executable, str(ROOT / name), *arguments, *(f'--{k}={v}' for k, v in overrides.items())]
        environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)

    return run


@pytest.fixture
def lits(tmp_path):
    """The recorded inputs on disk as data/{train,test}/{CT,seg} of tmp_path, parameter.py's default places."""
    for number, (shape, spacing, seed) in recipe.CASES.items():
        ct, label = recipe.volume(seed, shape)
        geometry = Geometry(spacing, recipe.ORIGIN, recipe.DIRECTION)
        for group in ('train', 'test'):
            write_volume(tmp_path / f'data/{group}/CT/volume-{number}.nii', ct, geometry)
            write_volume(tmp_path / f'data/{group}/seg/segmentation-{number}.nii', label, geometry)
    return tmp_path


@pytest.fixture(scope='session')
def small_data_original(tmp_path_factory):
    """The files of small_data, made once."""
    folder = tmp_path_factory.mktemp('small_data')
    for number in range(3):
        write_case(folder, 'train', number)
        write_case(folder, 'test', number)
    torch.manual_seed(0)
    torch.save(ResUNet(training=False).state_dict(), folder / 'weights.pth')
    return folder


@pytest.fixture
def small_data(small_data_original, tmp_path):
    """Three small training cases, three test cases and random weights (weights.pth) in tmp_path."""
    return shutil.copytree(small_data_original, tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope='session')
def training_set(tmp_path_factory):
    """A folder with a training set of random cases; tests add their module_dir to it and change nothing else."""
    folder = tmp_path_factory.mktemp('training')
    write_training_set(folder)
    return folder


@pytest.fixture(scope='session')
def finished_training(training_set):
    """The module_dir of a training that ran to its end without interruption."""
    train(training_set, 'finished')
    return training_set / 'finished'
