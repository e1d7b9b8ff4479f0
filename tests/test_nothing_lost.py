"""Runs that are stopped, find a full disk or find finished cases: results are kept, and the next run completes them."""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas
import pytest
import torch

from net.ResUNet import ResUNet
from tests.conftest import ROOT
from tests.small_cases import CRF, PREPARE, SMALL, VAL, write_case, write_mask
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume


def read_masks_and_tables(folder):
    """Return the bytes of the .nii and .csv files by name; locks, records and xlsx files contain the time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.suffix in ('.nii', '.csv')
    }


def partial_files(folder):
    return list(folder.rglob('.part-*'))


def run(folder, name, wait=None, limit=None, **overrides):
    """Run a script in a folder to its end, and return its process with the attributes out and err.

    Args:
        folder: the working folder.
        name: path of the script in the repository.
        wait: a function of the process that is called while it runs.
        limit: the largest size of a file in bytes, as a quota sets it.
        overrides: parameters of the script.
    """
    command = [sys.executable, str(ROOT / name), *(f'--{key}={value}' for key, value in {**SMALL, **overrides}.items())]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'},
        preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))),
    )
    if wait:
        wait(process)
    process.out, process.err = process.communicate(timeout=120)
    return process


@pytest.fixture(scope='module')
def predicted_original(small_data_original, tmp_path_factory):
    """The files of `predicted`, made once."""
    folder = tmp_path_factory.mktemp('predicted')
    shutil.copytree(small_data_original, folder, dirs_exist_ok=True)
    assert run(folder, VAL).returncode == 0
    return folder


@pytest.fixture
def predicted(predicted_original, tmp_path):
    """small_data in tmp_path after val.py has predicted its test cases there.

    The copies keep size and modification time. The records contain absolute paths, which are changed to the new folder.
    """
    shutil.copytree(predicted_original, tmp_path, dirs_exist_ok=True)
    for record in (tmp_path / 'pred/manifest').iterdir():
        record.write_text(record.read_text().replace(str(predicted_original), str(tmp_path)))
    return tmp_path


def signal_after_first_case(records, number):
    """Return a function that sends a signal to a process as soon as a record in the folder `records` is complete."""

    def wait(process):
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if any(None not in json.loads(path.read_text())['files'].values() for path in records.glob('[!.]*.json')):
                process.send_signal(number)
                return
            time.sleep(0.002)

    return wait


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, folder, number',
    [
        (PREPARE, 'train', signal.SIGKILL),
        (VAL, 'pred', signal.SIGTERM),
        (VAL, 'pred', signal.SIGKILL),
        (CRF, 'crf', signal.SIGINT),
    ],
)
def test_a_stopped_run_keeps_what_is_finished_and_the_next_one_ends_as_if_never_stopped(
    small_data, name, folder, number
):
    for extra in range(3, 12):
        write_case(small_data, 'train' if name == PREPARE else 'test', extra)
    if name == CRF:
        for number_of_case in range(12):
            write_mask(small_data, number_of_case)
    stopped = run(small_data, name, signal_after_first_case(small_data / folder / 'manifest', number))
    assert stopped.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert [line for line in stopped.err.splitlines() if 'stopped' in line] == [
            f'stopped by {number.name}; what is finished is kept'
        ]
        assert 'Traceback' not in stopped.err and not partial_files(small_data / folder)
    finished = read_masks_and_tables(small_data / folder)
    second = run(small_data, name)
    assert second.returncode == 0 and 'of 12 cases were done before' in second.out
    assert not partial_files(small_data / folder)
    parameter = 'training_set_path' if name == PREPARE else f'{folder}_path'
    assert run(small_data, name, **{parameter: 'uninterrupted'}).returncode == 0
    completed = read_masks_and_tables(small_data / folder)
    expected = read_masks_and_tables(small_data / 'uninterrupted')
    assert finished.items() <= completed.items() and finished
    for results in (completed, expected):
        for table in [file for file in results if file.endswith('.csv')]:
            rows = pandas.read_csv(io.BytesIO(results[table]))
            results[table] = rows.drop(columns='time').to_csv()  # The seconds may differ, all else may not.
    assert completed == expected


OVERLAP = """
import sys, time
from types import SimpleNamespace
from pathlib import Path
from utilities.run.run_cases import run_cases
from utilities.run.script import run_script
from utilities.base.folder_lock import lock_folder
from utilities.base.atomic_write import atomic_write

def main(para):
    lock_folder('pred', 'pred_path')
    def write(case, _):
        with atomic_write(Path('pred') / case.name) as part:
            part.write_text('half')
            print('writing', flush=True)
            time.sleep(0 if case.name == '0' else 60)
    run_cases([lambda case: 1, write], [SimpleNamespace(name=str(n)) for n in range(4)], 'test', overlap=True)

