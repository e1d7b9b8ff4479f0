"""The network; its recorded figures are in tests/test_reference.py."""

import pytest
import torch

from loss import LOSSES
from net.ResUNet import ResUNet
from utilities.training.deep_supervision import DeepSupervision


@pytest.mark.parametrize('down_scale, factor', [(1, 1), (0.5, 2), (0.25, 4)])
def test_heads_have_the_full_in_plane_size(down_scale, factor):
    network = ResUNet(training=True, down_scale=down_scale)
    with torch.no_grad():
        heads = network(torch.zeros(1, 1, 8, 8, 16))
        assert [tuple(h.shape) for h in heads] == [(1, 1, 8, 8 * factor, 16 * factor)] * 4
        assert network.eval()(torch.zeros(1, 1, 8, 8, 16)).shape == (1, 1, 8, 8 * factor, 16 * factor)


def test_dropout_acts_only_in_training_mode():
    network, ct = ResUNet(training=False, drop_rate=0.5), torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(ct), network(ct))
        network.train()
        assert not torch.equal(network(ct)[3], network(ct)[3])


def test_weighted_losses_of_two_replicas_add_up_to_those_of_the_batch():
    supervised = DeepSupervision(ResUNet(training=True, drop_rate=0), LOSSES['Tversky']())
    ct, label = torch.randn(3, 1, 8, 8, 8), torch.randint(0, 2, (3, 8, 16, 16), dtype=torch.uint8)
    weights = torch.full((3, 1), 1 / 3)
    with torch.no_grad():
        whole = supervised(ct, label, weights)
        split = torch.cat([supervised(ct[:2], label[:2], weights[:2]), supervised(ct[2:], label[2:], weights[2:])])
    assert whole.shape == (1, 4)
    torch.testing.assert_close(split.sum(0), whole[0], rtol=1e-5, atol=1e-6)


def test_a_bfloat16_head_stays_below_one():
    """1 / (1 + e^-9) = 0.99988 is 1 in bfloat16, where a sigmoid has no gradient."""
    logits = torch.full((1, 1, 2, 4, 4), 9.0, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        probability = ResUNet(training=True).map3[1](logits)
    assert probability.dtype == torch.float32 and probability.detach().max().item() == pytest.approx(
        0.9998766, abs=1e-6
    )
    LOSSES['BCE']()(probability, torch.zeros(1, 4, 16, 16)).backward()
    assert logits.grad.sum().item() == pytest.approx(
        0.9998766, rel=1e-2
    )  # the gradient of binary cross-entropy, p - t, rounded to bfloat16
