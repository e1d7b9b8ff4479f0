"""The losses of the four heads under mixed precision and with activations computed twice."""

import pytest
import torch

from loss import LOSSES
from net.ResUNet import ResUNet
from utilities.base.errors import InputError
from utilities.inference.precision import choose_precision
from utilities.training.deep_supervision import DeepSupervision


def gradients(supervised, ct, label, part=''):
    torch.manual_seed(1)  # of dropout
    losses = supervised(ct, label, torch.full((2, 1), 0.5)).sum(0)
    supervised.zero_grad()
    losses.sum().backward()
    return losses.detach(), torch.cat([p.grad.flatten() for name, p in supervised.named_parameters() if part in name])


@pytest.fixture
def case():
    torch.manual_seed(0)
    label = torch.zeros(2, 16, 32, 32, dtype=torch.uint8)
    label[:, 4:12, 8:24, 8:24] = 1
    return 0.3 * label[:, None, :, ::2, ::2] + 0.1 * torch.randn(2, 1, 16, 16, 16), label


@pytest.mark.parametrize('name', LOSSES)
def test_losses_are_float32_under_mixed_precision(case, name):
    network = ResUNet(training=True, drop_rate=0)
    # not the deepest layers, of which a CPU's bf16 convolutions give wrong gradients (PyTorch 2.13; choose_precision refuses them)
    exact, exact_gradient = gradients(DeepSupervision(network, LOSSES[name]()), *case, 'decoder_stage4')
    seen = []
    network.decoder_stage1.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    mixed, mixed_gradient = gradients(DeepSupervision(network, LOSSES[name](), torch.bfloat16), *case, 'decoder_stage4')
    assert seen == [torch.bfloat16] and mixed.dtype == mixed_gradient.dtype == torch.float32
    torch.testing.assert_close(mixed, exact, rtol=0.03, atol=0.01)  # 8 bits through 16 layers
    apart = (mixed_gradient - exact_gradient).double().norm() / exact_gradient.double().norm()
    assert apart < 0.1


def test_a_cpu_computes_in_float32():
    assert (
        choose_precision(torch.device('cpu'), 'auto')
        == choose_precision(torch.device('cpu'), 'float32')
        == torch.float32
    )
    with pytest.raises(InputError, match="precision: wanted 'auto' or 'float32' on a CPU, got 'bf16'"):
        choose_precision(torch.device('cpu'), 'bf16')


@pytest.mark.parametrize('drop_rate', [0, 0.3])
def test_checkpointing_gives_the_same_gradients(case, drop_rate):
    plain, thrifty = ResUNet(True, drop_rate), ResUNet(True, drop_rate, checkpointing=True)
    thrifty.load_state_dict(plain.state_dict())
    wanted, got = (gradients(DeepSupervision(network, LOSSES['Tversky']()), *case) for network in (plain, thrifty))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_checkpointing_keeps_fewer_activations(case):
    kept = {}
    for checkpointing in (False, True):
        kept[checkpointing] = 0

        def pack(tensor):
            kept[checkpointing] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            ResUNet(True, 0, checkpointing=checkpointing)(case[0])
    assert kept[True] < 0.6 * kept[False]
