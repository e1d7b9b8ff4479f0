"""Cases taken through steps: order, failures, checks, earlier results, and how many cases run at once."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT, running
from utilities.base import folder_lock
from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.run import run_cases, script, steps
from utilities.run.manifest import Manifest

FIVE = [SimpleNamespace(name=f'volume-{n}', number=n, voxels=n) for n in range(5)]
TWO = run_cases.Workers(2, '', 1)


def load(case):
    if case.number == 1:
        raise InputError('unreadable')
    return case.number


def double(case, number):
    if case.number == 3:
        raise KeyError('a fault of ours')
    return 2 * number


@pytest.mark.parametrize('overlap', [False, True])
def test_a_failing_step_stops_no_other_case(overlap, capsys):
    results, failures = run_cases.run_cases(
        [load, double, lambda case, number: (case.name, number)], FIVE, 'test', overlap
    )
    assert results == [('volume-0', 0), ('volume-2', 4), ('volume-4', 8)]
    assert failures == [('volume-1', 'unreadable'), ('volume-3', "KeyError: 'a fault of ours'")]
    assert 'volume-1: unreadable' in capsys.readouterr().err


@pytest.mark.parametrize('overlap', [False, True])
def test_out_of_memory_ends_the_run(overlap):
    def use_too_much_memory(case, number):
        raise RuntimeError('CUDA out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        run_cases.run_cases([lambda case: case.number, use_too_much_memory], FIVE, 'test', overlap)


def test_steps_overlap_for_at_most_as_many_cases_as_steps():
    """A case starts only when the case three before it has ended; a step never runs twice at the same time."""
    in_flight, max_in_flight, step_locks = set(), [0], [threading.Lock() for _ in range(3)]

    def step(number):
        def work(case, _=None):
            assert step_locks[number].acquire(blocking=False)
            if number == 0:
                in_flight.add(case.number)
                max_in_flight[0] = max(max_in_flight[0], len(in_flight))
            time.sleep(0.02)
            if number == 2:
                in_flight.discard(case.number)
            step_locks[number].release()
            return case.number

        return work

    results, failures = run_cases.run_cases([step(0), step(1), step(2)], FIVE, 'test', overlap=True)
    assert (results, failures) == ([0, 1, 2, 3, 4], [])
    assert 2 <= max_in_flight[0] <= 4


def test_all_cases_are_checked_first_and_one_that_fails_takes_no_step(capsys):
    order = []

    def check(case):
        order.append(f'check {case.number}')
        if case.number == 3:
            raise InputError('no label')
        if case.number == 4:
            raise PermissionError(errno.EACCES, 'not yours')
        return ['odd\nspacing'] if case.number == 1 else []

    def step(case):
        order.append(f'step {case.number}')
        if case.number == 2:
            raise InputError('NaN')
        return case.number

    results, failures = run_cases.run_cases(step, FIVE, 'test', check_case=check)
    assert sorted(order[:5]) == [f'check {n}' for n in range(5)] and order[5:] == [f'step {n}' for n in range(3)]
    assert results == [0, 1] and failures == [
        ('volume-2', 'NaN'),
        ('volume-3', 'no label'),
        ('volume-4', '[Errno 13] not yours'),
    ]
    assert 'warning: volume-1: odd\\nspacing' in capsys.readouterr().err


@pytest.mark.parametrize('overlap', [False, True])
def test_a_case_with_an_earlier_result_takes_no_step_and_keeps_its_position(overlap, capsys):
    def find_result(case):
        if case.number == 0:
            raise OSError('record cannot be read')
        return {1: 'old 1', 3: 'old 3'}.get(case.number)

    results, failures = run_cases.run_cases(
        lambda case: f'new {case.number}', FIVE, 'test', overlap, find_result=find_result
    )
    assert results == ['old 1', 'new 2', 'old 3', 'new 4'] and failures == [('volume-0', 'record cannot be read')]
    assert 'test: 2 of 5 cases were done before' in capsys.readouterr().out


@pytest.mark.parametrize('overlap', [False, True])
@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_ends_the_run(overlap, number):
    def write(case, _):
        if case.number == 1:
            raise OSError(number, 'no room', f'pred-{case.number}.nii')
        return written.append(case.number)

    written = []
    with pytest.raises(OSError, match='pred-1.nii'):
        run_cases.run_cases([lambda case: case.number, write], FIVE, 'test', overlap)
    assert written[0] == 0 and 4 not in written


def test_a_run_that_is_stopped_waits_for_no_step():
    """An exception in the main thread, as a signal raises it, ends the run although a step is still running."""
    release = threading.Event()

    def step(case):
        release.wait(20)

    class Stopped(BaseException):
        pass

    def interrupt(*_):
        raise Stopped

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    start = time.monotonic()
    try:
        with pytest.raises(Stopped):
            run_cases.run_cases([step, lambda case, result: result], FIVE, 'test', overlap=True)
        assert time.monotonic() - start < 5
    finally:
        release.set()
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def machine(monkeypatch):
    """machine(cores, free) sets the cores and the free memory in bytes; even small cases are worth a process."""

    def set_machine(cores=2, free=1e15):
        monkeypatch.setattr(run_cases, 'MIN_VOXELS_PER_WORKER', 1)
        monkeypatch.setattr(run_cases.machine, 'cores', lambda: cores)
        monkeypatch.setattr(run_cases.machine, 'free_memory', lambda: free)

    set_machine()
    return set_machine


def running_workers():
    """Return the commands of the worker processes of this process; loky's two helper processes are left out."""
    return [command for command in running('--ppid', str(os.getpid())).values() if 'popen_loky' in command]


