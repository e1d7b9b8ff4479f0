"""Scripts: one line for an error that the user can correct, signals, exit status, the last lines."""

import errno
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT
from utilities.base.errors import InputError
from utilities.run import script

PROGRAM = """
import errno, os, signal, sys, time
from utilities.base.errors import InputError
from utilities.run.script import run_script

def main(para):
    {statement}

run_script(main, 'doc')
"""


def run_program(statement, before=''):
    """Run a script whose main() is this statement; returns the completed process."""
    code = before + PROGRAM.format(statement=statement)
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_an_error_is_one_line_and_status_1():
    done = run_program(r'raise InputError("two\nlines \udcff")')
    assert (done.returncode, done.stderr) == (1, 'error: two\\nlines \\udcff\n')
    done = run_program('raise OSError(errno.EACCES, "Permission denied", "data/train/seg/a/b")')
    line = 'error: data/train/seg/a/b: Permission denied; see train_seg_path\n'
    assert (done.returncode, done.stderr) == (1, line)


def test_a_fault_of_the_program_keeps_its_traceback():
    done = run_program('raise RuntimeError("a fault")')
    assert done.returncode == 1 and 'Traceback' in done.stderr and 'RuntimeError: a fault' in done.stderr


PARA = SimpleNamespace(pred_path='./pred/', train_ct_path='data', train_seg_path='data/seg', crf_path='', size=48)


@pytest.mark.parametrize(
    'error, message',
    [
        (InputError('wrong'), 'wrong'),
        (
            OSError(errno.ENOSPC, 'No space left', './pred/.part-12-7-pred-1.nii'),
            'pred/pred-1.nii: No space left; free some space, or set pred_path to a folder on another disk',
        ),
        (
            OSError(errno.EACCES, 'Permission denied', 'data/seg/a/b'),
            'data/seg/a/b: Permission denied; see train_seg_path',
        ),
        (OSError(errno.ENOSPC, 'No space left', '/elsewhere/a'), '/elsewhere/a: No space left'),
        (OSError(errno.ENOSPC, 'No space left', b'/elsewhere/a'), '/elsewhere/a: No space left'),
        (OSError(errno.ENOSPC, 'No space left'), 'No space left'),
        (OSError('no number'), 'no number'),
        (MemoryError('3 TB'), 'out of memory: 3 TB'),
        (MemoryError(), 'out of memory'),
        (RuntimeError('a fault'), None),
        (ValueError('a fault'), None),
    ],
)
def test_errors_are_described(error, message):
    assert script.describe_error(error, PARA) == message


def test_memory_of_the_gpu_is_described():
    message = script.describe_error(RuntimeError('CUDA out of memory'), PARA)
    assert all(name in message for name in ('batch_size', 'window_batch', 'size', 'down_scale', 'checkpointing', 'gpu'))


def test_a_file_name_that_is_no_text_can_be_printed():
    done = run_program(r'print("\udcff \u2603")')
    assert (done.returncode, done.stderr) == (0, '') and done.stdout.startswith(r'\udcff')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_a_script_with_one_line(number):
    done = run_program(f'os.kill(os.getpid(), {int(number)}); time.sleep(20)')
    assert (done.returncode, done.stderr) == (128 + number, f'stopped by {number.name}; what is finished is kept\n')


def test_sighup_stays_ignored_under_nohup():
    ignore = 'import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n'
    done = run_program('os.kill(os.getpid(), signal.SIGHUP)', before=ignore)
    assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize(
    'written, failures, status, lines',
    [
        (1, [], 0, ['1 case written to out', 'next: python val.py --size=8']),
        (
            2,
            [('volume-3', 'no\nliver')],
            1,
            ['2 cases written to out', 'failed: volume-3: no\\nliver', 'next: python val.py --size=8'],
        ),
        (0, [('volume-3', 'no liver')], 1, ['failed: volume-3: no liver']),
        (0, [], 1, []),
    ],
)
def test_the_last_lines(monkeypatch, capsys, written, failures, status, lines):
    monkeypatch.setattr(sys, 'argv', ['get_training_set.py', '--size=8'])
    assert script.report_results(written, failures, 'out', 'python val.py') == status
    assert capsys.readouterr().out.splitlines() == lines


def test_a_process_of_torchrun_runs_only_what_is_meant_for_it():
    environment = {**os.environ, 'RANK': '0', 'WORLD_SIZE': '2'}
    code = PROGRAM.format(statement='pass')
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1 and done.stderr.startswith('error: torchrun is for train_ds.py and val.py')
