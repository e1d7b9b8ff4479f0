"""All eight losses: recorded figures, the formulas by hand, training, extremes."""

import math

import numpy as np
import pytest
import torch

from loss import LOSSES
from tests.reference import recipe

RECORDED = 'Dice', 'ELDice', 'Jaccard', 'SS', 'Tversky', 'Hybrid', 'BCE'  # The reference's WCE does not run.


@pytest.mark.parametrize('name', RECORDED)
def test_recorded_value_and_gradient(recorded, name):
    figures = recorded[0]['loss'][LOSSES[name].__name__]
    prediction, target = recipe.loss_inputs()
    prediction = torch.tensor(prediction, requires_grad=True)
    value = LOSSES[name]()(prediction, torch.tensor(target))
    value.backward()
    assert value.item() == pytest.approx(figures['value'], rel=1e-5)
    assert prediction.grad.abs().sum().item() == pytest.approx(figures['gradient_abs_sum'], rel=1e-5)


def by_hand(name, prediction, target):
    """Compute a loss in float64 with numpy, sample by sample, from the published formulas."""
    values = []
    for p, t in zip(prediction[:, 0].astype(float), target.astype(float)):
        pt, pp, tt = (p * t).sum(), (p * p).sum(), (t * t).sum()
        dice = 2 * pt / (pp + tt + 1)
        values.append(
            {
                'Dice': 1 - dice,
                'ELDice': (-math.log(dice + 1e-5)) ** 0.3,
                'Jaccard': 1 - pt / (pp + tt - pt + 1),
                'SS': 0.05 * ((p - t) ** 2 * t).sum() / (1 + t.sum())
                + 0.95 * ((p - t) ** 2 * (1 - t)).sum() / (1 + (1 - t).sum()),
                'Tversky': 1 - pt / (pt + 0.3 * (p * (1 - t)).sum() + 0.7 * ((1 - p) * t).sum() + 1),
                'BCE': -np.where(t, np.log(p), np.log(1 - p)).mean(),
                'Hybrid': 1 - dice - np.where(t, np.log(p), np.log(1 - p)).mean(),
            }[name]
        )
    return np.mean(values)


@pytest.mark.parametrize('name', RECORDED)
def test_formula_by_hand_and_uint8_target(name):
    rng = np.random.default_rng(5)
    p, t = rng.uniform(0.01, 0.99, (3, 1, 4, 5, 6)), rng.integers(0, 2, (3, 4, 5, 6)).astype(np.uint8)
    assert LOSSES[name]()(torch.tensor(p), torch.tensor(t)).item() == pytest.approx(by_hand(name, p, t), rel=1e-5)


def test_weighted_cross_entropy_is_that_of_torch():
    torch.manual_seed(0)
    p, t = torch.rand(1, 1, 3, 4, 5) * 0.98 + 0.01, torch.randint(0, 2, (1, 3, 4, 5))
    log_probabilities = torch.cat([1 - p, p], 1).log()
    wanted = torch.nn.functional.nll_loss(log_probabilities, t, torch.tensor([0.05, 1.0]))
    torch.testing.assert_close(LOSSES['WCE']()(p, t), wanted)


@pytest.mark.parametrize('name', LOSSES)
def test_a_batch_may_be_split(name):
    """The loss of a batch is the mean over its samples, so that GPUs and ranks can share it."""
    torch.manual_seed(0)
    p = torch.rand(3, 1, 3, 4, 5) * 0.98 + 0.01
    t = (torch.rand(3, 3, 4, 5) < torch.tensor([0.1, 0.5, 0.9])[:, None, None, None]).byte()
    loss = LOSSES[name]()
    torch.testing.assert_close(loss(p, t), torch.stack([loss(p[i : i + 1], t[i : i + 1]) for i in range(3)]).mean())


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('p, t', [(0.0, 0), (1.0, 1), (0.0, 1), (1.0, 0), (0.5, 0)])
def test_extremes_are_finite(name, p, t):
    """In the reference, the logarithm of ELDice is NaN for a perfect prediction."""
    prediction = torch.full((2, 1, 8, 64, 64), p, requires_grad=True)
    value = LOSSES[name]()(prediction, torch.full((2, 8, 64, 64), t, dtype=torch.uint8))
    value.backward()
    assert value.isfinite() and prediction.grad.isfinite().all()
    assert p != t or value.item() < 0.25 or t == 0


@pytest.mark.parametrize('name', LOSSES)
def test_loss_falls_and_weights_can_be_saved_and_reloaded(name, tmp_path):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 3, padding=1), torch.nn.Sigmoid())
    ct, target = torch.randn(2, 1, 6, 7, 8), torch.randint(0, 2, (2, 6, 7, 8), dtype=torch.uint8)
    optimizer, loss, values = torch.optim.SGD(network.parameters(), lr=0.05), LOSSES[name](), []
    for _ in range(3):
        values.append(loss(network(ct), target))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[2] < values[0]
    torch.save(network.state_dict(), tmp_path / 'a.pth')
    reloaded = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 3, padding=1), torch.nn.Sigmoid())
    reloaded.load_state_dict(torch.load(tmp_path / 'a.pth', weights_only=True))
    assert torch.equal(reloaded(ct), network(ct))


def test_half_precision_predictions_are_summed_in_float32():
    p = torch.full((1, 1, 64, 64, 64), 0.5, dtype=torch.bfloat16)
    assert LOSSES['Dice']()(p, torch.ones(1, 64, 64, 64)).item() == pytest.approx(1 - 2 * 0.5 / 1.25, abs=1e-4)


@pytest.mark.parametrize('name', LOSSES)
def test_wrong_shapes_are_refused(name):
    with pytest.raises(ValueError, match='wanted'):
        LOSSES[name]()(torch.rand(2, 1, 4, 4, 4), torch.ones(2, 4, 4, 5))


@pytest.mark.parametrize('name', LOSSES)
def test_nan_in_a_prediction_gives_nan_and_no_exception(name):
    """PyTorch's own cross-entropy would end the run on a GPU, so that no message could name the case."""
    prediction = torch.rand(1, 1, 4, 4, 4)
    prediction[0, 0, 1, 2, 3] = torch.nan
    assert LOSSES[name]()(prediction, torch.ones(1, 4, 4, 4)).isnan()