def test_warnings_of_the_checks_come_in_the_order_of_the_cases(capsys):
    def check(case):
        time.sleep(0.05 * (5 - case.number))  # The last case is ready first.
        return [f'odd {case.number}']

    run_cases.run_cases(lambda case: 1, FIVE, 'test', check_case=check)
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines() if 'odd' in line] == list('01234')


def test_processes_give_what_one_process_gives(machine, capsys, tmp_path):
    """Results and failures are in order, workers' records are logged whole, and on_result gets every result."""
    main_process, on_result_calls = os.getpid(), []

    def step(case):
        log.info(f'at work on {case.name}')
        if case.number == 1:
            raise InputError('unreadable')
        if case.number == 3:
            raise KeyError('a fault of ours')
        return case.number, os.getpid() != main_process

    results, failures = run_cases.run_cases(
        step, FIVE, 'test', on_result=lambda case, result: on_result_calls.append((case.number, result)), workers=TWO
    )
    assert results == [(0, True), (2, True), (4, True)]
    assert failures == [('volume-1', 'unreadable'), ('volume-3', "KeyError: 'a fault of ours'")]
    assert sorted(on_result_calls) == [(n, (n, True)) for n in (0, 2, 4)]
    out, err = capsys.readouterr()
    assert sorted(line for line in out.splitlines() if 'at work' in line) == [
        f'at work on volume-{n}' for n in range(5)
    ]
    assert 'test: 2 processes (num_workers 2, 2 cores)' in out and err.count('Traceback') == 1 and 'in step' in err
    assert not running_workers()


def test_the_largest_case_comes_first_and_no_more_run_than_processes(machine, tmp_path):
    def step(case):
        (tmp_path / f'{case.number} running').touch()
        at_once = len(list(tmp_path.glob('* running')))
        time.sleep(0.1)
        (tmp_path / f'{case.number} running').unlink()
        return at_once, time.monotonic()

    machine(cores=3)
    results, _ = run_cases.run_cases(step, FIVE, 'test', workers=run_cases.Workers(3, '', 1))
    assert max(at_once for at_once, _ in results) == 3
    ends = [end for _, end in results]
    assert max(ends[2:]) < min(ends[:2])  # 4, 3 and 2 voxels before 1 and 0


