"""check_dataset.py finds every fault of a data set, names the case, and reports nothing else."""

import csv

import numpy as np
import pytest

from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

GEOMETRY = Geometry((2.0, 2.0, 5.0), (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))


def make_sound_case():
    """Return a CT of 12 slices of 5 mm in HU and its label: liver in slices 3 to 8, 10 x 10 pixels of 2 mm, 12 mL."""
    ct = np.full((12, 24, 24), -1000, np.int16)
    ct[:, 4:20, 4:20] = 60
    ct[0, 4, 4] = 900
    liver = np.zeros((12, 24, 24), np.uint8)
    liver[3:9, 6:16, 6:16] = 1
    liver[4, 8:10, 8:10] = 2
    return ct, liver


def add_case(folder, number, ct=None, label=None, group='train', geometry=GEOMETRY, ending='.nii'):
    sound_ct, sound_label = make_sound_case()
    write_volume(folder / f'data/{group}/CT/volume-{number}{ending}', sound_ct if ct is None else ct, geometry)
    if label is not False:
        write_volume(
            folder / f'data/{group}/seg/segmentation-{number}{ending}',
            sound_label if label is None else label,
            geometry,
        )


def read_table(folder):
    """Return the rows of check.csv by the name of the case."""
    with open(folder / 'check.csv', newline='') as file:
        return {row['case']: row for row in csv.DictReader(file)}


def run_check(script, **settings):
    """Run check_dataset.py with these parameters; it must not end with a traceback."""
    done = script(
        'data_prepare/check_dataset.py', **{'size': 8, 'stride': 8, 'slice_thickness': 5, 'expand_slice': 1, **settings}
    )
    assert 'Traceback' not in done.stderr, done.stderr
    return done


def test_a_sound_data_set_is_ok_and_its_figures_are_right(tmp_path, script):
    add_case(tmp_path, 0)
    add_case(tmp_path, 10, group='test', label=False)
    done = run_check(script)
    assert done.returncode == 0, done.stderr
    rows = read_table(tmp_path)
    assert rows['volume-0'] == {
        'case': 'volume-0',
        'group': 'train',
        'slices': '12',
        'pixels': '24 x 24',
        'spacing': '2 x 2 x 5',
        'HU min': '-1000',
        'HU max': '900',
        'liver mL': '12',
        'status': 'ok',
        'findings': '',
    }
    assert (
        rows['volume-10']['group'] == 'test'
        and rows['volume-10']['status'] == 'ok'
        and rows['volume-10']['liver mL'] == ''
    )
    assert '2 ok, 0 with warnings, 0 with errors' in done.stdout
    assert done.stdout.splitlines()[-1].startswith('next: python data_prepare/get_training_set.py --size=8')
    assert 'volume-10' in done.stdout and 'check.csv' in done.stdout


def test_errors_are_named_in_the_table_and_the_last_lines(tmp_path, script):
    ct, liver = make_sound_case()
    add_case(tmp_path, 0)
    add_case(tmp_path, 1, label=False)
    add_case(tmp_path, 2)
    (tmp_path / 'data/train/CT/volume-2.nii').unlink()
    add_case(tmp_path, 3)
    first_bytes = (tmp_path / 'data/train/CT/volume-0.nii').read_bytes()[:5000]
    (tmp_path / 'data/train/CT/volume-3.nii').write_bytes(first_bytes)
    add_case(tmp_path, 4, label=liver[1:])
    add_case(tmp_path, 5, ct=np.where(ct == 60, np.nan, ct).astype(np.float32))
    add_case(tmp_path, 6, label=liver * 9)
    add_case(tmp_path, 7, label=liver * 0)
    add_case(tmp_path, 8, ct=ct + np.int16(1024))
    add_case(tmp_path, 9, ct=ct * 0)
    add_case(tmp_path, 10, ct=(ct > 0) * np.int16(200))
    short = liver.copy()
    short[5:] = 0
    add_case(tmp_path, 11, label=short)
    add_case(tmp_path, 14, geometry=Geometry((2, 2, 0.002)))
    (tmp_path / 'data/train/CT/volume-12.nii').mkdir()
    (tmp_path / 'data/train/CT/volume-13.mha').write_bytes(b'')
    done = run_check(script)
    assert done.returncode == 1
    rows = read_table(tmp_path)
    wanted = {
        1: 'wanted a label segmentation-1',
        3: 'volume-3.nii: cut short',
        4: '(11, 24, 24)',
        5: 'NaN',
        6: '9, 18',
        7: 'no liver',
        8: '-1024',
        9: 'every voxel is 0',
        10: 'picture',
        11: 'wanted 8 slices of 5 mm around the liver, got 4',
        13: 'the file is empty',
        14: 'wanted 8 slices of 5 mm around the liver, got 0',
    }
    for number, finding in wanted.items():
        row = rows[f'volume-{number}']
        assert row['status'] == 'error' and finding in row['findings'], row
        assert any(
            line.startswith(f'failed: volume-{number}: ') and finding in line for line in done.stdout.splitlines()
        )
    assert rows['segmentation-2']['status'] == 'error' and 'without CT' in rows['segmentation-2']['findings']
    assert rows['volume-0']['status'] == 'ok' and 'volume-12' not in rows
    # The figures of a case end where its files cannot be used.
    assert rows['volume-6']['liver mL'] == '12' and rows['volume-5']['liver mL'] == ''
    assert f'1 ok, 0 with warnings, {len(rows) - 1} with errors' in done.stdout


