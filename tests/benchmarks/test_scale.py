"""The simulation against schedules made with a pencil."""

import re
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.scale import FIRST, Cluster, expected, limit, simulate, sizes, stages, table

IDEAL = Cluster(bandwidth=inf, slow_share=0, lost_after=inf, start=0)


def run(seconds, workers, cluster=IDEAL, read=0, written=0, seed=0):
    return simulate(seconds, [read] * len(seconds), [written] * len(seconds), workers, cluster, seed)


def results():
    """As benchmarks/results.json, round figures: prepare 1 s and 1 ms a slice, CRF 2 s and 10 ms, a window 4 s."""
    first = {'stage': FIRST, 'look_s': 1e-3, 'dask_s': 5e-3, 'rank_s': 1e-3, 'table_s': 1e-3}
    return {
        'rows': [
            {'stage': scale.PREPARE, 'case_s': 1, 'slice_s': 1e-3},
            {'stage': scale.CRF, 'case_s': 2, 'slice_s': 1e-2},
            {'stage': scale.WINDOW, 'ours_s': 4},
            {'stage': scale.AROUND, 'ours_s': 10},
            first,
        ]
    }


def test_one_worker_takes_the_sum():
    assert run([3, 1, 4, 1, 5], 1) == 14


def test_as_many_workers_as_cases_take_the_largest_case():
    assert run([3, 1, 4, 1, 5], 5) == run([3, 1, 4, 1, 5], 9) == 5


def test_the_largest_case_goes_first():
    """5 + 1 + 1 beside 4 + 3; 3 beside 1 + 1 + 1, where the order given would end at 4."""
    assert run([3, 1, 4, 1, 5], 2) == 7
    assert run([1, 1, 1, 3], 2) == 3


def test_bandwidth():
    """10 cases that read 200 and write 100 bytes at 50 bytes/s keep the storage busy for 60 s, however many workers there are."""
    slow = replace(IDEAL, bandwidth=50)
    assert run([0] * 10, 10, slow, 200, 100) == 60
    # one worker waits for each: 10 x (4 + 1 + 2)
    assert run([1] * 10, 1, slow, 200, 100) == 70


def test_requests_queue_at_the_storage():
    """Two workers, reading 2 s and writing 1 s each: read 0-2 and 2-4, work 2-5 and 4-7, write 5-6 and 7-8."""
    assert run([3, 3], 2, replace(IDEAL, bandwidth=1), 2, 1) == 8


def test_first_process():
    """3 s to start, 4 looks of 1 s, hand out at 7.5, 8, 8.5 and 9, the last works till 19; 4 rows of 0.25 s."""
    assert run([10] * 4, 4, replace(IDEAL, start=3, look=1, hand=0.5, tables=0.25)) == 20
    # handed out at 2 and 4; the first asks again at 5, is served till 7, and ends at 10
    assert run([3, 3, 3], 2, replace(IDEAL, hand=2)) == 10


def test_slow_cases():
    assert run([1, 2], 1, replace(IDEAL, slow_share=1, slow_factor=3)) == 9
    mean = np.mean([run([1] * 1000, 1, replace(IDEAL, slow_share=0.05), seed=seed) for seed in range(20)])
    assert mean == pytest.approx(1100, rel=0.02)


def test_the_case_of_a_lost_worker_is_done_again(monkeypatch):
    """Lives of 0.5 s and then of 100: lost at 0.5 h, noticed a minute later, with another worker a minute after that, for an hour."""

    class Lives:
        lives = iter([0.5, 100])

        def exponential(self, mean):
            return next(self.lives)

        def random(self):
            return 1

    monkeypatch.setattr(scale.np.random, 'default_rng', lambda seed: Lives())
    assert run([3600], 1, replace(IDEAL, notice=60, back=120)) == 1800 + 120 + 3600
    # and where another worker waits for work, it takes the case as soon as the loss is noticed
    Lives.lives = iter([0.5, 100])
    assert run([3600], 2, replace(IDEAL, notice=60, back=120)) == 1800 + 60 + 3600


