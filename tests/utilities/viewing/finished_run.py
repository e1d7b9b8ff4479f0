"""The files that val.py, the CRF and a training write for five small cases, made within a second."""

import json

import numpy as np
import pandas

from utilities.evaluation.tables import in_cell, score
from utilities.volumes.cases import output_name
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

SHAPE = 20, 48, 56
GEOMETRY = Geometry(
    (1.5, 2.0, 4.0), (10.0, -20.0, 300.0), (1, 0, 0, 0, -1, 0, 0, 0, 1)
)  # the rows run from back to front
HTML_NAME = 'volume-<img src=x onerror=document.title=1>&"\'{{ 7 * 7 }}'
SHIFTS = {
    'volume-1': 8,
    'volume-2': 1,
    'volume-10': 3,
    'volume-3': None,
    HTML_NAME: 5,
}  # columns of the prediction; None: an empty one
WORST_FIRST = ['volume-3', 'volume-1', HTML_NAME, 'volume-2', 'volume-10']  # by Dice; volume-10 has no label
SCRIPT_TEXT = '</script><script>document.title = "smuggled"</script><b>'
SETTINGS = {
    'test_ct_path': 'CT',
    'test_seg_path': 'seg',
    'pred_path': 'pred',
    'crf_path': 'crf',
    'module_path': 'nowhere/',
}


def ball(shift):
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return (((z - 10) * 4) ** 2 + ((y - 22) * 2) ** 2 + ((x - 24 - shift) * 1.5) ** 2 < 26**2).astype(np.uint8)


def finished_run(folder):
    """Write the folders CT, seg, pred, crf (3D, all cases but volume-2) and module into `folder`."""
    rows, refined_rows = [], []
    for number, (name, shift) in enumerate(SHIFTS.items()):
        label = ball(0)
        ct = np.random.default_rng(number).normal(0, 20, SHAPE) + np.where(label, 100, 20)
        predicted = np.zeros_like(label) if shift is None else ball(shift)
        refined = np.zeros_like(label) if shift is None else ball(shift // 2)
        write_volume(folder / f'CT/{name}.nii', ct.astype(np.int16), GEOMETRY)
        write_volume(folder / f'pred/{output_name(name, "pred")}.nii', predicted, GEOMETRY)
        if name == 'volume-10':
            label = None
        else:
            write_volume(folder / f'seg/{output_name(name, "segmentation")}.nii', label, GEOMETRY)
        rows.append(score_case(name, label, predicted, predicted, number))
        if name != 'volume-2':
            write_volume(folder / f'crf/{output_name(name, "crf")}.nii', refined, GEOMETRY)
            refined_rows.append(score_case(name, label, predicted, refined, number))
    (folder / 'module').mkdir()
    (folder / 'module/loss.csv').write_text(
        'epoch,step,loss1,loss2,loss3,loss4,total,alpha,learning_rate,seconds\n'
        + ''.join(
            f'{1 + step // 4},{step + 1},0.9,0.8,0.7,{0.6 / (step + 1)},2,0.33,0.0001,{step}\n' for step in range(12)
        )
    )
    write_tables(folder / 'pred', 'result', 'summary', rows, {}, 20, weights=str(folder / 'module/net3-0.2-0.1.pth'))
    write_tables(
        folder / 'crf', 'result-post-processing', 'summary-post-processing', refined_rows, {'volume-2': SCRIPT_TEXT}, 12
    )
    (folder / 'crf/manifest').mkdir()
    (folder / 'crf/manifest/crf-1.json').write_text(
        json.dumps({'settings': {'dimensions': 3}, 'inputs': [], 'files': {}, 'row': None})
    )


def score_case(name, label, before, after, seconds):
    scored = score(f'{name}.nii', label, before, after, GEOMETRY.spacing, 2.0)
    return {**scored, 'label_volume_ml': None if label is None else label.sum() * 0.012, 'time': float(seconds)}


def write_tables(folder, csv, summary, rows, failed, max_iter, **summary_items):
    table = pandas.DataFrame(rows).set_index('case').rename(in_cell)
    table.to_csv(folder / f'{csv}.csv')
    (folder / f'{summary}.json').write_text(
        json.dumps(
            {
                'global_dice': 0.5,
                'failed': failed,
                'parameters': {'max_iter': max_iter, 'loss': '<Tversky>', 'spacing_override': {}},
                'made_on': {'python': '3.11.7', 'machine': 'a machine & 2 cores'},
                **summary_items,
            }
        )
    )
