"""The layers for a CPU, against PyTorch's plain layers."""

import pytest
import torch

from net.ResUNet import ResUNet


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
