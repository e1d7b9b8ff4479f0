"""draw_figures.py: which cases it shows, and what it says about missing or damaged files."""

import json
import weakref
from types import SimpleNamespace

import numpy as np
import pandas
import pytest

from scripts import draw_figures
from tests.utilities.viewing.figure_data import WINDOW, dice_of, make_case, texts_of, write_loss_csv
from utilities.viewing.case_figures import (
    draw_segmentations,
)
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume


@pytest.fixture
def run_folder(tmp_path):
    """Cases 1 to 5 in the default folders: the prediction of a higher number lacks more slices, and 5 has no label."""
    scores = {}
    for number in range(1, 6):
        case = make_case(seed=number)
        ct, masks, geometry = case.ct, case.masks, case.geometry
        masks['prediction'] = masks['label'].copy()
        masks['prediction'][: 10 + number] = 0
        scores[number] = dice_of(masks['label'], masks['prediction'])
        write_volume(tmp_path / f'data/test/CT/volume-{number}.nii', ct, geometry)
        if number < 5:
            write_volume(tmp_path / f'data/test/seg/segmentation-{number}.nii', masks['label'], geometry)
        write_volume(tmp_path / f'pred/pred-{number}.nii.gz', masks['prediction'], geometry)
        write_volume(tmp_path / f'crf/crf-{number}.nii', masks['CRF'], geometry)
    rows = pandas.DataFrame(
        {
            'case': [f'volume-{n}.nii' for n in scores],
            'dice': [*list(scores.values())[:4], np.nan],
            'assd': [1.0, 2.0, 3.0, np.inf, np.nan],
            'volume_ml': 100.0,
            'label_volume_ml': [90.0, 80, 95, 99, np.nan],
        }
    )
    rows.to_csv(tmp_path / 'pred/result.csv', index=False)
    rows.to_csv(tmp_path / 'crf/result-post-processing.csv', index=False)
    (tmp_path / 'module').mkdir()
    write_loss_csv(tmp_path / 'module/loss.csv', 2, 2)
    return tmp_path


FIGURES = {'loss_curve.png', 'segmentation-result.png', 'worst-slices.png', 'bland-altman.png', 'box-plots.png'}


def settings(folder):
    return SimpleNamespace(
        test_ct_path=folder / 'data/test/CT',
        test_seg_path=folder / 'data/test/seg',
        pred_path=folder / 'pred',
        crf_path=folder / 'crf',
        spacing_override={},
        lower=-200,
        upper=200,
        grid_tolerance=0.1,
    )


def test_the_script_draws_all_of_a_run(run_folder, script):
    finished = script('scripts/draw_figures.py')
    assert finished.returncode == 0, finished.stderr
    assert {p.name for p in (run_folder / 'img').iterdir()} == FIGURES
    assert finished.stdout.count('written: ') == 5 and 'not drawn' not in finished.stdout


def test_the_cases_shown_are_the_best_the_median_and_the_worst(run_folder):
    assert [(one.case.name, title) for one, title in draw_figures.choose_typical_cases(settings(run_folder))] == [
        ('volume-1', 'volume-1  best of 4'),
        ('volume-3', 'volume-3  median of 4'),
        ('volume-4', 'volume-4  worst of 4'),
    ]
    assert [one.case.name for one, _ in draw_figures.choose_worst_cases(settings(run_folder))] == [
        'volume-4',
        'volume-3',
        'volume-2',
    ]
    (run_folder / 'pred/result.csv').unlink()
    assert [title for _, title in draw_figures.choose_typical_cases(settings(run_folder))] == [
        'volume-1',
        'volume-2',
        'volume-3',
    ]


def test_the_script_reads_one_case_at_a_time(run_folder):
    """The generator keeps no reference to the case that it yielded."""
    failures = {}
    cases = draw_figures.read_cases(
        draw_figures.choose_typical_cases(settings(run_folder)), settings(run_folder), failures
    )
    ct = weakref.ref(next(cases).ct)
    assert ct() is None and not failures


def test_a_training_alone_gets_its_curve_and_a_line_for_each_other_figure(run_folder, script):
    finished = script('scripts/draw_figures.py', test_ct_path='nowhere', pred_path='nowhere', crf_path='nowhere')
    assert finished.returncode == 0 and {p.name for p in (run_folder / 'img').iterdir()} == {'loss_curve.png'}
    assert [row for row in finished.stdout.splitlines() if row.startswith('not drawn: segmentation-result.png')] == [
        'not drawn: segmentation-result.png: nowhere: no such folder; set test_ct_path'
    ]
    assert finished.stdout.count('not drawn: ') == 4


def test_masks_without_labels_are_shown(run_folder, script):
    finished = script('scripts/draw_figures.py', module_dir='nowhere', test_seg_path='nowhere', crf_path='nowhere')
    assert finished.returncode == 0 and 'segmentation-result.png' in {p.name for p in (run_folder / 'img').iterdir()}
    assert (
        'not drawn: worst-slices.png: nowhere: no labels of the predicted cases; set test_seg_path' in finished.stdout
    )
    assert 'not drawn: loss_curve.png: no nowhere/loss.csv; run python train_ds.py' in finished.stdout


@pytest.mark.parametrize('dimensions', [2, 3])
def test_the_crf_is_called_2d_or_3d(run_folder, dimensions):
    (run_folder / 'crf/manifest').mkdir()
    record = {'settings': {'dimensions': dimensions}, 'inputs': [], 'files': {}, 'row': None}
    (run_folder / 'crf/manifest/crf-1.json').write_text(json.dumps(record))
    assert list(draw_figures.read_tables(settings(run_folder))) == ['val.py', f'{dimensions}D CRF']
    (case,) = draw_figures.read_cases(
        draw_figures.choose_worst_cases(settings(run_folder))[:1], settings(run_folder), {}
    )
    figure = draw_segmentations([case], WINDOW)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ['label', 'prediction', f'{dimensions}D CRF'] and f'{dimensions}D CRF' in texts_of(figure)[1]


def test_a_run_without_any_figure_fails(tmp_path, script):
    finished = script('scripts/draw_figures.py')
    assert finished.returncode == 1 and finished.stdout.count('not drawn: ') == 5 and 'Traceback' not in finished.stderr


def test_a_damaged_case_is_reported_and_the_others_are_drawn(run_folder, script):
    (run_folder / 'pred/pred-4.nii.gz').write_bytes(b'nothing')
    write_volume(run_folder / 'crf/crf-3.nii', np.zeros((5, 5, 5), np.uint8), Geometry((2.0, 2.0, 3.0)))
    (run_folder / 'crf/result-post-processing.csv').write_text('case,dice\nvolume-1.nii,good\n')
    finished = script('scripts/draw_figures.py')
    assert finished.returncode == 1 and 'Traceback' not in finished.stderr
    assert {p.name for p in (run_folder / 'img').iterdir()} == FIGURES - {'bland-altman.png', 'box-plots.png'}
    failed = dict(row.split(': ')[1:3] for row in finished.stdout.splitlines() if row.startswith('failed: '))
    assert failed == {
        'volume-3': 'crf/crf-3.nii',
        'volume-4': 'pred/pred-4.nii.gz',
        'bland-altman.png': 'crf/result-post-processing.csv',
        'box-plots.png': 'crf/result-post-processing.csv',
    }
