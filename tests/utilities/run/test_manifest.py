"""What is finished, what is not, and what is not ours."""

import json
import os
import shutil

import numpy as np
import pytest

from utilities.base import folder_lock
from utilities.base.errors import InputError
from utilities.run.manifest import Manifest, settings_of_cases

SETTINGS = {'size': 48, 'lower': -200}


@pytest.fixture(autouse=True)
def lets_go():
    yield
    folder_lock.release_locks()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'volume-1.nii'
    path.write_text('voxels')
    return path


def make(folder, name='volume-1', inputs=(), settings=SETTINGS, row=None):
    manifest = Manifest(folder, settings, 'pred_path')
    manifest.find_finished(name, inputs)
    manifest.begin_case(name, [f'ct/{name}.nii'])
    (folder / 'ct').mkdir(exist_ok=True)
    (folder / f'ct/{name}.nii').write_text('voxels')
    manifest.finish_case(name, inputs, [f'ct/{name}.nii'], row)
    return manifest


def again(folder, settings=SETTINGS):
    return Manifest(folder, settings, 'pred_path')


def test_a_finished_case_and_its_row_are_found_by_the_next_run(tmp_path, source):
    row = {
        'case': 'volume-1.nii',
        'dice': np.float64(1) / 3,
        'volume': np.float32(0.1),
        'assd': np.inf,
        'sizes': np.int64(3),
        'hd95': np.nan,
    }
    make(tmp_path / 'pred', inputs=[source, None, (0.7, 0.7, 1.25), 'weights'], row=row)
    record = again(tmp_path / 'pred').find_finished('volume-1', [source, None, (0.7, 0.7, 1.25), 'weights'])
    assert np.isnan(record['row'].pop('hd95')) and record['row'] == {k: v for k, v in row.items() if k != 'hd95'}
    assert again(tmp_path / 'pred').find_finished('volume-2', [source]) is None


def touch(path):
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize(
    'spoil',
    [
        lambda pred, source: touch(source),
        lambda pred, source: source.write_text('other voxels'),
        lambda pred, source: (pred / 'ct/volume-1.nii').unlink(),
        lambda pred, source: (pred / 'ct/volume-1.nii').write_text('short'),
        lambda pred, source: touch(pred / 'ct/volume-1.nii'),
        lambda pred, source: (pred / 'manifest/volume-1.json').unlink(),
    ],
)
def test_what_changed_is_not_done(tmp_path, source, spoil):
    make(tmp_path / 'pred', inputs=[source])
    assert again(tmp_path / 'pred').find_finished('volume-1', [source])
    spoil(tmp_path / 'pred', source)
    assert again(tmp_path / 'pred').find_finished('volume-1', [source]) is None


def test_other_settings_inputs_and_values_are_not_done_and_nothing_is_removed(tmp_path, source):
    make(tmp_path / 'pred', inputs=[source, 1])
    assert again(tmp_path / 'pred', {**SETTINGS, 'size': 40}).find_finished('volume-1', [source, 1]) is None
    assert again(tmp_path / 'pred').find_finished('volume-1', [source, 2]) is None
    assert again(tmp_path / 'pred').find_finished('volume-1', [source]) is None
    assert again(tmp_path / 'pred').find_finished('volume-1', [source, 1])


def test_an_input_that_changes_while_it_is_worked_on_is_noticed(tmp_path, source):
    manifest = again(tmp_path / 'pred')
    manifest.find_finished('volume-1', [source])
    source.write_text('another scan')
    (tmp_path / 'pred/mask').touch()
    manifest.finish_case('volume-1', [source], ['mask'])
    assert again(tmp_path / 'pred').find_finished('volume-1', [source]) is None


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{"settings":',
        'null',
        '[]',
        '{"settings": {}}',
        '"' + 'x' * 99,
        '[' * 100000,
        '\0',
        '{"files": {"a": []}}',
        '{"settings": {}, "inputs": [], "files": {"../../a": null}, "row": null}',
        '{"settings": {}, "inputs": [], "files": {"/a": null}, "row": null}',
        '{"settings": {}, "inputs": [], "files": {"a": 3}, "row": null}',
        '{"settings": {}, "inputs": [], "files": {}, "row": 3}',
    ],
)
def test_a_damaged_record_is_one_case_not_done(tmp_path, text):
    make(tmp_path / 'pred', 'volume-2')
    make(tmp_path / 'pred', 'volume-1')
    (tmp_path / 'pred/manifest/volume-1.json').write_text(text)
    (tmp_path / 'a').touch()
    manifest = again(tmp_path / 'pred')
    assert manifest.find_finished('volume-1', []) is None and manifest.find_finished('volume-2', [])
    assert settings_of_cases(tmp_path / 'pred') == [None, SETTINGS]
    removed, failures = manifest.prune([])
    assert removed == ['volume-2'] and [name for name, _ in failures] == ['volume-1'] and 'damaged' in failures[0][1]
    assert (tmp_path / 'a').exists() and (tmp_path / 'pred/ct/volume-1.nii').exists()
    make(tmp_path / 'pred', 'volume-1')
    assert again(tmp_path / 'pred').find_finished('volume-1', [])


