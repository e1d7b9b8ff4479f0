"""One window through the network on the CPU, beside the network layer by layer."""

from pathlib import Path

import torch

from benchmarks import plain
from benchmarks.measure import side_by_side
from net.ResUNet import ResUNet
from utilities.inference.devices import choose_devices

STAGE = 'network, one window of 48 x 256 x 256, eval, CPU float32'


def measure(folder: Path, repeats: int) -> dict:
    choose_devices('')
    torch.manual_seed(0)
    our_network, plain_network = ResUNet(training=False), plain.Network().eval()
    plain_network.load_state_dict(our_network.state_dict())
    ct = torch.randn(1, 1, 48, 256, 256)
    with torch.inference_mode():
        row, theirs, ours = side_by_side(lambda: plain_network(ct)[-1], lambda: our_network(ct), repeats)
    error = (theirs - ours).abs().max().item()
    return {
        **row,
        'goal': '>= 1.4 x',
        'reached': row['plain_s'] / row['ours_s'] >= 1.4 and error <= 1e-5,
        'agreement': f'{error:.0e}',
    }