def test_warnings_leave_the_exit_status_at_0(tmp_path, script):
    ct, liver = make_sound_case()
    for number in (0, 1, 2):
        add_case(tmp_path, number)
    cut = liver.copy()
    cut[0] = liver[3]
    add_case(tmp_path, 3, label=cut)
    edge = liver.copy()
    edge[5, 0] = 1
    add_case(tmp_path, 4, label=edge)
    add_case(tmp_path, 5, geometry=Geometry(GEOMETRY.spacing))
    wide = np.zeros((2, 512, 512), np.int16)
    wide[0], wide[1] = -1000, 500
    add_case(
        tmp_path, 28, ct=wide, label=False, group='test', geometry=Geometry((1, 1, 1), (0, 0, 0), GEOMETRY.direction)
    )
    done = run_check(script, spacing_override="{'volume-99': [1, 1, 1]}")
    assert done.returncode == 0, done.stdout
    rows = read_table(tmp_path)
    for case, finding in {
        'volume-3': 'first slice',
        'volume-4': 'edge',
        'volume-5': 'run to LPS, in most other cases to RAS',
        'volume-28': 'give the true one in spacing_override',
        'volume-99': 'no such case',
    }.items():
        assert rows[case]['status'] == 'warning' and finding in rows[case]['findings'], rows[case]
    assert all(rows[f'volume-{number}']['status'] == 'ok' for number in (0, 1, 2))
    assert '3 ok, 5 with warnings, 0 with errors' in done.stdout


def test_spacing_override_corrects_spacing_and_volume(tmp_path, script):
    add_case(tmp_path, 0)
    assert run_check(script, spacing_override="{'volume-0': [1, 1, 10]}").returncode == 0
    assert (
        read_table(tmp_path)['volume-0']['spacing'] == '1 x 1 x 10'
        and read_table(tmp_path)['volume-0']['liver mL'] == '6'
    )


@pytest.mark.parametrize(
    'value', ['[1, 1, 1]', "{'volume-0': [1, 1]}", "{'volume-0': [1, 1, 0]}", "{'volume-0': 1}", '{0: [1, 1, 1]}']
)
def test_a_malformed_spacing_override_is_refused(tmp_path, script, value):
    done = run_check(script, spacing_override=value)
    assert done.returncode == 1 and 'spacing_override' in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_name_that_a_spreadsheet_would_execute_is_escaped(tmp_path, script):
    ct, liver = make_sound_case()
    write_volume(tmp_path / 'data/train/CT/=1+1\nx.nii', ct, GEOMETRY)
    write_volume(tmp_path / 'data/train/seg/=1+1\nx.nii', liver, GEOMETRY)
    done = run_check(script)
    assert done.returncode == 0, done.stderr
    assert list(read_table(tmp_path)) == ["'=1+1\\nx"]


def test_a_missing_folder_is_named(tmp_path, script):
    done = run_check(script)
    assert done.returncode == 1 and 'train_ct_path' in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / 'check.csv').exists()


def test_labels_of_both_groups_in_one_folder(tmp_path, script):
    add_case(tmp_path, 0)
    add_case(tmp_path, 1, group='test')
    (tmp_path / 'data/test/seg/segmentation-1.nii').rename(tmp_path / 'data/train/seg/segmentation-1.nii')
    assert run_check(script, test_seg_path='./data/train/seg/').returncode == 0
