"""Validation cases: which cases, their Dice by brute force, and that a training does not change by validating."""

import numpy as np
import pandas
import pytest
import torch

from dataset.dataset import Dataset
from net.ResUNet import ResUNet
from tests.training_runs import CASES
from utilities.base.errors import InputError
from utilities.inference.predict_mask import WindowSettings
from utilities.training.validation import Validation

WINDOWS = WindowSettings(size=8, stride=8, threshold=0.5)
CPU = torch.device('cpu')


def read_samples(folder):
    return Dataset(folder / 'train/ct', folder / 'train/seg', 8)


def case_names(samples):
    return [case.name for case in samples.cases]


def test_the_seed_chooses_cases_that_are_not_trained_on(training_set):
    chosen = []
    for seed in (0, 0, 1, 2, 3):
        samples = read_samples(training_set)
        held_out = samples.hold_out(2, seed)
        assert len(held_out.cases) == 2 and len(samples) == CASES - 2
        assert sorted(case_names(samples) + case_names(held_out)) == case_names(read_samples(training_set))
        assert [depth for _, depth in samples.case_depths()] == [20] * (CASES - 2)
        chosen.append(tuple(case_names(held_out)))
    assert chosen[0] == chosen[1] and len(set(chosen)) > 1


def test_at_least_one_case_must_remain(training_set):
    assert read_samples(training_set).hold_out(0, 0) is None
    with pytest.raises(InputError, match='validation_cases: wanted fewer than the 5 cases'):
        read_samples(training_set).hold_out(CASES, 0)


class BrightIsLiver(torch.nn.Module):
    """Predict liver where the CT is above 0, at twice its in-plane size."""

    def forward(self, ct):
        assert not self.training and ct.shape[2] == 8
        return (ct > 0).float().repeat_interleave(2, 3).repeat_interleave(2, 4)


def test_the_dice_is_the_mean_over_the_cases(training_set):
    network = BrightIsLiver()
    network.train()
    held_out = read_samples(training_set).hold_out(3, 0)
    dice = Validation(network, held_out, WINDOWS, CPU).mean_dice()
    expected = []
    for index in range(3):
        ct, label = held_out.read_case(index)
        assert ct.shape == (20, 16, 16) and ct.dtype == np.float32 and np.abs(ct).max() <= 1
        mask = np.kron(ct > 0, np.ones((1, 2, 2))).astype(bool)
        expected.append(2 * (mask & (label > 0)).sum() / (mask.sum() + (label > 0).sum()))
    assert dice == pytest.approx(np.mean(expected)) and network.training


def test_validating_draws_no_random_number(training_set):
    torch.manual_seed(0)
    network = ResUNet(training=True)
    held_out = read_samples(training_set).hold_out(1, 0)
    before = torch.get_rng_state()
    dice = Validation(network, held_out, WINDOWS, CPU).mean_dice()
    assert 0 <= dice <= 1 and torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_best_is_the_epoch_with_the_highest_validation_dice(finished_training):
    """Of 5 epochs every second one and the last are validated and saved."""
    log = (finished_training / 'train_ds.log').read_text()
    assert log.count('held out for validation: volume-') == 1 and log.count('validation Dice:') == 3
    dice = pandas.read_csv(finished_training / 'loss.csv').set_index('epoch')['validation_dice'].dropna()
    assert list(dice.index) == [2, 4, 5] and dice.between(0, 1).all()
    (best,) = finished_training.glob(f'net{dice.idxmax()}-*.pth')
    assert (finished_training / 'best.pth').read_bytes() == best.read_bytes()
