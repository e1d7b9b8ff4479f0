"""Compare val.py with the plain way on one phantom, each in a process of its own."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import run_process
from benchmarks.scene import make_scan
from utilities.volumes.read_write import read_volume, write_volume

SCRIPT = Path(__file__).with_name('predict_case.py')
STRIDE = 24
METHODS = 'plain', 'ours', 'whole'  # see predict_case.py


def compare_predictions(folder: Path, network: str, weights: dict[str, torch.Tensor], depth: int) -> dict:
    """Return the row of val.py on a phantom: seconds and peak memory of whole processes, and whether the masks agree.

    Args:
        folder: an empty folder.
        network: 'resunet' or 'stand_in'.
        weights: of this network.
        depth: slices of the phantom.
    """
    ct, label, geometry = make_scan(depth)
    write_volume(folder / 'CT/volume-0.nii', ct, geometry)
    write_volume(folder / 'seg/segmentation-0.nii', label, geometry)
    torch.save(weights, folder / 'weights.pth')
    del ct, label
    row, masks = {}, {}
    for method in METHODS:
        row[f'{method}_s'], row[f'{method}_mb'] = run_process([SCRIPT, method, network, folder], folder)
    for method in METHODS:
        masks[method], _ = read_volume(folder / method / 'pred-0.nii')
    is_same = np.array_equal(masks['ours'], masks['whole'])
    different = np.count_nonzero(masks['ours'] != masks['plain'])
    return {
        **row,
        'goal': '<= 2.5 GB',
        'reached': row['ours_mb'] <= 2500 and is_same,
        'agreement': f'{"identical to" if is_same else "DIFFERS from"} whole-volume sums; '
        f'{different:,} of {masks["ours"].size:,} voxels from plain',
    }
