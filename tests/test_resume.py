"""A training that was stopped, however, ends like one that never was: the same weights to the bit, the same curve."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas
import pytest
import torch

from tests.conftest import ROOT
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

SETTINGS = dict(
    size=8,
    stride=4,
    batch_size=2,
    samples_per_case=4,
    loss='Hybrid',
    Epoch=4,
    save_every=2,
    visdom_server='',
    print_every=1,
    learning_rate=1e-3,
    learning_rate_decay=[2],
    alpha_epochs=1,
    resume='auto',
)
STEPS = 16
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def training_set(tmp_path_factory):
    return random_training_set(tmp_path_factory.mktemp('resume'), 2)


def random_training_set(folder, cases):
    """Write train/ct and train/seg into the folder, noise that is quick to train on; returns the folder."""
    rng = np.random.default_rng(0)
    for number in range(cases):
        write_volume(
            folder / f'train/ct/volume-{number}.nii',
            rng.integers(-200, 201, (20, 16, 16)).astype(np.int16),
            Geometry((1, 1, 1)),
        )
        write_volume(
            folder / f'train/seg/segmentation-{number}.nii',
            rng.integers(0, 2, (20, 32, 32)).astype(np.uint8),
            Geometry((0.5, 0.5, 1)),
        )
    return folder


def start(folder, module, script='train_ds.py', **changes):
    options = [f'--{name}={value}' for name, value in {**SETTINGS, 'module_dir': module, **changes}.items()]
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *options],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment,
    )


def finish(folder, module, script='train_ds.py', **changes):
    run = start(folder, module, script, **changes)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    return out + err


def after(run, step):
    """Wait until the run says that it did this step."""
    for line in run.stdout:
        if f'step:{step},' in line:
            return
    raise AssertionError(run.stderr.read())


def wait_for(file, seconds=60):
    """A file of the thread that writes while the steps go on."""
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f'{file} was not written'
        time.sleep(0.005)


def same(folder, one, other):
    """Networks byte for byte, the curve but for its seconds, and the state to go on from."""
    for name in sorted(path.name for path in (folder / one).glob('*.pth')):
        if name != 'last.pth':
            assert (folder / one / name).read_bytes() == (folder / other / name).read_bytes(), name
    curves = [pandas.read_csv(folder / module / 'loss.csv').drop(columns='seconds') for module in (one, other)]
    pandas.testing.assert_frame_equal(*curves, check_exact=True)
    first, second = (torch.load(folder / module / 'last.pth', weights_only=True) for module in (one, other))
    torch.testing.assert_close(first['curve'][:, :-1], second['curve'][:, :-1], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(first['random']['torch'], second['random']['torch'])
    for key, slot in first['optimizer'].items():
        assert all(torch.equal(slot[name], second['optimizer'][key][name]) for name in slot)
    assert not list((folder / other).glob('.part-*'))


@pytest.fixture(scope='module')
def whole(training_set):
    finish(training_set, 'whole', num_workers=0)
    assert len(pandas.read_csv(training_set / 'whole/loss.csv')) == STEPS
    return training_set


@pytest.mark.parametrize(
    'number, workers, step',
    [(signal.SIGKILL, 0, 6), (signal.SIGKILL, 2, 13), (signal.SIGTERM, 2, 6), (signal.SIGINT, 0, 2)],
)
def test_killed_or_stopped_and_resumed(whole, number, workers, step):
    module = f'{number.name}-{workers}'
    run = start(whole, module, num_workers=workers)
    after(run, step)
    if number == signal.SIGKILL:  # one that is killed before its first state is written begins anew
        wait_for(whole / module / 'last.pth')
    os.killpg(run.pid, number)  # as Ctrl-C and batch systems do: the workers too
    out, err = run.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert run.returncode == -number
    else:
        assert run.returncode == 128 + number and 'Traceback' not in err
        assert f'{number.name}: stopped after step' in out and '--resume=auto' in out
        stopped = torch.load(whole / module / 'last.pth', weights_only=True)
        assert step <= stopped['step'] < STEPS and stopped['batch'] == stopped['step'] % 4
    assert 'resuming after step' in finish(whole, module, num_workers=2 - workers)
    same(whole, 'whole', module)


def test_a_worker_killed_costs_a_warning(whole):
    run = start(whole, 'worker', num_workers=2)
    after(run, 2)
    workers = subprocess.run(['pgrep', '-P', str(run.pid)], capture_output=True, text=True).stdout.split()
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0 and err.count('a process that reads samples was killed') == 1 and 'Traceback' not in err
    same(whole, 'whole', 'worker')


def test_other_parameters_are_refused_unless_told(training_set):
    finish(training_set, 'changed', Epoch=1, num_workers=0)
    refused = start(training_set, 'changed', Epoch=2, num_workers=0, learning_rate=0.01, loss='Dice')
    err = refused.communicate(timeout=60)[1]
    assert refused.returncode == 1 and 'learning_rate 0.001, now 0.01' in err and "loss 'Hybrid', now 'Dice'" in err
    assert '--resume=changed' in err and err.count('\n') == 1
    write_volume(training_set / 'train/ct/volume-9.nii', np.zeros((20, 16, 16), np.int16), Geometry((1, 1, 1)))
    write_volume(
        training_set / 'train/seg/segmentation-9.nii', np.zeros((20, 32, 32), np.uint8), Geometry((0.5, 0.5, 1))
    )
    try:
        more = start(training_set, 'changed', Epoch=2, num_workers=0)
        assert '2 cases in training_set_path, now 3' in more.communicate(timeout=60)[1] and more.returncode == 1
    finally:
        for name in ('ct/volume', 'seg/segmentation'):
            (training_set / f'train/{name}-9.nii').unlink()
    finish(training_set, 'changed', Epoch=2, num_workers=0, learning_rate=0.01, resume='changed', keep_saved=1)
    curve = pandas.read_csv(training_set / 'changed/loss.csv')
    assert curve['learning_rate'].tolist() == [0.001] * 4 + [0.01] * 4
    assert [path.name[:5] for path in (training_set / 'changed').glob('net*.pth')] == ['net2-']


def test_a_loss_that_is_no_number_leaves_the_last_good_state(training_set):
    finish(training_set, 'nan', Epoch=1, num_workers=0)
    good = (training_set / 'nan/last.pth').read_bytes()
    run = start(
        training_set, 'nan', Epoch=3, num_workers=2, learning_rate=1e30, learning_rate_decay=[], resume='changed'
    )
    err = run.communicate(timeout=60)[1]
    assert run.returncode == 1 and 'Traceback' not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith('error: step 6: the loss of volume-') and 'lower learning_rate' in last
    assert (training_set / 'nan/last.pth').read_bytes() == good
