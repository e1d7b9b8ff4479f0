"""The windows of a scan on a GPU, beside plain PyTorch."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain
from benchmarks.gpu import bf16_matrix_rate
from benchmarks.measure import side_by_side
from benchmarks.scene import HU_WINDOW, make_scan
from net.ResUNet import ResUNet
from tests.reference.recipe import band_weights
from utilities.inference.precision import choose_precision
from utilities.inference.predict_mask import WindowSettings, predict_mask

STAGE = 'window on a GPU, 48 x 256 x 256'
WINDOWS = 14  # of 200 slices


def measure(folder: Path, repeats: int) -> dict | None:
    if not torch.cuda.is_available():
        return None
    torch.backends.cudnn.benchmark = True
    device = torch.device('cuda')
    our_network, plain_network = ResUNet(training=False), plain.Network().eval()
    weights = band_weights(our_network.state_dict())
    for network in (our_network, plain_network):
        network.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
        network.to(device)
    ct = np.clip(make_scan(200)[0][:, ::2, ::2], *HU_WINDOW).astype(np.float32) / 200
    settings = WindowSettings(48, 12, 0.5, precision=choose_precision(device, 'auto'))
    row, theirs, ours = side_by_side(
        lambda: plain.mean_probability(plain_network, ct, 48, 12, device) >= 0.5,
        lambda: predict_mask(our_network, ct, (200, 512, 512), settings, device),
        repeats,
    )
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        our_network(torch.zeros(1, 1, 48, 256, 256, device=device))
    equal = (theirs == ours).mean()
    rate = WINDOWS * counter.get_total_flops() / row['ours_s'] / bf16_matrix_rate()
    return {
        **row,
        'goal': '>= 4 x',
        'reached': row['plain_s'] / row['ours_s'] >= 4 and equal >= 0.999,
        'agreement': f'{equal:.3%} of the mask; {rate:.0%} of the bf16 matrix rate',
    }
