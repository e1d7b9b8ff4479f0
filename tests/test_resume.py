"""A training that is stopped and resumed gives the same weights to the bit, and the same curve, as one that is not."""

import os
import shutil
import signal

import pandas
import pytest

from tests.training_runs import (
    CASES,
    EPOCH_STEPS,
    STEPS,
    assert_same_training,
    children,
    finish,
    kill,
    read_state,
    start_training,
    train,
    wait_for_file,
    wait_for_step,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def one_epoch(training_set):
    """A finished training of one epoch, to be copied and continued."""
    train(training_set, 'one-epoch', Epoch=1)
    return training_set / 'one-epoch'


@pytest.mark.parametrize(
    'number, num_workers, step',
    [(signal.SIGKILL, 0, 5), (signal.SIGKILL, 2, 11), (signal.SIGTERM, 2, 5), (signal.SIGINT, 0, 2)],
)
def test_a_killed_or_stopped_training_is_resumed(training_set, finished_training, number, num_workers, step):
    module_dir = f'{number.name}-{num_workers}'
    run = start_training(training_set, module_dir, num_workers=num_workers)
    wait_for_step(run, step)
    if number == signal.SIGKILL:  # A training that is killed before it saved a state starts anew.
        wait_for_file(training_set / module_dir / 'last.pth')
    os.killpg(run.pid, number)  # Ctrl-C and batch systems send the signal to the worker processes as well.
    if number == signal.SIGKILL:
        finish(run, status=-number)
    else:
        out, err = finish(run, status=128 + number)
        assert f'{number.name}: stopped after step' in out and '--resume=auto' in out and 'Traceback' not in err
        stopped = read_state(training_set / module_dir)
        assert step <= stopped['step'] < STEPS and stopped['batch'] == stopped['step'] % EPOCH_STEPS
    assert 'resuming after step' in train(training_set, module_dir, num_workers=2 - num_workers)
    assert_same_training(finished_training, training_set / module_dir)


def test_a_killed_worker_costs_only_a_warning(training_set, finished_training):
    run = start_training(training_set, 'worker', num_workers=2)
    wait_for_step(run, 2)
    kill(children(run))
    _, err = finish(run)
    assert err.count('a process that reads samples was killed') == 1 and 'Traceback' not in err
    assert_same_training(finished_training, training_set / 'worker')


def test_other_settings_are_refused_unless_resume_is_changed(training_set, one_epoch):
    shutil.copytree(one_epoch, training_set / 'changed')
    _, err = finish(start_training(training_set, 'changed', learning_rate=0.01, loss='Dice'), status=1)
    assert 'learning_rate 0.001, now 0.01' in err and "loss 'Hybrid', now 'Dice'" in err
    assert '--resume=changed' in err and err.count('\n') == 1

    train(training_set, 'changed', Epoch=2, learning_rate=0.01, resume='changed', keep_saved=1)
    curve = pandas.read_csv(training_set / 'changed/loss.csv')
    assert curve['learning_rate'].tolist() == [0.001] * EPOCH_STEPS + [0.01] * EPOCH_STEPS
    assert [path.name[:5] for path in (training_set / 'changed').glob('net*.pth')] == ['net2-']


def test_another_training_set_is_refused(training_set, one_epoch, tmp_path):
    larger = shutil.copytree(training_set / 'train', tmp_path / 'train')
    for name in ('ct/volume', 'seg/segmentation'):
        shutil.copy(larger / f'{name}-0.nii', larger / f'{name}-9.nii')
    _, err = finish(start_training(training_set, 'one-epoch', training_set_path=larger), status=1)
    assert f'{CASES - 2} cases in training_set_path, now {CASES - 1}' in err


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(training_set, one_epoch):
    shutil.copytree(one_epoch, training_set / 'nan')
    good = (training_set / 'nan/last.pth').read_bytes()
    run = start_training(
        training_set, 'nan', Epoch=3, num_workers=2, learning_rate=1e30, learning_rate_decay=[], resume='changed'
    )
    _, err = finish(run, status=1)
    last_line = err.strip().splitlines()[-1]
    assert last_line.startswith(f'error: step {EPOCH_STEPS + 2}: the loss of volume-')
    assert 'lower learning_rate' in last_line and 'Traceback' not in err
    assert (training_set / 'nan/last.pth').read_bytes() == good
