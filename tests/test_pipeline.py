"""Prepare, train, resume, predict, refine through the command line, on phantoms too small to learn from."""
import json

import numpy as np
import pandas
import pytest

from utilities.volume import read_header, read_label

SMALL = dict(phantom_train=2, phantom_test=2, phantom_depth=24, phantom_width=40, size=8, stride=4, slice_thickness=12, expand_slice=2,
             batch_size=2, num_workers=1, visdom_server='', loss='Hybrid', maximum_hole=100)
MODULE = dict(module_dir='module', module_path='module')


@pytest.mark.slow
def test_from_nothing_to_tables(tmp_path, script):
    def do(name, **more):
        done = script(name, **{**SMALL, **MODULE, **more})
        assert done.returncode == 0, done.stderr
        return done.stdout

    do('data_prepare/make_phantom.py')
    do('data_prepare/get_training_set.py')
    assert 'next: python val.py' in do('train_ds.py', Epoch=2)
    assert 'earlier training' in script('train_ds.py', **SMALL, **MODULE).stderr  # it would be lost
    do('train_ds.py', Epoch=4, resume='auto')
    losses = pandas.read_csv(tmp_path / 'module/loss.csv')
    assert losses['epoch'].tolist() == [1, 2, 3, 4] and np.isfinite(losses['total']).all()
    assert len(list((tmp_path / 'module').glob('net*.pth'))) == 2 and (tmp_path / 'module/loss_curve.png').exists()
    assert json.loads((tmp_path / 'module/parameters.json').read_text())['Epoch'] == 4

    (tmp_path / 'data/test/seg/segmentation-3.nii').unlink()  # a case without label is predicted and not scored
    do('val.py', threshold=0.3)
    summary = json.loads((tmp_path / 'pred/summary.json').read_text())
    assert (summary['cases'], summary['scored'], summary['parameters']['threshold']) == (2, 1, 0.3)
    sheets = pandas.read_excel(tmp_path / 'pred/result.xlsx', sheet_name=None, index_col=0)
    assert list(sheets) == ['liver', 'liver_statistics'] and list(sheets['liver'].index) == ['volume-2.nii', 'volume-3.nii']
    assert list(sheets['liver_statistics'].index) == ['mean', 'std', 'min', 'max']
    for number in (2, 3):
        assert read_header(tmp_path / f'pred/pred-{number}.nii') == read_header(tmp_path / f'data/test/CT/volume-{number}.nii')

    for dimensions in (2, 3):
        do(f'Densecrf/{dimensions}D-CRF.py', crf_path=f'crf{dimensions}')
        table = pandas.read_csv(tmp_path / f'crf{dimensions}/result-post-processing.csv', index_col='case')
        assert {'dice', 'dice_before'} <= set(table.columns)
        assert set(np.unique(read_label(tmp_path / f'crf{dimensions}/crf-2.nii')[0])) <= {0, 1}
    do('utilities/draw_figures.py')
    assert {p.name for p in (tmp_path / 'img').iterdir()} == {'loss_curve.png', 'segmentation-result.png'}
