"""Held-out cases: which, their Dice against a brute-force one, and that a training does not notice."""

import numpy as np
import pandas
import pytest
import torch

from dataset.dataset import Dataset
from net.ResUNet import ResUNet
from tests.test_resume import SETTINGS, finish, random_training_set
from utilities.base.errors import InputError
from utilities.inference.predict_mask import WindowSettings
from utilities.training.validation import Validation


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return random_training_set(tmp_path_factory.mktemp('validation'), 5)


def dataset(folder):
    return Dataset(folder / 'train/ct', folder / 'train/seg', 8)


def names(samples):
    return [case.name for case in samples.cases]


def test_held_out_cases_are_apart_and_chosen_by_the_seed(folder):
    chosen = []
    for seed in (0, 0, 1, 2, 3):
        samples = dataset(folder)
        held_out = samples.hold_out(2, seed)
        assert (
            len(held_out.cases) == 2
            and len(samples) == 3
            and sorted(names(samples) + names(held_out)) == names(dataset(folder))
        )
        assert [depth for _, depth in samples.case_depths()] == [20] * 3
        chosen.append(tuple(names(held_out)))
    assert chosen[0] == chosen[1] and len(set(chosen)) > 1
    assert dataset(folder).hold_out(0, 0) is None
    with pytest.raises(InputError, match='validation_cases: wanted fewer than the 5 cases'):
        dataset(folder).hold_out(5, 0)


class Bright(torch.nn.Module):
    """Liver where the CT is above 0, at twice its size in plane."""

    def forward(self, ct):
        assert not self.training and ct.shape[2] == 8
        return (ct > 0).float().repeat_interleave(2, 3).repeat_interleave(2, 4)


def test_the_dice_is_the_mean_over_the_cases(folder):
    samples = dataset(folder)
    network = Bright()
    network.train()
    held_out = samples.hold_out(3, 0)
    found = Validation(network, held_out, WindowSettings(8, 8, 0.5), torch.device('cpu')).mean_dice()
    wanted = []
    for index in range(3):
        ct, label = held_out.read_case(index)
        assert ct.shape == (20, 16, 16) and ct.dtype == np.float32 and np.abs(ct).max() <= 1
        mask = np.kron(ct > 0, np.ones((1, 2, 2))).astype(bool)
        wanted.append(2 * (mask & (label > 0)).sum() / (mask.sum() + (label > 0).sum()))
    assert found == pytest.approx(np.mean(wanted)) and network.training


def test_validating_draws_no_random_number(folder):
    torch.manual_seed(0)
    network = ResUNet(training=True)
    held_out = dataset(folder).hold_out(1, 0)
    before = torch.get_rng_state()
    dice = Validation(network, held_out, WindowSettings(8, 8, 0.5), torch.device('cpu')).mean_dice()
    assert 0 <= dice <= 1 and torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_best_is_the_epoch_with_the_highest_validation_dice(folder):
    settings = dict(
        validation_cases=2,
        validate_every=2,
        Epoch=5,
        samples_per_case=1,
        batch_size=3,
        threshold=0.4,
        num_workers=0,
        save_every=1,
        learning_rate_decay=[],
    )
    assert SETTINGS['loss'] == 'Hybrid'
    out = finish(folder, 'module', **settings)
    assert out.count('held out for validation: volume-') == 1 and out.count('validation Dice:') == 3
    curve = pandas.read_csv(folder / 'module/loss.csv').set_index('epoch')['validation_dice'].dropna()
    assert list(curve.index) == [2, 4, 5] and curve.between(0, 1).all()
    (best,) = (folder / 'module').glob(f'net{curve.idxmax()}-*.pth')
    assert (folder / 'module/best.pth').read_bytes() == best.read_bytes()
