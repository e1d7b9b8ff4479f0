"""A CT with its label and masks, as the figures, the report and visdom show it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utilities.volumes.cases import Case, list_volumes
from utilities.volumes.geometry import Geometry, require_same_grid
from utilities.volumes.read_write import read_ct, read_label


@dataclass(frozen=True)
class CaseVolumes:
    """A CT in HU and its masks, arrays (z, y, x) as stored, all on the grid of `geometry`.

    masks: {name: mask}, where the name is a key of case_figures.COLOURS and non-zero voxels are liver.
    """

    title: str
    ct: np.ndarray
    masks: dict[str, np.ndarray]
    geometry: Geometry


def read_case(
    case: Case,
    mask_paths: dict[str, Path | None],
    window: tuple[float, float],
    grid_tolerance: float,
    title: str | None = None,
) -> CaseVolumes:
    """Read the CT, the label and the masks of a case.

    Args:
        case: its CT, and its label if there is one.
        mask_paths: {name: path}; a mask whose path is None is left out.
        window: lowest and highest HU, to which the CT is clipped.
        grid_tolerance: how far the corners of a mask may lie from those of the CT, in mm.
        title: title of the case in a figure; None: its name.

    Raises:
        InputError: a file cannot be read, or a mask lies on another grid than the CT.
    """
    ct, geometry = read_ct(case.ct, *window, case.spacing)
    masks = {}
    for name, path in {'label': case.label, **mask_paths}.items():
        if path:
            masks[name], mask_geometry = read_label(path, case.spacing)
            require_same_grid(path, masks[name].shape, mask_geometry, case.ct, ct.shape, geometry, grid_tolerance)
    return CaseVolumes(title or case.name, ct, masks, geometry)


def list_masks(folder: Path | str) -> dict[str, Path]:
    """Return the masks in a folder by name, such as 'pred-1'; none if the folder is missing."""
    return list_volumes(folder) if Path(folder).is_dir() else {}