def test_losses_cost_what_they_do_in_the_mean():
    """Cases of an hour, a worker that lives an hour in the mean, losses noticed at once: e - 1 hours a case."""
    hours = [
        run([3600] * 200, 1, replace(IDEAL, lost_after=1, notice=0, back=0), seed=seed) / 3600 / 200
        for seed in range(20)
    ]
    assert np.mean(hours) == pytest.approx(np.e - 1, rel=0.05)


def test_more_workers_are_never_slower():
    stage, cluster = stages(results())['3D CRF, one core a worker']
    for cts in (131, 1000):
        seconds = [expected(stage, cts, workers, cluster) for workers in (1, 2, 4, 16, 64, 256)]
        assert all(after <= 1.01 * before for before, after in zip(seconds, seconds[1:]))


def test_equal_pieces_take_what_they_are_cut_from():
    """10 s and 200 bytes at 50 bytes/s on one worker: 14 s; in 7 pieces on 7 workers the work is a seventh, the storage's the same."""

    def stage(slices):
        return 10 + 0 * slices, 200 + 0 * slices, 0 * slices

    slow = replace(IDEAL, bandwidth=50)
    assert expected(stage, 1, 1, slow) == expected(stage, 1, 1, slow, 7) == pytest.approx(14)
    assert expected(stage, 1, 7, slow, 7) == pytest.approx(4 + 10 / 7)


@pytest.mark.parametrize(
    'changed, name',
    [
        (dict(bandwidth=1e6), 'storage'),
        (dict(hand=5), 'first process'),
        ({}, 'largest case'),
        (dict(slow_share=0.3, slow_factor=50), 'slow or lost workers'),
    ],
)
def test_names_what_a_run_is_limited_by(changed, name):
    def stage(slices):
        return slices / 100, 0 * slices + 1e6, 0 * slices

    assert limit(stage, 200, 400 if name == 'largest case' else 20, replace(IDEAL, **changed)) == name


def test_sizes_are_those_of_lits():
    drawn = sizes(100_000, 0)
    assert drawn.min() >= 42 and drawn.max() <= 1026 and drawn.max() > 1000
    assert drawn.mean() == pytest.approx(448, abs=3) and drawn.std() == pytest.approx(250, abs=3)


def test_stages_take_their_seconds_and_bytes_from_what_was_measured():
    """100 slices of 1 mm: windows at 0, 12, 24, 36, 48 and 52; 0.25 MB a slice of a mask, and twice that of a CT."""
    slices, pixels = np.array([100.0]), 512 * 512
    (prepare, of_dask), (predict, of_ranks), (crf, _) = stages(results()).values()
    for stage, seconds, read, written in (
        (prepare, 1.1, 3 * pixels * 100, 240 * pixels * 1.5),
        (predict, 6 * 4 + 100 * 0.01, 3 * pixels * 100, pixels * 100),
        (crf, 3, 4 * pixels * 100, pixels * 100),
    ):
        assert [*map(float, np.ravel(stage(slices)))] == pytest.approx([seconds, read, written])
    assert (of_dask.hand, of_ranks.hand) == (5e-3, 1e-3) and of_dask.look == pytest.approx(1e-3 + 3 * 5e-3 / 8)


def test_the_table_is_whole_and_says_that_it_is_simulated(monkeypatch):
    """131 predictions of (35 windows + 4.5 s) x 1.1; the largest, of 82 windows and 10 s, alone or three times as long."""
    monkeypatch.setattr(scale, 'CTS', (131,))
    monkeypatch.setattr(scale, 'WORKERS', (1, 256))
    head, line, *rows = table(results()).splitlines()
    assert 'simulated' in head and {row.count('|') for row in (head, line, *rows[:3])} == {5}
    minutes = re.fullmatch(r'\| prediction, two cores a worker \| 131 \| 6 h \| (\d+) min, largest case \|', rows[1])[1]
    assert 338 / 60 < int(minutes) < 3 * 338 / 60
    assert 'nothing of it was run on more than one machine' in ' '.join(rows).replace('\n', ' ')
