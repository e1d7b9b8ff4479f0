"""last.pth: what is restored, what is refused, and which files are removed."""

import math
import random

import numpy as np
import pytest
import torch

from utilities.base.errors import InputError
from utilities.inference import checkpoint
from utilities.run.parameter_rules import RENAMED
from utilities.training import save_checkpoint
from utilities.training.curve import COLUMNS
from utilities.training.training_state import TrainingState, seed_random

PARAMETERS = {'learning_rate': 1e-3, 'num_workers': 2}
SAMPLES = [['volume-0', 20]]


def new_state(folder, parameters=PARAMETERS, samples=SAMPLES):
    """Return the state of a small training that has not started."""
    seed_random(0)
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    return TrainingState(folder, network, optimizer, torch.amp.GradScaler('cpu', enabled=False), parameters, samples)


def train_step(state):
    state.optimizer.zero_grad()
    state.network(torch.rand(4, 3)).square().sum().backward()
    state.optimizer.step()
    state.step += 1


def saved_state(folder, parameters=PARAMETERS):
    """Train three steps and save them; return the state and the rows of its curve."""
    state = new_state(folder, parameters)
    for _ in range(3):
        train_step(state)
    state.epoch, state.batch, state.best, state.saved = 1, 1, 0.25, ['net1-0.2-0.2.pth']
    rows = [[epoch] * len(COLUMNS) for epoch in (1.0, 1.0, 2.0)]
    state.save(rows)
    state.wait_for_writes()
    return state, rows


def test_a_resumed_training_has_the_same_numbers(tmp_path):
    state, rows = saved_state(tmp_path)
    resumed = new_state(tmp_path)
    assert resumed.resume('auto') == rows
    assert (resumed.epoch, resumed.batch, resumed.step) == (1, 1, 3)
    assert (resumed.best, resumed.saved) == (0.25, ['net1-0.2-0.2.pth'])
    for training in (state, resumed):
        torch.manual_seed(5)
        train_step(training)
        train_step(training)
    assert torch.equal(resumed.network.weight, state.network.weight)


def test_random_generators_are_restored(tmp_path):
    def draw():
        return torch.rand(3).tolist(), random.random(), np.random.rand()

    saved_state(tmp_path)
    expected = draw()
    seed_random(99)
    new_state(tmp_path).resume('auto')
    assert draw() == expected


def test_an_earlier_training_is_not_overwritten(tmp_path):
    assert new_state(tmp_path).resume('auto') is None
    saved_state(tmp_path)
    with pytest.raises(InputError, match='earlier training.*--resume=auto'):
        new_state(tmp_path).resume('')


def test_what_changes_the_result_is_named_and_refused(tmp_path):
    saved_state(tmp_path)
    assert new_state(tmp_path, {**PARAMETERS, 'num_workers': 0}).resume('auto')
    with pytest.raises(InputError, match='learning_rate 0.001, now 0.01; .*--resume=changed'):
        new_state(tmp_path, {**PARAMETERS, 'learning_rate': 0.01}).resume('auto')
    with pytest.raises(InputError, match='1 cases in training_set_path'):
        new_state(tmp_path, samples=[['volume-0', 21]]).resume('auto')
    assert new_state(tmp_path, {**PARAMETERS, 'learning_rate': 0.01}).resume('changed')


def test_a_state_with_the_old_name_of_a_parameter_is_resumed(tmp_path):
    saved_state(tmp_path, {**PARAMETERS, 'samples_at_once': 1})
    resumed = new_state(tmp_path, {**PARAMETERS, 'micro_batch_size': 2})
    resumed.save(resumed.resume('auto'))
    resumed.wait_for_writes()
    saved = checkpoint.load_checkpoint(tmp_path / 'last.pth')
    assert saved['step'] == 3 and saved['parameters'] == {**PARAMETERS, 'micro_batch_size': 2}


def test_old_names_are_compared_under_their_new_ones(tmp_path, monkeypatch):
    saved_state(tmp_path)
    monkeypatch.setitem(RENAMED, 'learning_rate', 'alpha')
    with pytest.raises(InputError, match='alpha 0.001, now 0.002'):
        new_state(tmp_path, {'alpha': 0.002, 'num_workers': 2}).resume('auto')
    assert new_state(tmp_path, {'alpha': 0.001, 'num_workers': 2}).resume('auto')


