"""Write the files of cases that whole scripts are measured on."""

import os
from pathlib import Path

import numpy as np
import pandas

from benchmarks.scene import make_rough_mask
from utilities.evaluation.tables import score, write_tables
from utilities.image.post_process import keep_liver
from utilities.run.settings import read_settings
from utilities.training.curve import COLUMNS
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

LITS_STEPS = 111_000  # of a training: 1,000 epochs of 111 steps


def write_case(folder: Path, ct: np.ndarray, label: np.ndarray, geometry: Geometry) -> dict:
    """Write volume.nii, segmentation.nii and a prediction, pred.nii; return the prediction's row of val.py's table."""
    rough = make_rough_mask(label)
    mask = keep_liver(rough, 5e4)
    for name, volume in (('volume', ct), ('segmentation', label), ('pred', mask)):
        write_volume(folder / f'{name}.nii', volume, geometry)
    return {**score('', label, rough, mask, geometry.spacing, 2.0), 'time': 160.0}


def write_finished_run(folder: Path, cases: int, case_folder: Path, row: dict) -> None:
    """Write what train_ds.py and val.py leave, in the default folders of parameter.py inside `folder`.

    Args:
        folder: where the scripts will run.
        cases: number of cases, all of them links to the same three files.
        case_folder: folder of these files, see `write_case`.
        row: what `write_case` returned for them.
    """
    for name, path in (('volume', 'data/test/CT'), ('segmentation', 'data/test/seg'), ('pred', 'pred')):
        (folder / path).mkdir(parents=True)
        for number in range(cases):
            os.link(case_folder / f'{name}.nii', folder / path / f'{name}-{number}.nii')
    rows = [{**row, 'case': f'volume-{number}.nii'} for number in range(cases)]
    weights = 'module/net1000-0.028-0.022.pth'
    write_tables(folder / 'pred', 'result', rows, vars(read_settings([])), [], weights=weights)
    write_loss_curve(folder / 'module')


def write_loss_curve(folder: Path) -> None:
    """Write a loss.csv as long as that of a training on LiTS."""
    folder.mkdir()
    steps = np.arange(LITS_STEPS)
    losses = np.random.default_rng(0).uniform(0, 1, len(steps))
    columns = {
        'epoch': steps // 111 + 1,
        'step': steps + 1,
        'validation_dice': None,
        'gpu_mb': None,
        'seconds': 0.5 * steps,
    }
    table = pandas.DataFrame({name: columns.get(name, losses) for name in COLUMNS})
    table.to_csv(folder / 'loss.csv', index=False)
