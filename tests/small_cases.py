"""Small cases on disk, and the settings and scripts with which several tests run them."""

from pathlib import Path

import numpy as np

from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

SMALL = dict(size=8, stride=4, slice_thickness=12, expand_slice=2, maximum_hole=100, module_path='weights.pth')
PREPARE, VAL, CRF = 'data_prepare/get_training_set.py', 'val.py', 'Densecrf/3D-CRF.py'
SPACING = (8, 8, 12)  # mm


def write_case(folder: Path, group: str, number: int, depth: int = 10, width: int = 40) -> None:
    """Write volume-{number} and its label to data/{group} of a folder: a bright box in noise, (depth, width, width)."""
    label = np.zeros((depth, width, width), np.uint8)
    label[2:-2, 8:24, 8:24] = 1
    noise = np.random.default_rng(number).integers(0, 20, label.shape)
    geometry = Geometry(SPACING, (number, 0, 0))
    write_volume(folder / f'data/{group}/CT/volume-{number}.nii', (label * 100 + noise).astype(np.int16), geometry)
    write_volume(folder / f'data/{group}/seg/segmentation-{number}.nii', label, geometry)


def write_mask(folder: Path, number: int, slices: slice = slice(3, 7), depth: int = 10, width: int = 40) -> None:
    """Write pred/pred-{number}.nii of a folder: a mask on the grid of the case of this number, with a box of ones."""
    mask = np.zeros((depth, width, width), np.uint8)
    mask[slices, 10:20, 10:20] = 1
    write_volume(folder / f'pred/pred-{number}.nii', mask, Geometry(SPACING, (number, 0, 0)))
