"""Steps over cases: order, failures, checks, what is done, and that no more cases are under way than there are steps."""
import errno
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from utilities import cases
from utilities.errors import InputError

FIVE = [SimpleNamespace(name=f'volume-{n}', number=n) for n in range(5)]


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
    results, failures = cases.run([load, double, lambda case, number: (case.name, number)], FIVE, 'test', overlap)
    assert results == [('volume-0', 0), ('volume-2', 4), ('volume-4', 8)]
    assert failures == [('volume-1', 'unreadable'), ('volume-3', "KeyError: 'a fault of ours'")]
    assert 'volume-1: unreadable' in capsys.readouterr().err


@pytest.mark.parametrize('overlap', [False, True])
def test_out_of_memory_ends_the_run(overlap):
    def greedy(case, number):
        raise RuntimeError('CUDA out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        cases.run([lambda case: case.number, greedy], FIVE, 'test', overlap)


def test_steps_overlap_and_stay_bounded():
    """The first step of a case must wait for the case three before it to be through; a step never runs twice at once."""
    under_way, most, running = set(), [0], [threading.Lock(), threading.Lock(), threading.Lock()]

    def step(number):
        def work(case, _=None):
            assert running[number].acquire(blocking=False)
            if number == 0:
                under_way.add(case.number)
                most[0] = max(most[0], len(under_way))
            time.sleep(0.02)
            if number == 2:
                under_way.discard(case.number)
            running[number].release()
            return case.number
        return work

    results, failures = cases.run([step(0), step(1), step(2)], FIVE, 'test', overlap=True)
    assert (results, failures) == ([0, 1, 2, 3, 4], [])
    assert 2 <= most[0] <= 4


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

    results, failures = cases.run(step, FIVE, 'test', check=check)
    assert order == [f'check {n}' for n in range(5)] + [f'step {n}' for n in range(3)]
    assert results == [0, 1] and failures == [('volume-2', 'NaN'), ('volume-3', 'no label'), ('volume-4', '[Errno 13] not yours')]
    assert 'warning: volume-1: odd\\nspacing' in capsys.readouterr().err


@pytest.mark.parametrize('overlap', [False, True])
def test_what_is_done_takes_no_step_and_keeps_its_place(overlap, capsys):
    def done(case):
        if case.number == 0:
            raise OSError('record cannot be read')
        return {1: 'old 1', 3: 'old 3'}.get(case.number)

    results, failures = cases.run(lambda case: f'new {case.number}', FIVE, 'test', overlap, done=done)
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
        cases.run([lambda case: case.number, write], FIVE, 'test', overlap)
    assert written[0] == 0 and 4 not in written


def test_a_run_that_is_stopped_waits_for_no_step():
    """As when a signal comes: what the main thread raises must come through while a step is at work."""
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
            cases.run([step, lambda case, result: result], FIVE, 'test', overlap=True)
        assert time.monotonic() - start < 5
    finally:
        release.set()
        signal.signal(signal.SIGALRM, before)


def test_report_is_one_line_a_failure(capsys):
    assert cases.report(1, [('volume-\n1', 'two\nlines \udcff')], 'pred', 'python next.py') == 1
    assert capsys.readouterr().out.splitlines()[1] == 'failed: volume-\\n1: two\\nlines \\udcff'
    assert cases.report(1, [], 'pred', 'python next.py') == 0 and cases.report(0, [], 'pred', 'python next.py') == 1