@pytest.mark.parametrize(
    'number, cores, free, wanted, line',
    [
        (8, 3, 1e15, 3, '3 processes (num_workers 8, 3 cores)'),
        (2, 16, 1e15, 2, '2 processes (num_workers 2, 16 cores)'),
        (9, 16, 1e15, 5, '5 processes (num_workers 9, 16 cores)'),
        # 5 cases of 100, 80, 60, 40 and 20 bytes beside 10 of each process: 110, 200, 270, 320, 350
        (9, 16, 330, 4, '4 processes (num_workers 9, 16 cores; '),
        (9, 16, 199, 1, '1 process (num_workers 9, 16 cores; '),
        (9, 16, 109, 0, 'warning: test: one case at a time, '),
    ],
)
def test_as_many_processes_as_cores_and_memory_allow(machine, monkeypatch, capsys, number, cores, free, wanted, line):
    machine(cores, free)
    monkeypatch.setattr(run_cases, 'WORKER_BYTES', 10)
    assert run_cases.count_processes(number, [110, 90, 70, 50, 30], 5, 'test') == wanted
    assert line in ''.join(capsys.readouterr())


def test_the_log_gives_memory_in_gigabytes(machine, capsys):
    machine(free=3.14e9)
    assert run_cases.count_processes(2, [2e9, 1.5e9], 1e12, 'test') == 1
    assert (
        capsys.readouterr().out
        == 'test: 1 process (num_workers 2, 2 cores; 3.5 GB for the largest cases of 3.1 GB free)\n'
    )


def test_a_small_job_starts_no_process(machine, monkeypatch, capsys):
    monkeypatch.setattr(run_cases, 'MIN_VOXELS_PER_WORKER', 11)  # The cases have 0 + 1 + 2 + 3 + 4 = 10 voxels.
    assert run_cases.run_cases(lambda case: os.getpid(), FIVE, 'test', workers=TWO)[0] == [os.getpid()] * 5
    monkeypatch.setattr(run_cases, 'MIN_VOXELS_PER_WORKER', 10)
    assert os.getpid() not in run_cases.run_cases(lambda case: os.getpid(), FIVE, 'test', workers=TWO)[0]


@pytest.mark.parametrize('times_killed, error', [(1, None), (9, steps.KILLED)])
def test_cases_of_a_killed_process_are_done_again(machine, capsys, tmp_path, times_killed, error):
    """Each is repeated alone. Only the one that kills its process again fails, and its partial file is removed."""
    attempts = tmp_path / 'attempts'
    folder_lock.lock_folder(tmp_path / 'out', 'pred_path')

    def step(case):
        from utilities.base.atomic_write import atomic_write

        if case.number == 3:
            with open(attempts, 'a') as file:
                file.write('x')
            with atomic_write(tmp_path / 'out' / case.name) as part:
                part.write_text('half')
                if len(attempts.read_text()) <= times_killed:
                    os.kill(os.getpid(), signal.SIGKILL)
        return case.number

    results, failures = run_cases.run_cases(step, FIVE, 'test', workers=TWO)
    assert failures == ([('volume-3', error)] if error else [])
    assert results == [n for n in range(5) if n != 3 or not error]
    err = capsys.readouterr().err
    assert err.count('was killed, out of memory perhaps; going on with 1') == 1 and 'volume-3' in err
    assert len(attempts.read_text()) == 2
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['.lock'] + ['volume-3'] * (not error)


def test_a_case_that_a_killed_process_finished_is_not_repeated(machine, tmp_path):
    def find_result(case):
        made = tmp_path / case.name
        return made.read_text() if made.exists() else None

    def step(case):
        assert not (tmp_path / case.name).exists()
        (tmp_path / case.name).write_text(f'made {case.number}')
        if case.number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return f'made {case.number}'

    assert run_cases.run_cases(step, FIVE, 'test', find_result=find_result, workers=TWO) == (
        [f'made {n}' for n in range(5)],
        [],
    )


