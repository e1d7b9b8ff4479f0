"""Steps over cases: order, failures, and that no more cases are under way than there are steps."""
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
