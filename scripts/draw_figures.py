"""Draw the figures of a run: its training, the masks of val.py and the CRF on their CT, and the scores in their tables.

In:   module_dir/loss.csv, test_ct_path, test_seg_path, pred_path, crf_path: each may be missing
Out:  figure_path/loss_curve.png           losses, validation Dice and learning rate
      figure_path/segmentation-result.png  the best, the median and the worst case of result.csv, or any three
      figure_path/worst-slices.png         slices that differ most from the label, in the cases of the lowest Dice
      figure_path/bland-altman.png         volumes of the masks against those of the labels
      figure_path/box-plots.png            Dice and ASSD before and after the CRF

    python scripts/draw_figures.py
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import pandas
from matplotlib.figure import Figure

from utilities.base.errors import InputError, one_line
from utilities.base.log import log
from utilities.evaluation.tables import in_cell
from utilities.run.script import print_next, run_script
from utilities.viewing.case_figures import draw_segmentations, draw_worst_slices
from utilities.viewing.case_volumes import CaseVolumes, list_masks, read_case
from utilities.viewing.figure_files import NothingToDraw, save_figure
from utilities.viewing.result_tables import name_crf, read_scores
from utilities.viewing.table_figures import draw_bland_altman, draw_box_plots
from utilities.viewing.training_figure import draw_loss_curve
from utilities.volumes.cases import Case, find_cases, output_name

MAX_CASES = 3  # cases in a figure


@dataclass(frozen=True)
class PredictedCase:
    """A case that val.py predicted, its masks {name: path} and its Dice; NaN where it is not known."""

    case: Case
    mask_paths: dict[str, Path]
    dice: float


def main(para: SimpleNamespace) -> int:
    """Draw all figures that the run allows; return the exit status."""
    figures = {
        'loss_curve': draw_training,
        'segmentation-result': draw_typical_cases,
        'worst-slices': draw_worst_cases,
        'bland-altman': lambda para, _: draw_bland_altman(read_tables(para)),
        'box-plots': lambda para, _: draw_box_plots(read_tables(para)),
    }
    failures, written = {}, 0
    for name, draw in figures.items():
        path = Path(para.figure_path) / f'{name}.png'
        try:
            save_figure(draw(para, failures), path)
            log.info(one_line(f'written: {path}'))
            written += 1
        except NothingToDraw as reason:
            log.info(one_line(f'not drawn: {path.name}: {reason}'))
        except InputError as reason:
            failures[path.name] = reason
    for name, reason in failures.items():
        log.info(one_line(f'failed: {name}: {reason}'))
    if written:
        print_next('python scripts/write_report.py')
    return 1 if failures or not written else 0


def draw_training(para: SimpleNamespace, _: dict[str, InputError]) -> Figure:
    """Draw loss.csv."""
    path = Path(para.module_dir) / 'loss.csv'
    if not path.exists():
        raise NothingToDraw(f'no {path}; run python train_ds.py')
    return draw_loss_curve(path)


def draw_typical_cases(para: SimpleNamespace, failures: dict[str, InputError]) -> Figure:
    """Draw three planes of typical cases; cases that cannot be read go to `failures`."""
    return draw_segmentations(read_cases(choose_typical_cases(para), para, failures), (para.lower, para.upper))


def draw_worst_cases(para: SimpleNamespace, failures: dict[str, InputError]) -> Figure:
    """Draw the worst slices of the worst cases; cases that cannot be read go to `failures`."""
    return draw_worst_slices(read_cases(choose_worst_cases(para), para, failures), (para.lower, para.upper))


def read_tables(para: SimpleNamespace) -> dict[str, pandas.DataFrame]:
    """Read the tables of val.py and of the CRF, those which exist, by the names of the figures."""
    tables = {'val.py': read_predicted_scores(para)}
    path = Path(para.crf_path) / 'result-post-processing.csv'
    if path.exists():
        tables[name_crf(para.crf_path)] = read_scores(path, 'python Densecrf/3D-CRF.py')
    return {name: table for name, table in tables.items() if not table.empty}


def read_predicted_scores(para: SimpleNamespace) -> pandas.DataFrame:
    """Read the table of val.py; an empty table where there is none."""
    path = Path(para.pred_path) / 'result.csv'
    return read_scores(path, 'python val.py') if path.exists() else pandas.DataFrame()


def find_predicted_cases(para: SimpleNamespace) -> list[PredictedCase]:
    """Find the cases that have a mask in pred_path. Raises NothingToDraw if there is none."""
    if not Path(para.test_ct_path).is_dir():
        raise NothingToDraw(f'{para.test_ct_path}: no such folder; set test_ct_path')
    predicted, refined, crf_name = list_masks(para.pred_path), list_masks(para.crf_path), name_crf(para.crf_path)
    dice = read_predicted_scores(para).get('dice', {})
    found = []
    for case in find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override):
        mask_paths = {
            'prediction': predicted.get(output_name(case.name, 'pred')),
            crf_name: refined.get(output_name(case.name, 'crf')),
        }
        if mask_paths['prediction']:
            found.append(PredictedCase(case, mask_paths, dice.get(in_cell(case.ct.name), math.nan)))
    if not found:
        raise NothingToDraw(
            f'{para.pred_path}: wanted pred-N for the volume-N of {para.test_ct_path}, found none; run python val.py'
        )
    return found


def choose_typical_cases(para: SimpleNamespace) -> list[tuple[PredictedCase, str]]:
    """Choose up to MAX_CASES cases with their titles: the best, the median and the worst, then those without Dice."""
    predicted = find_predicted_cases(para)
    scored = sorted((one for one in predicted if not math.isnan(one.dice)), key=lambda one: -one.dice)
    count = len(scored)
    if count >= MAX_CASES:
        ranks = {'best': 0, 'median': count // 2, 'worst': count - 1}
        return [(scored[rank], f'{scored[rank].case.name}  {word} of {count}') for word, rank in ranks.items()]
    unscored = [one for one in predicted if math.isnan(one.dice)]
    return [(one, one.case.name) for one in (scored + unscored)[:MAX_CASES]]


def choose_worst_cases(para: SimpleNamespace) -> list[tuple[PredictedCase, str]]:
    """Choose up to MAX_CASES cases with a label, and their titles: the lowest Dice first, unknown ones at the end."""
    labelled = [one for one in find_predicted_cases(para) if one.case.label]
    if not labelled:
        raise NothingToDraw(f'{para.test_seg_path}: no labels of the predicted cases; set test_seg_path')
    labelled.sort(key=lambda one: math.inf if math.isnan(one.dice) else one.dice)
    return [(one, one.case.name) for one in labelled[:MAX_CASES]]


def read_cases(
    chosen: list[tuple[PredictedCase, str]], para: SimpleNamespace, failures: dict[str, InputError]
) -> Iterator[CaseVolumes]:
    """Read one case after the other; the reason why a case cannot be read goes to `failures`."""
    for one, title in chosen:
        try:
            # Without a variable here, the volumes of a case leave the memory before the next case is read.
            yield read_case(one.case, one.mask_paths, (para.lower, para.upper), para.grid_tolerance, title)
        except InputError as reason:
            failures[one.case.name] = reason


if __name__ == '__main__':
    run_script(main, __doc__)