def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / 'pred').mkdir()
    (tmp_path / 'pred/.lock').touch()
    again(tmp_path / 'pred')  # a lock alone is no reason
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.tex').touch()
    with pytest.raises(InputError, match='pred_path'):
        again(tmp_path / 'mine')
    assert [path.name for path in (tmp_path / 'mine').iterdir()] == ['thesis.tex']


def test_a_file_that_no_record_lists_is_not_replaced(tmp_path):
    manifest = make(tmp_path / 'pred')
    (tmp_path / 'pred/ct/volume-2.nii').write_text('drawn by hand')
    with pytest.raises(InputError, match='volume-2.nii.*pred_path'):
        manifest.begin_case('volume-2', ['ct/volume-2.nii'])
    assert manifest.find_finished('volume-2', []) is None and not (tmp_path / 'pred/manifest/volume-2.json').exists()


def test_a_mask_corrected_by_hand_is_neither_replaced_nor_removed(tmp_path):
    manifest = make(tmp_path / 'pred', 'volume-1')
    (tmp_path / 'pred/ct/volume-1.nii').write_text('corrected by hand')
    assert manifest.find_finished('volume-1', []) is None
    with pytest.raises(InputError, match='volume-1.nii: was changed after .*pred_path'):
        manifest.begin_case('volume-1', ['ct/volume-1.nii'])
    removed, failures = manifest.prune([])
    assert not removed and 'was changed' in failures[0][1]
    assert (tmp_path / 'pred/ct/volume-1.nii').read_text() == 'corrected by hand'


def test_a_case_that_was_started_and_not_finished_is_known_to_be_ours(tmp_path):
    manifest = make(tmp_path / 'set')
    manifest.begin_case('volume-1', ['ct/volume-1.nii', 'seg/volume-1.nii'])
    for folder in ('ct', 'seg'):
        (tmp_path / f'set/{folder}').mkdir(exist_ok=True)
        (tmp_path / f'set/{folder}/volume-1.nii').write_text('VOXELS')  # of the same size; killed here
    assert settings_of_cases(tmp_path / 'set') == [None]
    manifest = again(tmp_path / 'set')
    assert manifest.find_finished('volume-1', []) is None and not manifest.is_current('volume-1')
    manifest.begin_case('volume-1', ['ct/volume-1.nii', 'seg/volume-1.nii'])
    assert manifest.prune([]) == (['volume-1'], [])
    assert not list((tmp_path / 'set').glob('*/volume-1.nii'))


def test_prune_removes_what_is_not_named_and_no_file_of_others(tmp_path):
    for name in ('volume-1', 'volume-1.5', 'volume-2'):
        manifest = make(tmp_path / 'set', name)
    (tmp_path / 'set/ct/mine.nii').touch()
    assert manifest.prune(['volume-2']) == (['volume-1.5', 'volume-1'], [])
    assert sorted(path.name for path in (tmp_path / 'set').rglob('*') if path.is_file()) == [
        '.lock',
        'mine.nii',
        'volume-2.json',
        'volume-2.nii',
    ]


def test_a_file_that_cannot_be_removed_is_named_and_the_others_go(tmp_path):
    make(tmp_path / 'set', 'volume-1')
    manifest = make(tmp_path / 'set', 'volume-2')
    (tmp_path / 'set/ct/volume-1.nii').unlink()
    (tmp_path / 'set/ct/volume-1.nii').mkdir()
    removed, failures = manifest.prune([])
    assert (
        removed == ['volume-2'] and failures[0][0] == 'volume-1' and (tmp_path / 'set/manifest/volume-1.json').exists()
    )


def test_settings_of_cases_shows_a_set_half_replaced(tmp_path):
    assert settings_of_cases(tmp_path) == []
    make(tmp_path / 'set', 'volume-1')
    make(tmp_path / 'set', 'volume-2')
    shutil.copytree(tmp_path / 'set', tmp_path / 'copy', copy_function=shutil.copyfile)  # other times
    assert settings_of_cases(tmp_path / 'set') == settings_of_cases(tmp_path / 'copy') == [SETTINGS]
    other = {**SETTINGS, 'size': 32}
    make(tmp_path / 'set', 'volume-2', settings=other)
    assert settings_of_cases(tmp_path / 'set') == [SETTINGS, other]
    assert again(tmp_path / 'set', other).is_current('volume-2') and not again(tmp_path / 'set', other).is_current(
        'volume-1'
    )


@pytest.mark.parametrize('name', ['volume 1', 'volume-\n1', '-volume', 'Lebér', 'volume-\udcff', 'a.b'])
def test_odd_names(tmp_path, name):
    make(tmp_path / 'pred', name)
    assert again(tmp_path / 'pred').find_finished(name, [])
    assert json.loads((tmp_path / f'pred/manifest/{name}.json').read_text())['files'].keys() == {f'ct/{name}.nii'}
    assert again(tmp_path / 'pred').prune([]) == ([name], [])
