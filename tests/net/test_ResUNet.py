"""The network; its recorded figures are in tests/test_reference.py."""

import pytest
import torch

from loss import LOSSES
from net.ResUNet import ResUNet
from utilities.base.errors import InputError
from utilities.inference import checkpoint
from utilities.training import save_checkpoint
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


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_weights_load_with_and_without_prefix(tmp_path, prefix):
    source, target = ResUNet(training=False), ResUNet(training=False)
    save_checkpoint.save_checkpoint(
        tmp_path / 'net9-0.1-0.1.pth', {prefix + k: v for k, v in source.state_dict().items()}
    )
    save_checkpoint.save_checkpoint(
        tmp_path / 'net10-0.1-0.1.pth', {prefix + k: v for k, v in source.state_dict().items()}
    )
    assert checkpoint.load_weights(target, tmp_path).name == 'net10-0.1-0.1.pth'
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))


def test_wrong_checkpoints_are_refused(tmp_path):
    network, path = ResUNet(training=False), tmp_path / 'a.pth'
    state = network.state_dict()
    save_checkpoint.save_checkpoint(path, {k: v for k, v in state.items() if not k.startswith('map4')})
    with pytest.raises(InputError, match=r'missing \(2\): map4.0.bias, map4.0.weight'):
        checkpoint.load_weights(network, path)
    save_checkpoint.save_checkpoint(
        path, {**state, 'map4.0.weight': torch.zeros(2, 32, 1, 1, 1), 'other': torch.zeros(1)}
    )
    with pytest.raises(
        InputError, match=r'unknown \(1\): other.*map4.0.weight wanted \(1, 32, 1, 1, 1\), got \(2, 32, 1, 1, 1\)'
    ):
        checkpoint.load_weights(network, path)
    path.write_bytes(b'no checkpoint')
    with pytest.raises(InputError, match='is no checkpoint'):
        checkpoint.load_weights(network, path)
    with pytest.raises(InputError, match='no such file'):
        checkpoint.load_weights(network, tmp_path / 'none.pth')


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({'map4.0.bias': Evil(tmp_path / 'made')}, tmp_path / 'evil.pth')
    with pytest.raises(InputError):
        checkpoint.load_weights(ResUNet(training=False), tmp_path / 'evil.pth')
    assert not (tmp_path / 'made').exists()


class PlainResUNet(torch.nn.Module):
    """The layers of a ResUNet computed by PyTorch's plain functions, none of them in place."""

    def __init__(self, network):
        super().__init__()
        self.net = network

    def stage(self, name, x):
        layers = list(getattr(self.net, name))
        for convolution, prelu in zip(layers[::2], layers[1::2]):
            x = torch.nn.functional.prelu(convolution(x), prelu.weight)
        return x

    def head(self, number, x):
        factor = 2 ** (4 - number)
        x = torch.nn.functional.interpolate(
            getattr(self.net, f'map{number}')[0](x), scale_factor=(factor, 2 * factor, 2 * factor), mode='trilinear'
        )
        return torch.sigmoid(x)

    def forward(self, ct):
        def residual(name, x, *skip):
            return self.stage(name, torch.cat((x, *skip), 1)) + x

        skip1 = residual('encoder_stage1', ct)
        skip2 = residual('encoder_stage2', self.stage('down_conv1', skip1))
        skip3 = residual('encoder_stage3', self.stage('down_conv2', skip2))
        deepest = residual('encoder_stage4', self.stage('down_conv3', skip3))
        x1 = self.stage('decoder_stage1', deepest) + self.stage('down_conv4', deepest)
        x2 = residual('decoder_stage2', self.stage('up_conv2', x1), skip3)
        x3 = residual('decoder_stage3', self.stage('up_conv3', x2), skip2)
        x4 = residual('decoder_stage4', self.stage('up_conv4', x3), skip1)
        return [self.head(number, x) for number, x in enumerate((x1, x2, x3, x4), 1)]


def test_outputs_and_gradients_are_those_of_the_plain_layers():
    torch.manual_seed(0)
    network, ct = ResUNet(training=True, drop_rate=0), torch.randn(2, 1, 16, 24, 16)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, -0.2, 0.4)  # biases, and slopes that differ between channels
    results = []
    for model in (PlainResUNet(network), network):
        network.zero_grad()
        heads = model(ct)
        sum((head**2).mean() for head in heads).backward()
        results.append(([h.detach() for h in heads], [p.grad.clone() for p in network.parameters()]))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-5, atol=1e-5)
    for ours, plain in zip(results[1][1], results[0][1]):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5 * float(plain.abs().max()) + 1e-9)


@pytest.mark.parametrize('depth', [8, 16, 24, 40])
def test_slabs_give_the_result_of_the_whole_volume(depth):
    torch.manual_seed(0)
    network, ct = ResUNet(training=False), torch.randn(1, 1, depth, 16, 24)
    copy = ct.clone()
    with torch.inference_mode():
        torch.testing.assert_close(network(ct), PlainResUNet(network)(ct)[3], rtol=1e-5, atol=1e-5)
    assert torch.equal(ct, copy)  # The input is not overwritten.


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
