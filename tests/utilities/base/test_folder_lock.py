"""Only one run at a time writes to a folder: other processes, forks, and folders that cannot be locked."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from utilities.base.errors import InputError
from utilities.base.folder_lock import held_locks, lock_folder

LOCK_IN_PROCESS = """
import sys, time
from utilities.base.folder_lock import lock_folder
lock_folder(sys.argv[1], "pred_path", {shared})
print("locked", flush=True)
{then}
"""


@pytest.fixture(autouse=True)
def release_locks_of_test():
    """Release the locks that a test has left."""
    before = set(held_locks)
    yield
    for key in set(held_locks) - before:
        os.close(held_locks.pop(key)[0])


@pytest.fixture
def start_other():
    """start_other(folder, shared, then) starts a process that locks a folder, and returns it when that is done."""
    started = []

    def start(folder, shared=False, then='time.sleep(60)'):
        command = [sys.executable, '-c', LOCK_IN_PROCESS.format(shared=shared, then=then), str(folder)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == 'locked\n'
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_error_names_the_run_that_has_locked_the_folder(tmp_path, start_other):
    process = start_other(tmp_path / 'pred')
    with pytest.raises(InputError) as error:
        lock_folder(tmp_path / 'pred', 'pred_path')
    for text in (str(tmp_path / 'pred'), 'pred_path', f'process {process.pid} on {os.uname().nodename}'):
        assert text in str(error.value)
    with pytest.raises(InputError):
        lock_folder(tmp_path / 'pred', 'pred_path', shared=True)


def test_a_killed_run_has_released_its_lock(tmp_path, start_other):
    process = start_other(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lock_folder(tmp_path, 'pred_path')


def test_a_worker_that_outlives_its_killed_run_holds_no_lock(tmp_path, start_other):
    process = start_other(
        tmp_path, then='import os; child = os.fork(); child and print(child, flush=True); time.sleep(60)'
    )
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    os.kill(worker, 0)  # The worker is still running.
    try:
        time.sleep(0.1)
        lock_folder(tmp_path, 'pred_path')
    finally:
        os.kill(worker, signal.SIGKILL)


def test_shared_locks_exclude_only_exclusive_ones(tmp_path, start_other):
    (tmp_path / '.lock').touch()
    start_other(tmp_path, shared=True)
    lock_folder(tmp_path, 'pred_path', shared=True)
    with pytest.raises(InputError):
        lock_folder(tmp_path, 'pred_path')


def test_a_process_may_lock_a_folder_several_times(tmp_path):
    (tmp_path / 'pred').mkdir()
    (tmp_path / 'pred/.lock').touch()
    (tmp_path / 'link').symlink_to(tmp_path / 'pred')
    lock_folder(tmp_path / 'pred', 'pred_path', shared=True)
    lock_folder(tmp_path / 'link', 'crf_path')
    lock_folder(tmp_path / 'pred/../pred', 'pred_path', shared=True)  # The lock stays exclusive.
    call = f'lock_folder({str(tmp_path / "pred")!r}, "pred_path", shared=True)'
    code = f'from utilities.base.folder_lock import lock_folder; {call}'
    assert 'at work' in subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True).stderr


def test_partial_files_of_killed_runs_are_removed_and_nothing_else(tmp_path):
    other_files = [
        tmp_path / name
        for name in ('volume-1.nii', '.part-of-my-thesis', 'seg/part-1-a', 'other/.part-7-a.nii', 'other/.lock')
    ]
    partial_files = [tmp_path / name for name in ('.part-12-a.nii', 'ct/.part-7-volume 1.nii', 'ct/.part-7-a\nb')]
    for path in other_files + partial_files:
        path.parent.mkdir(exist_ok=True)
        path.write_text('x')
    (tmp_path / '.lock').touch()
    lock_folder(tmp_path, 'pred_path', shared=True)
    assert all(path.exists() for path in other_files + partial_files)
    lock_folder(tmp_path, 'pred_path')
    assert all(path.exists() for path in other_files) and not any(path.exists() for path in partial_files)


def test_a_shared_lock_creates_no_file(tmp_path):
    (tmp_path / 'file').touch()
    lock_folder(tmp_path, 'pred_path', shared=True)
    lock_folder(tmp_path / 'missing', 'pred_path', shared=True)
    lock_folder(tmp_path / 'file', 'pred_path', shared=True)
    assert [p.name for p in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('name, reason', [('file', 'exists'), ('file/deeper', 'directory'), ('x' * 300, 'too long')])
def test_a_folder_that_cannot_be_created_is_named_with_its_parameter(tmp_path, name, reason):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=reason) as error:
        lock_folder(tmp_path / name, 'pred_path')
    assert 'set pred_path' in str(error.value)


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, 'no locks')

    monkeypatch.setattr(fcntl, 'flock', flock)
    (tmp_path / '.part-1-a').touch()
    lock_folder(tmp_path, 'pred_path')
    assert capsys.readouterr().err.count('\n') == 1
    assert (tmp_path / '.part-1-a').exists()  # It may belong to a run that is still at work.
