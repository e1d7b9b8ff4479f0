"""Under torchrun train_ds.py gives the training of one process, with any number of ranks, also if a rank is killed."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch

from net.ResUNet import ResUNet
from tests.training_runs import (
    ROOT,
    arguments,
    assert_same_training,
    children,
    finish,
    kill,
    read_curve,
    read_state,
    start,
    train,
    wait_for_file,
    wait_for_step,
)
from utilities.training.training_state import seed_random

# Two cases with 8 samples of each, and 5 samples a step: the last of 4 steps has one sample, for one rank only.
SAMPLES = dict(Epoch=1, samples_per_case=8, batch_size=5, validation_cases=3)
OPTIONS = dict(**SAMPLES, drop_rate=0, learning_rate=1e-4, resume='')
STEPS = 4
TOLERANCE = 1e-5  # The losses are summed in float32; the weights were up to 9e-7 apart.
FLOAT64 = 'tests/train_in_float64.py'
pytestmark = pytest.mark.slow


def start_ranks(
    folder: Path, ranks: int, module_dir: str, *torchrun_options: str, script: str = FLOAT64, **changes
) -> subprocess.Popen:
    """Start a training under torchrun."""
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={ranks}']
    settings = arguments(module_dir, **{**OPTIONS, **changes})
    return start([*torchrun, *torchrun_options, ROOT / script, *settings], folder)


def train_ranks(*args, **changes) -> str:
    """Run a training under torchrun to its end; return its standard output."""
    return finish(start_ranks(*args, **changes))[0]


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_state(folder)['network']


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest absolute difference of two state dicts."""
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(scope='module')
def alone(training_set):
    """The training of one process that computes each batch at once."""
    train(training_set, 'alone', FLOAT64, **OPTIONS)
    seed_random(0)
    initial = ResUNet(training=True, drop_rate=0).double().state_dict()
    assert len(read_curve(training_set / 'alone')) == STEPS
    assert distance(initial, read_weights(training_set / 'alone')) > 1e-4
    return training_set / 'alone'


@pytest.mark.parametrize('ranks, micro_batch_size', [(2, 0), (2, 1), (3, 1), (1, 1)])
def test_weights_and_validation_do_not_depend_on_ranks_and_micro_batches(training_set, alone, ranks, micro_batch_size):
    """Five samples a step: three and two for two ranks; two, two and one for three. In the last step one has none."""
    module_dir = f'{ranks}-{micro_batch_size}'
    if ranks == 1:
        out = train(training_set, module_dir, FLOAT64, **OPTIONS, micro_batch_size=micro_batch_size)
    else:
        out = train_ranks(training_set, ranks, module_dir, micro_batch_size=micro_batch_size)
    # Only the main process prints.
    assert len(re.findall('^epoch:.*loss1', out, re.MULTILINE)) == STEPS
    assert out.count('weights and loss curve written') == 1
    folder = training_set / module_dir
    assert distance(read_weights(alone), read_weights(folder)) <= TOLERANCE
    best = [torch.load(path / 'best.pth', weights_only=True) for path in (alone, folder)]
    assert distance(*best) <= TOLERANCE
    curves = [read_curve(path) for path in (alone, folder)]
    pandas.testing.assert_frame_equal(*curves, rtol=1e-5)
    expected, got = (curve['validation_dice'].dropna().tolist() for curve in curves)
    assert expected == got and len(got) == 1 and 0.1 < got[0] < 0.9


def test_train_ds_itself_differs_only_by_rounding(training_set):
    """In float32 the losses agree, and all but a few weights in a million."""
    settings = dict(samples_per_case=2, batch_size=2)
    train(training_set, 'float32', **{**OPTIONS, **settings})
    train_ranks(training_set, 2, 'float32-2', script='train_ds.py', **settings)
    one, two = (
        torch.cat([weights.flatten() for weights in read_weights(training_set / name).values()])
        for name in ('float32', 'float32-2')
    )
    assert ((one - two).abs() > 1e-5).float().mean() < 1e-3
    pandas.testing.assert_frame_equal(
        read_curve(training_set / 'float32'), read_curve(training_set / 'float32-2'), rtol=1e-3
    )


def test_torchrun_restarts_a_killed_rank_which_resumes_by_itself(training_set):
    """It needs no --resume, since it is the same run of torchrun. Each rank has its own dropout and restores it."""
    changes = dict(script='train_ds.py', Epoch=4, drop_rate=0.3, validate_every=2, samples_per_case=4, batch_size=4)
    train_ranks(training_set, 2, 'whole', **changes)
    run = start_ranks(training_set, 2, 'killed', '--max-restarts=2', **changes)
    wait_for_file(training_set / 'killed/last.pth')
    ranks = children(run, 'train_ds.py')
    assert len(ranks) == 2
    kill(ranks[1:])
    assert 'resuming after step' in finish(run)[0]
    assert_same_training(training_set / 'whole', training_set / 'killed')
    expected, got = (read_state(training_set / name) for name in ('whole', 'killed'))
    assert len(expected['others']) == 1 and torch.equal(expected['others'][0]['torch'], got['others'][0]['torch'])
    assert not torch.equal(expected['random']['torch'], expected['others'][0]['torch'])

    another = start_ranks(training_set, 2, 'killed', '--max-restarts=1', **changes)
    _, err = finish(another, status=1)
    assert err.count('an earlier training is here; resume it with --resume=auto') == 2


def test_a_training_stopped_by_a_batch_system_is_resumed_by_another_number_of_ranks(training_set, alone):
    run = start_ranks(training_set, 3, 'stopped', num_workers=1)
    wait_for_step(run, 1)
    # Some batch systems send the signal to every process; torchrun then sends it to the ranks once more.
    kill([*children(run, FLOAT64), run.pid], signal.SIGTERM)
    out, err = run.communicate(timeout=240)
    assert run.returncode != 0 and 'SIGTERM: stopped after step' in out, err
    step = read_state(training_set / 'stopped')['step']
    assert 1 <= step < STEPS
    assert f'resuming after step {step}' in train_ranks(training_set, 2, 'stopped', resume='auto')
    assert distance(read_weights(alone), read_weights(training_set / 'stopped')) <= TOLERANCE
