"""The records tell finished cases from others, and our files from those of other people."""

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
def release_locks():
    yield
    folder_lock.release_locks()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'volume-1.nii'
    path.write_text('voxels')
    return path


def make_case(folder, name='volume-1', inputs=(), settings=SETTINGS, row=None):
    manifest = Manifest(folder, settings, 'pred_path')
    manifest.find_finished(name, inputs)
    manifest.begin_case(name, [f'ct/{name}.nii'])
    (folder / 'ct').mkdir(exist_ok=True)
    (folder / f'ct/{name}.nii').write_text('voxels')
    manifest.finish_case(name, inputs, [f'ct/{name}.nii'], row)
    return manifest


def open_manifest(folder, settings=SETTINGS):
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
    make_case(tmp_path / 'pred', inputs=[source, None, (0.7, 0.7, 1.25), 'weights'], row=row)
    record = open_manifest(tmp_path / 'pred').find_finished('volume-1', [source, None, (0.7, 0.7, 1.25), 'weights'])
    assert np.isnan(record['row'].pop('hd95')) and record['row'] == {k: v for k, v in row.items() if k != 'hd95'}
    assert open_manifest(tmp_path / 'pred').find_finished('volume-2', [source]) is None


def set_time_to_1970(path):
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize(
    'change',
    [
        lambda pred, source: set_time_to_1970(source),
        lambda pred, source: source.write_text('other voxels'),
        lambda pred, source: (pred / 'ct/volume-1.nii').unlink(),
        lambda pred, source: (pred / 'ct/volume-1.nii').write_text('short'),
        lambda pred, source: set_time_to_1970(pred / 'ct/volume-1.nii'),
        lambda pred, source: (pred / 'manifest/volume-1.json').unlink(),
    ],
)
def test_a_case_whose_files_changed_is_not_finished(tmp_path, source, change):
    make_case(tmp_path / 'pred', inputs=[source])
    assert open_manifest(tmp_path / 'pred').find_finished('volume-1', [source])
    change(tmp_path / 'pred', source)
    assert open_manifest(tmp_path / 'pred').find_finished('volume-1', [source]) is None


def test_a_case_with_other_settings_or_inputs_is_not_finished_and_its_files_stay(tmp_path, source):
    make_case(tmp_path / 'pred', inputs=[source, 1])
    assert open_manifest(tmp_path / 'pred', {**SETTINGS, 'size': 40}).find_finished('volume-1', [source, 1]) is None
    assert open_manifest(tmp_path / 'pred').find_finished('volume-1', [source, 2]) is None
    assert open_manifest(tmp_path / 'pred').find_finished('volume-1', [source]) is None
    assert open_manifest(tmp_path / 'pred').find_finished('volume-1', [source, 1])


def test_an_input_that_changes_during_the_computation_is_noticed(tmp_path, source):
    manifest = open_manifest(tmp_path / 'pred')
    manifest.find_finished('volume-1', [source])
    source.write_text('another scan')
    (tmp_path / 'pred/mask').touch()
    manifest.finish_case('volume-1', [source], ['mask'])
    assert open_manifest(tmp_path / 'pred').find_finished('volume-1', [source]) is None


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
def test_a_damaged_record_affects_only_its_case(tmp_path, text):
    make_case(tmp_path / 'pred', 'volume-2')
    make_case(tmp_path / 'pred', 'volume-1')
    (tmp_path / 'pred/manifest/volume-1.json').write_text(text)
    (tmp_path / 'a').touch()
    manifest = open_manifest(tmp_path / 'pred')
    assert manifest.find_finished('volume-1', []) is None and manifest.find_finished('volume-2', [])
    assert settings_of_cases(tmp_path / 'pred') == [None, SETTINGS]
    removed, failures = manifest.prune([])
    assert removed == ['volume-2'] and [name for name, _ in failures] == ['volume-1'] and 'damaged' in failures[0][1]
    assert (tmp_path / 'a').exists() and (tmp_path / 'pred/ct/volume-1.nii').exists()
    make_case(tmp_path / 'pred', 'volume-1')
    assert open_manifest(tmp_path / 'pred').find_finished('volume-1', [])


def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / 'pred').mkdir()
    (tmp_path / 'pred/.lock').touch()
    open_manifest(tmp_path / 'pred')  # A lock alone is no file of others.
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.tex').touch()
    with pytest.raises(InputError, match='pred_path'):
        open_manifest(tmp_path / 'mine')
    assert [path.name for path in (tmp_path / 'mine').iterdir()] == ['thesis.tex']


