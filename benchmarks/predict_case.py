"""Predict a whole case, in a process whose peak memory can be measured.

In:   FOLDER/CT/volume-0.nii, FOLDER/seg/segmentation-0.nii, FOLDER/weights.pth
Out:  FOLDER/METHOD/pred-0.nii

    python benchmarks/predict_case.py METHOD resunet|stand_in FOLDER

METHOD is one of
    ours    val.py
    plain   arrays of the whole volume, scipy's spline, the network layer by layer, scikit-image's components
    whole   arrays of the whole volume, our spline and network: val.py must give the same voxels

val.py scores its mask as well. The others do not, since scipy's KD-tree ends the process on the millions of surface
voxels that the stand-in predicts.
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
from benchmarks.whole_case import STRIDE
from net.ResUNet import ResUNet
from utilities.image.preprocess import normalise, resample_ct
from utilities.inference import checkpoint
from utilities.inference.devices import choose_devices
from utilities.run.script import run_script
from utilities.run.settings import read_settings
from utilities.volumes.read_write import read_volume, write_volume


class StandIn(torch.nn.Module):
    """A network with the input and output of the ResUNet that costs next to nothing.

    Liver is what lies between about 70 and 130 HU.
    The probability depends on the position of a slice in its window, so that a wrong mean over the windows is noticed.
    """

    def __init__(self, training: bool = False, down_scale: float = 0.5):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(10.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        position = torch.linspace(-0.2, 0.2, x.shape[2], device=x.device)[:, None, None]
        probability = torch.sigmoid(self.weight * (0.15 - (x - 0.5).abs() + position * (x - 0.5)))
        return torch.nn.functional.interpolate(probability, scale_factor=(1, 2, 2), mode='nearest')


def predict_with_val(network: str, folder: Path) -> None:
    """Run val.py, with the stand-in in the place of the ResUNet if asked to."""
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


def predict_whole_volume(method: str, network: str, folder: Path) -> None:
    """Predict by sums over the whole volume, 'plain' or 'whole'."""
    choose_devices('')
    para = read_settings([])
    ct, geometry = read_volume(folder / 'CT/volume-0.nii')
    if method == 'plain':
        model = StandIn() if network == 'stand_in' else plain.Network().eval()
        ct = plain.resample(ct, para.lower, para.upper)
    else:
        model = StandIn() if network == 'stand_in' else ResUNet(training=False)
        ct = resample_ct(np.clip(ct, para.lower, para.upper), 1, 0.5, para.lower, np.float32)
        ct = normalise(ct, para.lower, para.upper)
    checkpoint.load_weights(model, folder / 'weights.pth')
    mask = (plain.mean_probability(model, ct, para.size, STRIDE) >= 0.5).astype(np.uint8)
    write_volume(folder / method / 'pred-0.nii', plain.keep_liver(mask, para.maximum_hole), geometry)


if __name__ == '__main__':
    method, network, folder = sys.argv[1:]
    if method == 'ours':
        predict_with_val(network, Path(folder))
    else:
        predict_whole_volume(method, network, Path(folder))
