"""One writer a folder: against other processes, forks and folders that cannot be locked."""

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

HOLD = """
import sys, time
from utilities.base.folder_lock import lock_folder
lock_folder(sys.argv[1], "pred_path", {shared})
print("held", flush=True)
{then}
"""


@pytest.fixture(autouse=True)
def lets_go():
    before = set(held_locks)
    yield
    for key in set(held_locks) - before:
        os.close(held_locks.pop(key)[0])


@pytest.fixture
def other():
    """other(folder, shared, then) starts a process that claims the folder; returns it when it holds the lock."""
    started = []

    def start(folder, shared=False, then='time.sleep(60)'):
        command = [sys.executable, '-c', HOLD.format(shared=shared, then=then), str(folder)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == 'held\n'
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_second_run_is_told_who_is_at_work(tmp_path, other):
    process = other(tmp_path / 'pred')
    with pytest.raises(InputError) as told:
        lock_folder(tmp_path / 'pred', 'pred_path')
    assert all(
        word in str(told.value)
        for word in (str(tmp_path / 'pred'), 'pred_path', f'process {process.pid} on {os.uname().nodename}')
    )
    with pytest.raises(InputError):
        lock_folder(tmp_path / 'pred', 'pred_path', shared=True)


def test_a_killed_run_holds_nothing(tmp_path, other):
    process = other(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lock_folder(tmp_path, 'pred_path')


def test_a_worker_that_outlives_its_killed_run_holds_nothing(tmp_path, other):
    process = other(tmp_path, then='import os; child = os.fork(); child and print(child, flush=True); time.sleep(60)')
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    os.kill(worker, 0)  # it lives
    try:
        time.sleep(0.1)
        lock_folder(tmp_path, 'pred_path')
    finally:
        os.kill(worker, signal.SIGKILL)


def test_readers_share_and_keep_writers_out(tmp_path, other):
    (tmp_path / '.lock').touch()
    other(tmp_path, shared=True)
    lock_folder(tmp_path, 'pred_path', shared=True)
    with pytest.raises(InputError):
        lock_folder(tmp_path, 'pred_path')


def test_claims_of_one_process_do_not_shut_each_other_out(tmp_path):
    (tmp_path / 'pred').mkdir()
    (tmp_path / 'pred/.lock').touch()
    (tmp_path / 'link').symlink_to(tmp_path / 'pred')
    lock_folder(tmp_path / 'pred', 'pred_path', shared=True)
    lock_folder(tmp_path / 'link', 'crf_path')
    lock_folder(tmp_path / 'pred/../pred', 'pred_path', shared=True)  # and what is exclusive stays so
    call = f'lock_folder({str(tmp_path / "pred")!r}, "pred_path", shared=True)'
    code = f'from utilities.base.folder_lock import lock_folder; {call}'
    assert 'at work' in subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True).stderr


def test_leftovers_of_killed_runs_are_removed_and_nothing_else(tmp_path):
    kept = [
        tmp_path / name
        for name in ('volume-1.nii', '.part-of-my-thesis', 'seg/part-1-a', 'other/.part-7-a.nii', 'other/.lock')
    ]
    gone = [tmp_path / name for name in ('.part-12-a.nii', 'ct/.part-7-volume 1.nii', 'ct/.part-7-a\nb')]
    for path in kept + gone:
        path.parent.mkdir(exist_ok=True)
        path.write_text('x')
    (tmp_path / '.lock').touch()
    lock_folder(tmp_path, 'pred_path', shared=True)
    assert all(path.exists() for path in kept + gone)
    lock_folder(tmp_path, 'pred_path')
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)


def test_a_shared_claim_makes_nothing(tmp_path):
    (tmp_path / 'file').touch()
    lock_folder(tmp_path, 'pred_path', shared=True)
    lock_folder(tmp_path / 'missing', 'pred_path', shared=True)
    lock_folder(tmp_path / 'file', 'pred_path', shared=True)
    assert [p.name for p in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('place, wanted', [('file', 'exists'), ('file/deeper', 'directory'), ('x' * 300, 'too long')])
def test_a_place_where_no_folder_can_be_is_named_with_its_parameter(tmp_path, place, wanted):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=wanted) as told:
        lock_folder(tmp_path / place, 'pred_path')
    assert 'set pred_path' in str(told.value)


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, 'no locks')

    monkeypatch.setattr(fcntl, 'flock', flock)
    (tmp_path / '.part-1-a').touch()
    lock_folder(tmp_path, 'pred_path')
    assert capsys.readouterr().err.count('\n') == 1
    assert (tmp_path / '.part-1-a').exists()  # whose it is we cannot know