@pytest.mark.parametrize(
    'keys, value',
    [
        (('network', 'bias'), torch.zeros(3)),
        (('network', 'bias'), torch.tensor([1.0, math.nan])),
        (('network',), None),
        (('optimizer', 0, 'exp_avg'), 'x'),
        (('optimizer', 0, 'exp_avg'), torch.zeros(1)),
        (('optimizer', 1), {}),
        (('optimizer',), {}),
        (('step',), -1),
        (('step',), 4),
        (('step',), True),
        (('step',), 2**40),
        (('epoch',), 1.5),
        (('batch',), torch.ones(2)),
        (('batch',), 10**30),
        (('best',), 'x'),
        (('saved',), ['../volume-0.nii']),
        (('saved',), [1]),
        (('saved',), None),
        (('curve',), torch.zeros(3)),
        (('curve',), torch.zeros(1, 10, dtype=torch.float64).expand(2**40, 10)),
        (('random', 'torch'), torch.zeros(3, dtype=torch.uint8)),
        (('random', 'numpy'), ('MT19937', [1], 0, 0, 0.0)),
        (('random', 'python'), (3, (2**99,) * 625, None)),
        (('samples',), 7),
        (('parameters',), None),
        (('parameters', 'learning_rate'), torch.ones(2)),
    ],
)
def test_a_state_of_another_structure_is_refused_in_one_line_and_changes_nothing(tmp_path, keys, value):
    saved_state(tmp_path)
    state = checkpoint.load_checkpoint(tmp_path / 'last.pth')
    entry = state
    for key in keys[:-1]:
        entry = entry[key]
    entry[keys[-1]] = value
    save_checkpoint.save_checkpoint(tmp_path / 'last.pth', state)
    fresh = new_state(tmp_path)
    before = fresh.network.weight.clone()
    with pytest.raises(InputError, match='last.pth: ') as error:
        fresh.resume('auto')
    assert '\n' not in str(error.value) and torch.equal(fresh.network.weight, before) and fresh.step == 0


def test_only_the_oldest_of_its_own_networks_are_removed(tmp_path):
    (tmp_path / 'net550-0.028-0.022.pth').write_text('not written by this training')
    state = new_state(tmp_path)
    for epoch in (1, 2, 3, 3):
        state.save_network(f'net{epoch}-0.1-0.1.pth', keep=2)
    state.wait_for_writes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'net2-0.1-0.1.pth',
        'net3-0.1-0.1.pth',
        'net550-0.028-0.022.pth',
    ]
    state.save_network('net4-0.1-0.1.pth')
    state.wait_for_writes()
    assert len(list(tmp_path.iterdir())) == 4


def test_best_holds_the_weights_of_the_lowest_loss(tmp_path):
    state, weights = new_state(tmp_path), []
    for loss in (0.5, 0.3, 0.4):
        train_step(state)
        state.save_best(loss)
        weights.append(state.network.weight.detach().clone())
    state.wait_for_writes()
    assert torch.equal(checkpoint.load_checkpoint(tmp_path / 'best.pth')['weight'], weights[1]) and state.best == 0.3


def test_weights_that_are_not_finite_keep_the_last_good_state(tmp_path):
    state, rows = saved_state(tmp_path)
    good = (tmp_path / 'last.pth').read_bytes()
    with torch.no_grad():
        state.network.weight[0, 0] = math.inf
    with pytest.raises(InputError, match='step 3: weights are NaN or infinite'):
        state.save(rows)
    assert (tmp_path / 'last.pth').read_bytes() == good


def test_a_file_holds_the_weights_at_the_time_of_saving(tmp_path):
    state, rows = saved_state(tmp_path)
    before = state.network.weight.detach().clone()
    state.save(rows)
    train_step(state)  # while the thread may still write
    state.wait_for_writes()
    saved = checkpoint.load_checkpoint(tmp_path / 'last.pth')['network']['weight']
    assert torch.equal(saved, before) and not torch.equal(state.network.weight, before)


def test_a_file_that_could_not_be_written_is_reported_by_wait_for_writes(tmp_path):
    state, rows = saved_state(tmp_path)
    state.folder = tmp_path / 'last.pth/no folder'
    state.save(rows)
    with pytest.raises(OSError, match='last.pth'):
        state.wait_for_writes()
