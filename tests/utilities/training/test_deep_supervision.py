"""The losses of the four heads, with mixed precision and with activation checkpointing."""

import pytest
import torch

from loss import LOSSES
from net.ResUNet import ResUNet
from utilities.base.errors import InputError
from utilities.inference.precision import choose_precision
from utilities.training.deep_supervision import DeepSupervision


def losses_and_gradients(supervised, ct, label, name_part=''):
    """Return the losses, and the gradients of all parameters whose names contain `name_part`, as one tensor."""
    torch.manual_seed(1)  # the seed of dropout
    losses = supervised(ct, label, torch.full((2, 1), 0.5)).sum(0)
    supervised.zero_grad()
    losses.sum().backward()
    return losses.detach(), torch.cat(
        [p.grad.flatten() for name, p in supervised.named_parameters() if name_part in name]
    )


@pytest.fixture
def case():
    torch.manual_seed(0)
    label = torch.zeros(2, 16, 32, 32, dtype=torch.uint8)
    label[:, 4:12, 8:24, 8:24] = 1
    return 0.3 * label[:, None, :, ::2, ::2] + 0.1 * torch.randn(2, 1, 16, 16, 16), label


@pytest.mark.parametrize('name', LOSSES)
def test_losses_are_float32_under_mixed_precision(case, name):
    network = ResUNet(training=True, drop_rate=0)
    # On a CPU the bf16 gradients of the deepest layers are wrong (PyTorch 2.13), so only decoder_stage4 is compared.
    exact, exact_gradient = losses_and_gradients(DeepSupervision(network, LOSSES[name]()), *case, 'decoder_stage4')
    seen = []
    network.decoder_stage1.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    mixed, mixed_gradient = losses_and_gradients(
        DeepSupervision(network, LOSSES[name](), torch.bfloat16), *case, 'decoder_stage4'
    )
    assert seen == [torch.bfloat16] and mixed.dtype == mixed_gradient.dtype == torch.float32
    torch.testing.assert_close(mixed, exact, rtol=0.03, atol=0.01)  # bf16 has 8 bits, and there are 16 layers
    relative_error = (mixed_gradient - exact_gradient).double().norm() / exact_gradient.double().norm()
    assert relative_error < 0.1


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
    plain, checkpointed = ResUNet(True, drop_rate), ResUNet(True, drop_rate, checkpointing=True)
    checkpointed.load_state_dict(plain.state_dict())
    expected, got = (
        losses_and_gradients(DeepSupervision(network, LOSSES['Tversky']()), *case) for network in (plain, checkpointed)
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


def test_checkpointing_keeps_fewer_activations(case):
    assert count_saved_elements(case[0], checkpointing=True) < 0.6 * count_saved_elements(case[0], checkpointing=False)


def count_saved_elements(ct, checkpointing):
    """Return the number of elements that a forward pass saves for the backward pass."""
    sizes = []

    def save(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        ResUNet(True, 0, checkpointing=checkpointing)(ct)
    return sum(sizes)
