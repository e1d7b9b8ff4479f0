"""A sample of the training set, beside reading both files whole."""

from pathlib import Path

import numpy as np
import torch

from benchmarks import plain
from benchmarks.measure import side_by_side
from benchmarks.scene import HU_WINDOW, make_scan
from dataset.dataset import Dataset
from utilities.volumes.read_write import write_volume

STAGE = 'Dataset sample, 48 of 240 slices, warm cache'
START_FRACTION = 0.4  # where the sample starts, of the possible first slices


def measure(folder: Path, repeats: int) -> dict:
    ct, label, geometry = make_scan(240)
    small_ct = np.ascontiguousarray(np.clip(ct[:, ::2, ::2], *HU_WINDOW))
    ct_file, compressed_label = folder / 'ct/volume-0.nii', folder / 'plain/segmentation-0.nii.gz'
    write_volume(ct_file, small_ct, geometry)
    write_volume(folder / 'seg/segmentation-0.nii', label, geometry)
    write_volume(compressed_label, label, geometry)
    samples = Dataset(folder / 'ct', folder / 'seg', 48)
    first = int(START_FRACTION * (240 - 48 + 1))
    row, theirs, ours = side_by_side(
        lambda: plain.sample(ct_file, compressed_label, first, 48), lambda: samples[0, START_FRACTION], 10 * repeats
    )
    is_same = all(torch.equal(a, b) for a, b in zip(theirs, ours))
    return {
        **row,
        'goal': '>= 30 x',
        'reached': row['plain_s'] / row['ours_s'] >= 30 and is_same,
        'agreement': 'identical' if is_same else 'DIFFERS',
    }