def test_a_worker_records_the_inputs_as_they_were_before_the_case(machine, tmp_path):
    """The worker does not get the fingerprints that the main process took of the other cases."""
    for case in FIVE:
        (tmp_path / case.name).write_text('old')
    manifest = Manifest(tmp_path / 'out', {}, 'pred_path')

    def find_result(case):
        return manifest.find_finished(case.name, [tmp_path / case.name])

    def make(case):
        assert list(manifest.inputs_before) == [case.name]
        (tmp_path / case.name).write_text('changed meanwhile')
        return manifest.finish_case(case.name, [tmp_path / case.name], [])

    results, failures = run_cases.run_cases(make, FIVE, 'test', find_result=find_result, workers=TWO)
    assert not failures and [record['inputs'][0][1] for record in results] == [3] * 5  # bytes of 'old'


@pytest.mark.parametrize(
    'error, message',
    [
        (OSError(errno.ENOSPC, 'no room', 'pred-2.nii'), 'pred-2.nii'),
        (RuntimeError('CUDA out of memory'), 'out of memory'),
    ],
)
def test_an_error_that_ends_the_run_does_so_from_a_worker_too(machine, error, message):
    def step(case):
        if case.number == 2:
            raise error
        time.sleep(0.2)
        return case.number

    with pytest.raises(type(error), match=message):
        run_cases.run_cases(step, FIVE, 'test', workers=TWO)
    assert not running_workers()


def test_a_result_that_cannot_be_pickled_is_a_failure_of_its_case(machine, capsys):
    results, failures = run_cases.run_cases(
        lambda case: threading.Lock() if case.number == 2 else case.number, FIVE, 'test', workers=TWO
    )
    assert results == [0, 1, 3, 4] and [name for name, _ in failures] == ['volume-2']


def test_workers_share_the_cores(machine):
    machine(cores=6)

    def step(case):
        from utilities.base.machine import threads

        return threads()

    assert run_cases.run_cases(step, FIVE, 'test', workers=TWO)[0] == [3] * 5


RUN = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from utilities.run import run_cases
from utilities.run.script import run_script
from utilities.base.folder_lock import lock_folder
from utilities.base.atomic_write import atomic_write

def main(para):
    lock_folder('pred', 'pred_path')
    def write(case):
        with atomic_write(Path('pred') / case.name) as part:
            part.write_text('half')
            time.sleep(0 if case.name == '0' else 60)
    run_cases.MIN_VOXELS_PER_WORKER = 1
    cases = [SimpleNamespace(name=str(n), voxels=9 - n) for n in range(4)]
    run_cases.run_cases(write, cases, 'test', workers=run_cases.Workers(2, '', 1))

sys.argv = ['test']
run_script(main, '')
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_run_ends_with_its_processes(tmp_path, number):
    """SIGINT is sent to all processes, as by Ctrl-C; the other signals to the main process alone."""
    run = subprocess.Popen(
        [sys.executable, '-c', RUN],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    end = time.monotonic() + 30
    while len(list(tmp_path.glob('pred/.part-*'))) < 2 or not (tmp_path / 'pred/0').exists():
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)
    start = time.monotonic()
    _, err = run.communicate(timeout=10)  # It returns when no process has the pipes open.
    assert time.monotonic() - start < 2
    while running('-s', str(run.pid)):
        assert time.monotonic() - start < 2
    assert run.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert [line for line in err.splitlines() if ' left' not in line] == [
            f'stopped by {number.name}; what is finished is kept'
        ]
        assert sorted(path.name for path in (tmp_path / 'pred').iterdir()) == ['.lock', '0']


def test_the_report_has_one_line_for_each_failure(capsys):
    assert script.report_results(1, [('volume-\n1', 'two\nlines \udcff')], 'pred', 'python next.py') == 1
    assert capsys.readouterr().out.splitlines()[1] == 'failed: volume-\\n1: two\\nlines \\udcff'
    assert script.report_results(1, [], 'pred', 'python next.py') == 0
    assert script.report_results(0, [], 'pred', 'python next.py') == 1
