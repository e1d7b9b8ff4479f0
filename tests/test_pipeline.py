"""All scripts in order through the command line, on phantoms that are too small to learn from."""

import json
from datetime import datetime

import numpy as np
import pandas
import pytest

from dataset.dataset import Dataset
from utilities.volumes.read_write import read_header, read_label

SMALL = dict(
    phantom_train=2,
    phantom_test=2,
    phantom_depth=24,
    phantom_width=40,
    size=8,
    stride=4,
    slice_thickness=12,
    expand_slice=2,
    batch_size=2,
    num_workers=1,
    visdom_server='',
    loss='Hybrid',
    maximum_hole=100,
)
MODULE = dict(module_dir='module', module_path='module')


@pytest.mark.slow
def test_all_scripts_from_phantoms_to_the_report(tmp_path, script):
    def run(name, **overrides):
        done = script(name, **{**SMALL, **MODULE, **overrides})
        assert done.returncode == 0, done.stderr
        return done.stdout

    run('data_prepare/make_phantom.py')
    run('data_prepare/get_training_set.py')
    assert 'next: python val.py' in run('train_ds.py', Epoch=2)
    assert 'earlier training' in script('train_ds.py', **SMALL, **MODULE).stderr  # It would be overwritten.
    run('train_ds.py', Epoch=4, resume='auto')
    losses = pandas.read_csv(tmp_path / 'module/loss.csv')
    assert losses['epoch'].tolist() == [1, 2, 3, 4] and np.isfinite(losses['total']).all()
    assert len(list((tmp_path / 'module').glob('net*.pth'))) == 2 and (tmp_path / 'module/loss_curve.png').exists()
    assert json.loads((tmp_path / 'module/parameters.json').read_text())['Epoch'] == 4

    (tmp_path / 'data/test/seg/segmentation-3.nii').unlink()  # A case without a label is predicted and not scored.
    run('val.py', threshold=0.3)
    summary = json.loads((tmp_path / 'pred/summary.json').read_text())
    assert (summary['cases'], summary['scored'], summary['parameters']['threshold']) == (2, 1, 0.3)
    sheets = pandas.read_excel(tmp_path / 'pred/result.xlsx', sheet_name=None, index_col=0)
    assert list(sheets) == ['liver', 'liver_statistics'] and list(sheets['liver'].index) == [
        'volume-2.nii',
        'volume-3.nii',
    ]
    assert list(sheets['liver_statistics'].index) == ['mean', 'std', 'min', 'max']
    for number in (2, 3):
        assert read_header(tmp_path / f'pred/pred-{number}.nii') == read_header(
            tmp_path / f'data/test/CT/volume-{number}.nii'
        )

    for dimensions in (2, 3):
        run(f'Densecrf/{dimensions}D-CRF.py', crf_path=f'crf{dimensions}')
        table = pandas.read_csv(tmp_path / f'crf{dimensions}/result-post-processing.csv', index_col='case')
        assert {'dice', 'dice_before'} <= set(table.columns)
        assert set(np.unique(read_label(tmp_path / f'crf{dimensions}/crf-2.nii')[0])) <= {0, 1}
    run('scripts/draw_figures.py')
    assert {p.name for p in (tmp_path / 'img').iterdir()} == {
        'loss_curve.png',
        'segmentation-result.png',
        'worst-slices.png',
        'bland-altman.png',
        'box-plots.png',
    }
    run('scripts/write_report.py')
    report = (tmp_path / 'pred/report.html').read_text()
    assert 'volume-2' in report and 'volume-3' in report
    for log in (
        'train/get_training_set.log',
        'module/train_ds.log',
        'pred/val.log',
        'crf2/2D-CRF.log',
        'crf3/3D-CRF.log',
    ):
        lines = (tmp_path / log).read_text().splitlines()
        assert all(datetime.fromisoformat(line[:19]) for line in lines if line[:2] == '20'), log
        assert 'next: python' in lines[-1] + lines[-2], log


def test_a_case_and_its_label_may_have_the_same_name(lits, script):
    """The Medical Segmentation Decathlon names them imagesTr/liver_0 and labelsTr/liver_0."""
    train = lits / 'data/train'
    for folder, word in (('CT', 'volume-'), ('seg', 'segmentation-')):
        for path in (train / folder).iterdir():
            path.rename(path.with_name(path.name.replace(word, 'liver_')))
    done = script('data_prepare/get_training_set.py', size=16)
    samples = Dataset(lits / 'train/ct', lits / 'train/seg', 16)
    assert len(samples) and all(case.name.startswith('liver_') for case in samples.cases), done.stderr
