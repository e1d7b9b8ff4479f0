"""last.pth: what is taken up, what is refused, and that nothing of others is removed."""

import math

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


def training(folder, parameters=PARAMETERS, samples=SAMPLES):
    seed_random(0)
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    return TrainingState(folder, network, optimizer, torch.amp.GradScaler('cpu', enabled=False), parameters, samples)


def step(state):
    state.optimizer.zero_grad()
    state.network(torch.rand(4, 3)).square().sum().backward()
    state.optimizer.step()
    state.step += 1


def trained(folder, parameters=PARAMETERS):
    state = training(folder, parameters)
    for _ in range(3):
        step(state)
    state.epoch, state.batch, state.best, state.saved = 1, 1, 0.25, ['net1-0.2-0.2.pth']
    curve = [[epoch] * len(COLUMNS) for epoch in (1.0, 1.0, 2.0)]
    state.save(curve)
    state.finish()
    return state, curve


def test_goes_on_with_the_same_numbers(tmp_path):
    state, curve = trained(tmp_path)
    again = training(tmp_path)
    assert again.resume('auto') == curve
    assert (again.epoch, again.batch, again.step, again.best, again.saved) == (1, 1, 3, 0.25, ['net1-0.2-0.2.pth'])
    for _ in range(2):  # random input: the generators go on as well
        torch.manual_seed(5), step(state)
    for _ in range(2):
        torch.manual_seed(5), step(again)
    assert torch.equal(again.network.weight, state.network.weight)


def test_random_generators_go_on(tmp_path):
    import random

    import numpy as np

    def draw():
        return torch.rand(3).tolist(), random.random(), np.random.rand()

    trained(tmp_path)
    wanted = draw()
    seed_random(99)
    training(tmp_path).resume('auto')
    assert draw() == wanted


def test_nothing_there_is_none_and_another_training_is_not_lost(tmp_path):
    assert training(tmp_path).resume('auto') is None
    trained(tmp_path)
    with pytest.raises(InputError, match='earlier training.*--resume=auto'):
        training(tmp_path).resume('')


def test_what_changes_the_result_is_told(tmp_path):
    trained(tmp_path)
    assert training(tmp_path, {**PARAMETERS, 'num_workers': 0}).resume('auto')
    with pytest.raises(InputError, match='learning_rate 0.001, now 0.01; .*--resume=changed'):
        training(tmp_path, {**PARAMETERS, 'learning_rate': 0.01}).resume('auto')
    with pytest.raises(InputError, match='1 cases in training_set_path'):
        training(tmp_path, samples=[['volume-0', 21]]).resume('auto')
    assert training(tmp_path, {**PARAMETERS, 'learning_rate': 0.01}).resume('changed')


def test_a_state_with_the_old_name_of_a_parameter_is_resumed(tmp_path):
    trained(tmp_path, {**PARAMETERS, 'samples_at_once': 1})
    resumed = training(tmp_path, {**PARAMETERS, 'micro_batch_size': 2})
    resumed.save(resumed.resume('auto'))
    resumed.finish()
    saved = checkpoint.load_checkpoint(tmp_path / 'last.pth')
    assert saved['step'] == 3 and saved['parameters'] == {**PARAMETERS, 'micro_batch_size': 2}


def test_old_names_are_compared_under_their_new_ones(tmp_path, monkeypatch):
    trained(tmp_path)
    monkeypatch.setitem(RENAMED, 'learning_rate', 'alpha')
    with pytest.raises(InputError, match='alpha 0.001, now 0.002'):
        training(tmp_path, {'alpha': 0.002, 'num_workers': 2}).resume('auto')
    assert training(tmp_path, {'alpha': 0.001, 'num_workers': 2}).resume('auto')


def place(state, *keys):
    for key in keys[:-1]:
        state = state[key]
    return state, keys[-1]


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
def test_a_state_of_another_build_is_refused_in_one_line_and_nothing_of_it_taken(tmp_path, keys, value):
    trained(tmp_path)
    state = checkpoint.load_checkpoint(tmp_path / 'last.pth')
    inside, key = place(state, *keys)
    inside[key] = value
    save_checkpoint.save_checkpoint(tmp_path / 'last.pth', state)
    fresh = training(tmp_path)
    before = fresh.network.weight.clone()
    with pytest.raises(InputError, match='last.pth: ') as error:
        fresh.resume('auto')
    assert '\n' not in str(error.value) and torch.equal(fresh.network.weight, before) and fresh.step == 0


def test_keeps_the_newest_of_its_own_networks_and_all_of_others(tmp_path):
    (tmp_path / 'net550-0.028-0.022.pth').write_text('the reference')
    state = training(tmp_path)
    for epoch in (1, 2, 3, 3):
        state.save_network(f'net{epoch}-0.1-0.1.pth', keep=2)
    state.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'net2-0.1-0.1.pth',
        'net3-0.1-0.1.pth',
        'net550-0.028-0.022.pth',
    ]
    state.save_network('net4-0.1-0.1.pth')
    state.finish()
    assert len(list(tmp_path.iterdir())) == 4


def test_best_is_the_lowest(tmp_path):
    state, weights = training(tmp_path), []
    for loss in (0.5, 0.3, 0.4):
        step(state)
        state.save_best(loss)
        weights.append(state.network.weight.detach().clone())
    state.finish()
    assert torch.equal(checkpoint.load_checkpoint(tmp_path / 'best.pth')['weight'], weights[1]) and state.best == 0.3


def test_weights_that_are_not_finite_leave_the_last_good_state(tmp_path):
    state, curve = trained(tmp_path)
    good = (tmp_path / 'last.pth').read_bytes()
    with torch.no_grad():
        state.network.weight[0, 0] = math.inf
    with pytest.raises(InputError, match='step 3: weights are NaN or infinite'):
        state.save(curve)
    assert (tmp_path / 'last.pth').read_bytes() == good


def test_what_is_written_is_what_was_there_when_it_was_saved(tmp_path):
    state, curve = trained(tmp_path)
    before = state.network.weight.detach().clone()
    state.save(curve)
    step(state)  # while the thread writes
    state.finish()
    assert torch.equal(
        checkpoint.load_checkpoint(tmp_path / 'last.pth')['network']['weight'], before
    ) and not torch.equal(state.network.weight, before)


def test_a_file_that_could_not_be_written_is_told_later(tmp_path):
    state, curve = trained(tmp_path)
    state.folder = tmp_path / 'last.pth/no folder'
    state.save(curve)
    with pytest.raises(OSError, match='last.pth'):
        state.finish()
