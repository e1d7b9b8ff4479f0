"""train_ds.py under torchrun: the training of one process, whatever the number of ranks, and whatever happens to one of them."""

import os
import re
import signal
import subprocess
import sys

import pandas
import pytest
import torch

from tests.conftest import ROOT
from tests.test_resume import SETTINGS, finish, random_training_set, same, wait_for

STEPS = 5  # of an epoch of 20 samples
CLOSE = 1e-5  # the losses are summed in float32 still, by which they came out up to 9e-7 apart
OPTIONS = {
    **SETTINGS,
    'batch_size': 4,
    'samples_per_case': 5,
    'Epoch': 1,
    'drop_rate': 0,
    'learning_rate': 1e-4,
    'num_workers': 0,
    'resume': '',
}
FLOAT64 = 'tests/train_in_float64.py'
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def training_set(tmp_path_factory):
    return random_training_set(tmp_path_factory.mktemp('ranks'), 4)


def torchrun(folder, ranks, module, *options, script=FLOAT64, **changes):
    """Start a script under torchrun, with these options of torchrun and parameters."""
    parameters = [f'--{name}={value}' for name, value in {**OPTIONS, 'module_dir': module, **changes}.items()]
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        f'--nproc_per_node={ranks}',
        *options,
        str(ROOT / script),
        *parameters,
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''},
    )


def ended(run):
    out, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    return out


def weights(folder, module):
    return torch.load(folder / module / 'last.pth', weights_only=True)['network']


def apart(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(scope='module')
def alone(training_set):
    """Weights and curve of one process that takes the whole batch."""
    finish(training_set, 'alone', FLOAT64, **OPTIONS)
    finish(training_set, 'start', FLOAT64, **{**OPTIONS, 'learning_rate': 1e-30})  # the weights that all start from
    curve = pandas.read_csv(training_set / 'alone/loss.csv')
    assert len(curve) == STEPS and apart(weights(training_set, 'start'), weights(training_set, 'alone')) > 1e-4
    return weights(training_set, 'alone'), curve


@pytest.mark.parametrize('ranks, micro_batch_size', [(2, 0), (2, 1), (3, 1), (1, 1)])
def test_the_weights_do_not_depend_on_ranks_and_parts(training_set, alone, ranks, micro_batch_size):
    """Four samples a step: two on each of two ranks, at once or one after the other; two, one and one on three."""
    module = f'{ranks}-{micro_batch_size}'
    if ranks == 1:
        out = finish(training_set, module, FLOAT64, **{**OPTIONS, 'micro_batch_size': micro_batch_size})
    else:
        out = ended(torchrun(training_set, ranks, module, micro_batch_size=micro_batch_size))
    assert (
        len(re.findall('^epoch:', out, re.MULTILINE)) == STEPS and out.count('weights and loss curve written') == 1
    )  # one rank tells
    assert apart(alone[0], weights(training_set, module)) <= CLOSE
    curve = pandas.read_csv(training_set / module / 'loss.csv')
    pandas.testing.assert_frame_equal(curve.drop(columns='seconds'), alone[1].drop(columns='seconds'), rtol=1e-5)


def test_train_ds_itself_differs_by_rounding_alone(training_set):
    """float32: the losses agree, and all but a few weights in a million."""
    finish(training_set, 'float32', **OPTIONS)
    ended(torchrun(training_set, 2, 'float32-2', script='train_ds.py'))
    one, two = (
        torch.cat([each.flatten() for each in weights(training_set, module).values()])
        for module in ('float32', 'float32-2')
    )
    assert ((one - two).abs() > 1e-5).float().mean() < 1e-3
    curves = [
        pandas.read_csv(training_set / module / 'loss.csv').drop(columns='seconds')
        for module in ('float32', 'float32-2')
    ]
    pandas.testing.assert_frame_equal(*curves, rtol=1e-3)


def test_a_rank_without_a_sample_counts_nothing(training_set):
    """Twenty samples, nineteen a step: in the second step one of two ranks has none."""
    finish(training_set, 'odd', FLOAT64, **{**OPTIONS, 'batch_size': 19})
    ended(torchrun(training_set, 2, 'odd-2', batch_size=19))
    assert apart(weights(training_set, 'odd'), weights(training_set, 'odd-2')) <= CLOSE


def test_a_killed_rank_is_started_again_and_goes_on_by_itself(training_set):
    """Without --resume: it is the same run of torchrun. Each rank has its own dropout, and takes it up."""
    changes = dict(Epoch=4, drop_rate=0.3, validation_cases=1, validate_every=2, samples_per_case=4)
    ended(torchrun(training_set, 2, 'whole', script='train_ds.py', **changes))
    run = torchrun(training_set, 2, 'killed', '--max-restarts=2', script='train_ds.py', **changes)
    wait_for(training_set / 'killed/last.pth')
    ranks = subprocess.run(
        ['pgrep', '-P', str(run.pid), '-f', 'train_ds.py'], capture_output=True, text=True
    ).stdout.split()
    assert len(ranks) == 2
    os.kill(int(ranks[1]), signal.SIGKILL)
    out = ended(run)
    assert 'resuming after step' in out
    same(training_set, 'whole', 'killed')
    others = [
        torch.load(training_set / module / 'last.pth', weights_only=True)['others'] for module in ('whole', 'killed')
    ]
    assert len(others[0]) == 1 and torch.equal(others[0][0]['torch'], others[1][0]['torch'])
    first = torch.load(training_set / 'whole/last.pth', weights_only=True)['random']['torch']
    assert not torch.equal(first, others[0][0]['torch'])

    refused = torchrun(
        training_set, 2, 'killed', '--max-restarts=1', script='train_ds.py', **changes
    )  # another run of torchrun
    err = refused.communicate(timeout=240)[1]
    assert refused.returncode == 1 and err.count('an earlier training is here; resume it with --resume=auto') == 2


def test_stopped_by_a_batch_system_and_resumed_by_other_numbers_of_ranks(training_set, alone):
    run = torchrun(training_set, 3, 'stopped', num_workers=1)
    for line in run.stdout:
        if 'step:1,' in line:
            break
    ranks = subprocess.run(['pgrep', '-P', str(run.pid), '-f', FLOAT64], capture_output=True, text=True).stdout.split()
    for each in (*ranks, run.pid):  # as some batch systems do; torchrun tells the ranks once more
        os.kill(int(each), signal.SIGTERM)
    out, err = run.communicate(timeout=240)
    assert run.returncode != 0 and 'SIGTERM: stopped after step' in out, err
    stopped = torch.load(training_set / 'stopped/last.pth', weights_only=True)['step']
    assert 1 <= stopped < STEPS
    assert f'resuming after step {stopped}' in ended(torchrun(training_set, 2, 'stopped', resume='auto'))
    assert apart(alone[0], weights(training_set, 'stopped')) <= CLOSE


def test_validation_is_the_mean_over_all_ranks_cases(training_set):
    changes = dict(validation_cases=3, validate_every=1, samples_per_case=4)
    finish(training_set, 'validated', FLOAT64, **{**OPTIONS, **changes})
    ended(torchrun(training_set, 2, 'validated-2', **changes))
    one, two = (
        pandas.read_csv(training_set / module / 'loss.csv')['validation_dice'].dropna().tolist()
        for module in ('validated', 'validated-2')
    )
    assert one == two and len(one) == 1 and 0.1 < one[0] < 0.9
    assert (
        apart(
            *(
                torch.load(training_set / module / 'best.pth', weights_only=True)
                for module in ('validated', 'validated-2')
            )
        )
        <= CLOSE
    )
