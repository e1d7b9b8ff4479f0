"""A whole case, in a process whose peak memory can be read: predict.py WAY resunet|stand_in FOLDER. The ways:

    ours    val.py
    plain   every array whole, scipy's spline, the network layer by layer, scikit-image's components
    whole   every array whole, our spline and network: what val.py must give to the last voxel

val.py scores its mask as well; the others do not, since scipy's KD-tree ends the process on the stand-in's millions of surface voxels.

In:   FOLDER/CT/volume-0.nii, FOLDER/seg/segmentation-0.nii, FOLDER/weights.pth
Out:  FOLDER/WAY/pred-0.nii
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numpy as np
import torch

import val
from benchmarks import plain
from net.ResUNet import ResUNet
from utilities.image.preprocess import normalise, resample_ct
from utilities.inference import checkpoint
from utilities.inference.devices import choose_devices
from utilities.run.script import run_script
from utilities.run.settings import read_settings
from utilities.volumes.read_write import read_volume, write_volume

STRIDE = 24


class StandIn(torch.nn.Module):
    """Input and output of the ResUNet at next to no cost: liver is what lies between about 70 and 130 HU.

    A slice's place in its window counts, so that a wrong mean shows.
    """

    def __init__(self, training=False, down_scale=0.5):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        place = torch.linspace(-0.2, 0.2, x.shape[2], device=x.device)[:, None, None]
        inside = torch.sigmoid(self.weight * (0.15 - (x - 0.5).abs() + place * (x - 0.5)))
        probability = torch.nn.functional.interpolate(inside, scale_factor=(1, 2, 2), mode='nearest')
        return probability


def main(way, network, folder):
    choose_devices('')
    para = read_settings([])
    ct, geometry = read_volume(folder / 'CT/volume-0.nii')
    if way == 'plain':
        network = StandIn() if network == 'stand_in' else plain.Network().eval()
        ct = plain.resample(ct, para.lower, para.upper)
    else:
        network = StandIn() if network == 'stand_in' else ResUNet(training=False)
        ct = normalise(
            resample_ct(np.clip(ct, para.lower, para.upper), 1, 0.5, para.lower, np.float32), para.lower, para.upper
        )
    checkpoint.load_weights(network, folder / 'weights.pth')
    mask = (plain.window_mean(network, ct, para.size, STRIDE) >= 0.5).astype(np.uint8)
    write_volume(folder / way / 'pred-0.nii', plain.keep_liver(mask, para.maximum_hole), geometry)


if __name__ == '__main__':
    way, network, folder = sys.argv[1:]
    if way == 'ours':
        if network == 'stand_in':
            val.ResUNet = StandIn
        sys.argv[1:] = [
            f'--test_ct_path={folder}/CT',
            f'--test_seg_path={folder}/seg',
            f'--pred_path={folder}/ours',
            f'--module_path={folder}/weights.pth',
            '--test_slice_thickness=None',
            f'--stride={STRIDE}',
            '--gpu=',
        ]
        run_script(val.main, val.__doc__)
    main(way, network, Path(folder))
