"""Draw all that a run has to show: the loss of the training, the masks of val.py and the CRF on their CT, and what their tables tell.

In:   module_dir/loss.csv, test_ct_path, test_seg_path, pred_path, crf_path: each may be missing
Out:  figure_path/loss_curve.png           losses, validation Dice and learning rate
      figure_path/segmentation-result.png  the best, the median and the worst case of result.csv, or without scores the first three
      figure_path/worst-slices.png         the slices that differ most from the label in the cases of the lowest Dice
      figure_path/bland-altman.png         volumes against those of the labels
      figure_path/box-plots.png            Dice and ASSD before and after the CRF

    python scripts/draw_figures.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from utilities.base.errors import InputError, one_line
from utilities.base.log import log
from utilities.evaluation.tables import in_cell
from utilities.run.script import print_next, run_script
from utilities.viewing.case_figures import draw_segmentations, draw_worst_slices
from utilities.viewing.case_volumes import read_case
from utilities.viewing.figure_files import NothingToDraw, read_table, save_figure
from utilities.viewing.table_figures import draw_bland_altman, draw_box_plots
from utilities.viewing.training_figure import draw_loss_curve
from utilities.volumes.cases import find_cases, output_name
from utilities.volumes.formats import ENDINGS

MAX_CASES = 3  # cases in a figure
NUMBERS = ['dice', 'assd', 'volume_ml', 'label_volume_ml']  # of a table


def main(para):
    window, failures = (para.lower, para.upper), {}
    figures = {
        'loss_curve': lambda: draw_loss_curve(present(Path(para.module_dir) / 'loss.csv', 'train_ds.py')),
        'segmentation-result': lambda: draw_segmentations(read_each(typical_cases(para), para, failures), window),
        'worst-slices': lambda: draw_worst_slices(read_each(worst_cases(para), para, failures), window),
        'bland-altman': lambda: draw_bland_altman(tables(para)),
        'box-plots': lambda: draw_box_plots(tables(para)),
    }
    written = 0
    for name, make in figures.items():
        file = Path(para.figure_path) / f'{name}.png'
        try:
            save_figure(make(), file)
            log.info(one_line(f'written: {file}'))
            written += 1
        except NothingToDraw as why:
            log.info(one_line(f'not drawn: {file.name}: {why}'))
        except InputError as why:
            failures[file.name] = why
    for name, why in failures.items():
        log.info(one_line(f'failed: {name}: {why}'))
    if written:
        print_next('python scripts/write_report.py')
    return 1 if failures or not written else 0


def present(path, script):
    if not path.exists():
        raise NothingToDraw(f'no {path}; run python {script}')
    return path


def tables(para):
    """{name: table} of val.py and the CRF, the rows named by their cases; what has no table is missing."""
    files = {'val.py': Path(para.pred_path) / 'result.csv', 'CRF': Path(para.crf_path) / 'result-post-processing.csv'}
    return {name: by_case(file) for name, file in files.items() if file.exists()}


def by_case(file):
    return read_table(file, ['case'], NUMBERS).set_index('case')


def predicted_cases(para):
    """The cases that have a mask in pred_path, and their Dice by name, as far as result.csv tells it."""
    if not Path(para.test_ct_path).is_dir():
        raise NothingToDraw(f'{para.test_ct_path}: no such folder; set test_ct_path')
    cases = [
        case
        for case in find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override)
        if mask_file(para.pred_path, case, 'pred')
    ]
    if not cases:
        raise NothingToDraw(
            f'{para.pred_path}: wanted pred-N for the volume-N of {para.test_ct_path}, found none; run python val.py'
        )
    file = Path(para.pred_path) / 'result.csv'
    table = by_case(file) if file.exists() else {}
    scores = table['dice'].dropna() if 'dice' in table else {}
    return cases, {case.name: scores[in_cell(case.ct.name)] for case in cases if in_cell(case.ct.name) in scores}


def typical_cases(para):
    """MAX_CASES pairs (case, title): the best, the median and the worst, then those without Dice."""
    cases, dice = predicted_cases(para)
    scored = sorted((case for case in cases if case.name in dice), key=lambda case: -dice[case.name])
    n = len(scored)
    places = (
        {0: f'best of {n}', n // 2: f'median of {n}', n - 1: f'worst of {n}'}
        if n >= MAX_CASES
        else dict.fromkeys(range(n), '')
    )
    chosen = [(scored[place], f'{scored[place].name}  {text}') for place, text in places.items()]
    return (chosen + [(case, case.name) for case in cases if case.name not in dice])[:MAX_CASES]


def worst_cases(para):
    """MAX_CASES pairs (case, title) of cases with label, the lowest Dice first, then those of unknown Dice."""
    cases, dice = predicted_cases(para)
    labelled = [case for case in cases if case.label]
    if not labelled:
        raise NothingToDraw(f'{para.test_seg_path}: no labels of the predicted cases; set test_seg_path')
    return [(case, case.name) for case in sorted(labelled, key=lambda case: dice.get(case.name, 2))[:MAX_CASES]]


def read_each(chosen, para, failures):
    """One case after the other, as figures want them; of those that cannot be read, the reason goes to failures."""
    for case, title in chosen:
        try:
            yield read_masks(case, title, para)  # no name for it here: it would stay in memory while the next is read
        except InputError as why:
            failures[case.name] = why


def read_masks(case, title, para):
    masks = {'prediction': mask_file(para.pred_path, case, 'pred'), 'CRF': mask_file(para.crf_path, case, 'crf')}
    return read_case(case, masks, (para.lower, para.upper), para.grid_tolerance, title)


def mask_file(folder, case, word):
    return next((p for e in ENDINGS if (p := Path(folder) / f'{output_name(case.name, word)}{e}').exists()), None)


if __name__ == '__main__':
    run_script(main, __doc__)