sys.argv = ['test']
run_script(main, '')
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_with_overlapping_steps_ends_at_once_and_leaves_no_part(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, '-c', OVERLAP],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert [process.stdout.readline() for _ in range(2)] == ['writing\n'] * 2
    assert len(partial_files(tmp_path)) == 1
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 128 + number and err.count('stopped by') == 1
    assert sorted(path.name for path in (tmp_path / 'pred').iterdir()) == ['.lock', '0']


@pytest.mark.parametrize(
    'name, folder, parameter',
    [(PREPARE, 'train', 'training_set_path'), (VAL, 'pred', 'pred_path'), (CRF, 'crf', 'crf_path')],
)
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(small_data, name, folder, parameter):
    write_case(small_data, 'train', 1, depth=40)  # Its file exceeds the limit; the others do not.
    write_case(small_data, 'test', 1, depth=40)
    if name == CRF:
        for number in range(3):
            shutil.copy(small_data / f'data/test/seg/segmentation-{number}.nii', small_data / f'pred-{number}.nii')
        (small_data / 'pred').mkdir()
        for path in small_data.glob('pred-*'):
            path.rename(small_data / 'pred' / path.name)
    full = run(small_data, name, limit=30000)
    last = full.err.splitlines()[-1]
    assert full.returncode == 1 and 'Traceback' not in full.err and 'failed' not in full.out
    assert last.startswith('error: ') and '-1.nii: File too large' in last and parameter in last
    assert not partial_files(small_data / folder) and (small_data / folder / 'manifest').is_dir()
    finished = read_masks_and_tables(small_data / folder)
    assert len(finished) == (2 if name == PREPARE else 1)
    second = run(small_data, name)
    assert second.returncode == 0 and '1 of 3 cases were done before' in second.out
    assert finished.items() <= read_masks_and_tables(small_data / folder).items()


@pytest.mark.slow
def test_val_predicts_again_only_what_changed(predicted):
    def modification_times():
        return {path.name: path.stat().st_mtime_ns for path in (predicted / 'pred').glob('*.nii')}

    first, table = modification_times(), (predicted / 'pred/result.csv').read_text()
    second = run(predicted, VAL, window_batch=2)  # This parameter changes no result.
    assert '3 of 3 cases were done before' in second.out and modification_times() == first
    assert (predicted / 'pred/result.csv').read_text() == table
    (predicted / 'data/test/seg/segmentation-1.nii').unlink()
    assert '2 of 3 cases were done before' in run(predicted, VAL).out
    assert [name for name in first if modification_times()[name] != first[name]] == ['pred-1.nii']
    assert pandas.read_csv(predicted / 'pred/result.csv')['dice'].notna().tolist() == [True, False, True]
    assert 'done before' not in run(predicted, VAL, threshold=0.4).out
    torch.save(ResUNet(training=False).state_dict(), predicted / 'weights.pth')
    assert 'done before' not in run(predicted, VAL, threshold=0.4).out
    assert '2 of 3' in run(predicted, VAL, threshold=0.4, spacing_override="{'volume-2': [8, 8, 10]}").out


def test_a_failing_case_leaves_the_tables_of_the_others(small_data):
    path = small_data / 'data/test/CT/volume-1.nii'
    path.write_bytes(path.read_bytes()[:5000])
    done = run(small_data, VAL)
    assert done.returncode == 1 and done.out.count('failed: volume-1') == 1
    assert pandas.read_csv(small_data / 'pred/result.csv')['case'].tolist() == ['volume-0.nii', 'volume-2.nii']


@pytest.mark.slow
def test_the_crf_refines_again_only_what_changed(predicted):
    assert run(predicted, CRF).returncode == 0
    table = (predicted / 'crf/result-post-processing.csv').read_text()
    assert '3 of 3 cases were done before' in run(predicted, CRF).out
    assert (predicted / 'crf/result-post-processing.csv').read_text() == table
    write_mask(predicted, 1, slice(3, 6))
    assert '2 of 3 cases were done before' in run(predicted, CRF).out
    # The 2D CRF gives another result in the same folder.
    assert 'done before' not in run(predicted, 'Densecrf/2D-CRF.py').out
    assert run(predicted, CRF, crf_path='pred').returncode == 0
    assert '2 of 3 cases were done before' in run(predicted, VAL).out  # pred-1 was changed above.