def test_a_file_that_no_record_lists_is_not_replaced(tmp_path):
    manifest = make_case(tmp_path / 'pred')
    (tmp_path / 'pred/ct/volume-2.nii').write_text('drawn by hand')
    with pytest.raises(InputError, match='volume-2.nii.*pred_path'):
        manifest.begin_case('volume-2', ['ct/volume-2.nii'])
    assert manifest.find_finished('volume-2', []) is None and not (tmp_path / 'pred/manifest/volume-2.json').exists()


def test_a_mask_corrected_by_hand_is_neither_replaced_nor_removed(tmp_path):
    manifest = make_case(tmp_path / 'pred', 'volume-1')
    (tmp_path / 'pred/ct/volume-1.nii').write_text('corrected by hand')
    assert manifest.find_finished('volume-1', []) is None
    with pytest.raises(InputError, match='volume-1.nii: was changed after .*pred_path'):
        manifest.begin_case('volume-1', ['ct/volume-1.nii'])
    removed, failures = manifest.prune([])
    assert not removed and 'was changed' in failures[0][1]
    assert (tmp_path / 'pred/ct/volume-1.nii').read_text() == 'corrected by hand'


def test_a_case_that_was_started_and_not_finished_is_known_to_be_ours(tmp_path):
    manifest = make_case(tmp_path / 'set')
    manifest.begin_case('volume-1', ['ct/volume-1.nii', 'seg/volume-1.nii'])
    for folder in ('ct', 'seg'):
        (tmp_path / f'set/{folder}').mkdir(exist_ok=True)
        (tmp_path / f'set/{folder}/volume-1.nii').write_text(
            'VOXELS'
        )  # The size is that of before; the run is killed now.
    assert settings_of_cases(tmp_path / 'set') == [None]
    manifest = open_manifest(tmp_path / 'set')
    assert manifest.find_finished('volume-1', []) is None and not manifest.is_current('volume-1')
    manifest.begin_case('volume-1', ['ct/volume-1.nii', 'seg/volume-1.nii'])
    assert manifest.prune([]) == (['volume-1'], [])
    assert not list((tmp_path / 'set').glob('*/volume-1.nii'))


def test_prune_removes_the_other_cases_and_no_file_without_record(tmp_path):
    for name in ('volume-1', 'volume-1.5', 'volume-2'):
        manifest = make_case(tmp_path / 'set', name)
    (tmp_path / 'set/ct/mine.nii').touch()
    assert manifest.prune(['volume-2']) == (['volume-1.5', 'volume-1'], [])
    assert sorted(path.name for path in (tmp_path / 'set').rglob('*') if path.is_file()) == [
        '.lock',
        'mine.nii',
        'volume-2.json',
        'volume-2.nii',
    ]


def test_prune_reports_a_file_that_it_cannot_remove_and_removes_the_others(tmp_path):
    make_case(tmp_path / 'set', 'volume-1')
    manifest = make_case(tmp_path / 'set', 'volume-2')
    (tmp_path / 'set/ct/volume-1.nii').unlink()
    (tmp_path / 'set/ct/volume-1.nii').mkdir()
    removed, failures = manifest.prune([])
    assert removed == ['volume-2'] and failures[0][0] == 'volume-1'
    assert (tmp_path / 'set/manifest/volume-1.json').exists()


def test_settings_of_cases_are_several_where_a_folder_is_half_replaced(tmp_path):
    assert settings_of_cases(tmp_path) == []
    make_case(tmp_path / 'set', 'volume-1')
    make_case(tmp_path / 'set', 'volume-2')
    shutil.copytree(
        tmp_path / 'set', tmp_path / 'copy', copy_function=shutil.copyfile
    )  # The copies have other modification times.
    assert settings_of_cases(tmp_path / 'set') == settings_of_cases(tmp_path / 'copy') == [SETTINGS]
    other = {**SETTINGS, 'size': 32}
    make_case(tmp_path / 'set', 'volume-2', settings=other)
    assert settings_of_cases(tmp_path / 'set') == [SETTINGS, other]
    manifest = open_manifest(tmp_path / 'set', other)
    assert manifest.is_current('volume-2') and not manifest.is_current('volume-1')


@pytest.mark.parametrize('name', ['volume 1', 'volume-\n1', '-volume', 'Lebér', 'volume-\udcff', 'a.b'])
def test_odd_names(tmp_path, name):
    make_case(tmp_path / 'pred', name)
    assert open_manifest(tmp_path / 'pred').find_finished(name, [])
    assert json.loads((tmp_path / f'pred/manifest/{name}.json').read_text())['files'].keys() == {f'ct/{name}.nii'}
    assert open_manifest(tmp_path / 'pred').prune([]) == ([name], [])