@pytest.mark.parametrize('name, parameter', [(PREPARE, 'training_set_path'), (VAL, 'pred_path'), (CRF, 'crf_path')])
def test_a_folder_with_other_files_or_in_use_by_another_run_is_refused(small_data, name, parameter):
    write_volume(small_data / 'pred/pred-0.nii', np.ones((10, 40, 40), np.uint8), Geometry((8, 8, 12), (0, 0, 0)))
    (small_data / 'mine').mkdir()
    (small_data / 'mine/thesis.tex').touch()
    done = run(small_data, name, **{parameter: 'mine'})
    assert done.returncode == 1 and done.err.count('\n') == 1
    assert parameter in done.err and 'did not make' in done.err
    assert [path.name for path in (small_data / 'mine').iterdir()] == ['thesis.tex']

    code = (
        'import time; from utilities.base.folder_lock import lock_folder; lock_folder("locked", "a"); '
        'print("locked", flush=True); time.sleep(60)'
    )
    other = subprocess.Popen(
        [sys.executable, '-c', code],
        cwd=small_data,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
    )
    try:
        other.stdout.readline()
        done = run(small_data, name, **{parameter: 'locked'})
        assert done.returncode == 1 and done.err.count('\n') == 1
        assert parameter in done.err and f'process {other.pid} on ' in done.err
        assert [path.name for path in (small_data / 'locked').iterdir()] == ['.lock']
        if name == CRF:
            shutil.copy(small_data / 'pred/pred-0.nii', small_data / 'locked/pred-0.nii')
            done = run(small_data, name, pred_path='locked')
            assert done.returncode == 1 and 'pred_path' in done.err
    finally:
        other.kill()
        other.communicate()


def test_a_training_set_holds_no_case_of_other_settings_or_without_source(small_data):
    (small_data / 'data/train/CT/volume-0.nii').rename(small_data / 'away.nii')
    write_case(small_data, 'train', 3, depth=6)  # 2 slices with liver
    assert run(small_data, PREPARE).returncode == 1  # volume-3 has too few slices.
    assert run(small_data, PREPARE, size=16).returncode == 1  # Now all cases fail: the old set is kept.
    assert sorted(path.name for path in (small_data / 'train/ct').iterdir()) == ['volume-1.nii', 'volume-2.nii']
    (small_data / 'away.nii').rename(small_data / 'data/train/CT/volume-0.nii')
    (small_data / 'data/train/CT/volume-1.nii').unlink()
    path = small_data / 'data/train/CT/volume-2.nii'
    path.write_bytes(path.read_bytes()[:5000])
    done = run(small_data, PREPARE)  # volume-2 fails, but its earlier result has the same settings and stays.
    assert done.returncode == 1 and done.out.count('removed: volume-1') == 1
    assert sorted(path.name for path in (small_data / 'train/ct').iterdir()) == ['volume-0.nii', 'volume-2.nii']
    done = run(small_data, PREPARE, expand_slice=1)
    assert done.returncode == 1 and done.out.count('removed: volume-2') == 1
    assert sorted(path.name for path in (small_data / 'train').rglob('*') if path.is_file()) == [
        '.lock',
        'get_training_set.log',
        'segmentation-0.nii',
        'volume-0.json',
        'volume-0.nii',
    ]


def test_phantoms_in_one_folder(tmp_path):
    small = dict(
        phantom_train=1,
        phantom_test=1,
        phantom_depth=16,
        phantom_width=16,
        train_ct_path='a',
        train_seg_path='a',
        test_ct_path='a',
        test_seg_path='a',
    )
    assert run(tmp_path, 'data_prepare/make_phantom.py', **small).returncode == 0
    files = read_masks_and_tables(tmp_path / 'a')
    assert sorted(files) == ['segmentation-0.nii', 'segmentation-1.nii', 'volume-0.nii', 'volume-1.nii']
    assert '2 of 2 cases were done before' in run(tmp_path, 'data_prepare/make_phantom.py', **small).out
    assert run(tmp_path, 'data_prepare/make_phantom.py', **small, seed=1).returncode == 0
    assert not set(files.values()) & set(read_masks_and_tables(tmp_path / 'a').values())


def test_a_damaged_record_costs_one_case(small_data):
    assert run(small_data, PREPARE).returncode == 0
    (small_data / 'train/manifest/volume-1.json').write_text('{')
    done = run(small_data, PREPARE)
    assert done.returncode == 0 and '2 of 3 cases were done before' in done.out


def test_odd_names_go_through_all_stages(small_data):
    for odd in ('=1+1', '-volume 9', 'volume-\n4', 'Lebér volume-5'):
        for group in ('train', 'test'):
            shutil.copy(small_data / f'data/{group}/CT/volume-1.nii', small_data / f'data/{group}/CT/{odd}.nii')
            shutil.copy(
                small_data / f'data/{group}/seg/segmentation-1.nii',
                small_data / f'data/{group}/seg/{odd.replace("volume", "segmentation")}.nii',
            )
    for name in (PREPARE, VAL, CRF):
        done = run(small_data, name)
        assert done.returncode == 0, done.err + done.out
    assert (small_data / 'crf/crf-\n4.nii').exists() and len(list((small_data / 'train/ct').iterdir())) == 7
