"""The simulation agrees with schedules that are worked out by hand."""

import re
from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.scale import (
    MAIN_PROCESS,
    Cluster,
    SimulatedStage,
    StageFactory,
    draw_sizes,
    find_bottleneck,
    median_seconds,
    simulate,
    table,
)

IDEAL = Cluster(bandwidth=inf, slow_share=0, hours_to_loss=inf, start_seconds=0)


def run(
    seconds: Sequence[float],
    workers: int,
    cluster: Cluster = IDEAL,
    read: float = 0,
    written: float = 0,
    seed: int = 0,
) -> float:
    """Simulate cases that all read and write the same number of bytes."""
    return simulate((seconds, [read] * len(seconds), [written] * len(seconds)), workers, cluster, seed)


def make_results() -> dict:
    """Return round figures in the form of results.json.

    Training set 1 s and 1 ms for each slice, CRF 2 s and 10 ms for each slice, a window 4 s.
    """
    return {
        'rows': [
            {'stage': scale.PREPARE, 'case_s': 1, 'slice_s': 1e-3},
            {'stage': scale.CRF, 'case_s': 2, 'slice_s': 1e-2},
            {'stage': scale.WINDOW, 'ours_s': 4},
            {'stage': scale.WITHOUT_NETWORK, 'ours_s': 10},
            {'stage': MAIN_PROCESS, 'look_s': 1e-3, 'dask_s': 5e-3, 'rank_s': 1e-3, 'table_s': 1e-3},
        ]
    }


def test_one_worker_takes_the_sum():
    assert run([3, 1, 4, 1, 5], 1) == 14


def test_as_many_workers_as_cases_take_the_largest_case():
    assert run([3, 1, 4, 1, 5], 5) == run([3, 1, 4, 1, 5], 9) == 5


def test_the_largest_case_goes_first():
    """5 + 1 + 1 beside 4 + 3; and 3 beside 1 + 1 + 1, where the given order would end at 4."""
    assert run([3, 1, 4, 1, 5], 2) == 7
    assert run([1, 1, 1, 3], 2) == 3


def test_the_storage_limits_any_number_of_workers():
    """10 cases that read 200 and write 100 bytes at 50 bytes/s keep the storage busy for 60 s."""
    slow_storage = replace(IDEAL, bandwidth=50)
    assert run([0] * 10, 10, slow_storage, 200, 100) == 60
    # One worker waits for each case: 10 x (4 + 1 + 2).
    assert run([1] * 10, 1, slow_storage, 200, 100) == 70


def test_requests_queue_at_the_storage():
    """Two workers, reading 2 s and writing 1 s each: read 0-2 and 2-4, work 2-5 and 4-7, write 5-6 and 7-8."""
    assert run([3, 3], 2, replace(IDEAL, bandwidth=1), 2, 1) == 8


def test_the_main_process_serves_one_request_at_a_time():
    """3 s to start, 4 prechecks of 1 s, dispatch at 7.5, 8, 8.5 and 9; the last works until 19; 4 rows of 0.25 s."""
    cluster = replace(IDEAL, start_seconds=3, precheck_seconds=1, dispatch_seconds=0.5, table_seconds=0.25)
    assert run([10] * 4, 4, cluster) == 20
    # Dispatched at 2 and 4; the first worker asks again at 5, gets its case at 7, and ends at 10.
    assert run([3, 3, 3], 2, replace(IDEAL, dispatch_seconds=2)) == 10


def test_slow_cases():
    assert run([1, 2], 1, replace(IDEAL, slow_share=1, slow_factor=3)) == 9
    mean = np.mean([run([1] * 1000, 1, replace(IDEAL, slow_share=0.05), seed=seed) for seed in range(20)])
    assert mean == pytest.approx(1100, rel=0.02)


class FixedLifetimes:
    """Replaces the random generator: workers live 0.5 h and then 100 h, and no case is slow."""

    def __init__(self):
        self.hours = iter([0.5, 100])

    def exponential(self, mean: float) -> float:
        return next(self.hours)

    def random(self) -> float:
        return 1


def test_the_case_of_a_lost_worker_is_repeated(monkeypatch):
    """The loss after 0.5 h is noticed a minute later; a new worker comes a minute after that and works for an hour."""
    monkeypatch.setattr(scale.np.random, 'default_rng', lambda seed: FixedLifetimes())
    cluster = replace(IDEAL, notice_seconds=60, replace_seconds=120)
    assert run([3600], 1, cluster) == 1800 + 120 + 3600
    # An idle worker takes the case as soon as the loss is noticed.
    assert run([3600], 2, cluster) == 1800 + 60 + 3600


def test_mean_cost_of_losses():
    """Cases of an hour, a mean life of an hour and losses that are noticed at once take e - 1 hours for each case."""
    cluster = replace(IDEAL, hours_to_loss=1, notice_seconds=0, replace_seconds=0)
    hours = [run([3600] * 200, 1, cluster, seed=seed) / 3600 / 200 for seed in range(20)]
    assert np.mean(hours) == pytest.approx(np.e - 1, rel=0.05)


def test_more_workers_are_never_slower():
    stage = StageFactory(make_results()).make_stages()['3D CRF, one core a worker']
    for cts in (131, 1000):
        seconds = [median_seconds(stage, cts, workers, stage.cluster) for workers in (1, 2, 4, 16, 64, 256)]
        assert all(after <= 1.01 * before for before, after in zip(seconds, seconds[1:]))


def test_equal_pieces_take_as_long_as_the_whole_case():
    """10 s and 200 bytes at 50 bytes/s on one worker: 14 s. On 7 workers the work takes a seventh, the storage 4 s."""
    slow_storage = replace(IDEAL, bandwidth=50)
    stage = SimulatedStage(lambda slices: (10 + 0 * slices, 200 + 0 * slices, 0 * slices), slow_storage)
    whole, pieces = (median_seconds(stage, 1, 1, slow_storage, pieces) for pieces in (1, 7))
    assert whole == pieces == pytest.approx(14)
    assert median_seconds(stage, 1, 7, slow_storage, 7) == pytest.approx(4 + 10 / 7)


@pytest.mark.parametrize(
    'changes, bottleneck',
    [
        (dict(bandwidth=1e6), 'storage'),
        (dict(dispatch_seconds=5), 'first process'),
        ({}, 'largest case'),
        (dict(slow_share=0.3, slow_factor=50), 'slow or lost workers'),
    ],
)
def test_finds_the_bottleneck(changes, bottleneck):
    cluster = replace(IDEAL, **changes)
    stage = SimulatedStage(lambda slices: (slices / 100, 0 * slices + 1e6, 0 * slices), cluster)
    workers = 400 if bottleneck == 'largest case' else 20
    assert find_bottleneck(stage, 200, workers, cluster) == bottleneck


def test_sizes_are_those_of_lits():
    sizes = draw_sizes(100_000, 0)
    assert sizes.min() >= 42 and sizes.max() <= 1026 and sizes.max() > 1000
    assert sizes.mean() == pytest.approx(448, abs=3) and sizes.std() == pytest.approx(250, abs=3)


def test_costs_follow_from_the_measured_figures():
    """100 slices of 1 mm: windows at 0, 12, 24, 36, 48 and 52; 0.25 MB for a slice of a mask, twice that for a CT."""
    slices, pixels = np.array([100.0]), 512 * 512
    prepare, predict, crf = StageFactory(make_results()).make_stages().values()
    for stage, seconds, read, written in (
        (prepare, 1.1, 3 * pixels * 100, 240 * pixels * 1.5),
        (predict, 6 * 4 + 100 * 0.01, 3 * pixels * 100, pixels * 100),
        (crf, 3, 4 * pixels * 100, pixels * 100),
    ):
        assert [*map(float, np.ravel(stage.costs(slices)))] == pytest.approx([seconds, read, written])
    assert (prepare.cluster.dispatch_seconds, predict.cluster.dispatch_seconds) == (5e-3, 1e-3)
    assert prepare.cluster.precheck_seconds == pytest.approx(1e-3 + 3 * 5e-3 / 8)


def test_the_table_is_complete_and_says_that_it_is_simulated(monkeypatch):
    """131 predictions of (35 windows + 4.5 s) x 1.1; the largest has 82 windows and 10 s, up to three times as long."""
    monkeypatch.setattr(scale, 'CTS', (131,))
    monkeypatch.setattr(scale, 'WORKERS', (1, 256))
    header, alignment, *rows = table(make_results()).splitlines()
    assert 'simulated' in header and {row.count('|') for row in (header, alignment, *rows[:3])} == {5}
    pattern = r'\| prediction, two cores a worker \| 131 \| 6 h \| (\d+) min, largest case \|'
    minutes = int(re.fullmatch(pattern, rows[1])[1])
    assert 338 / 60 < minutes < 3 * 338 / 60
    assert 'nothing of it was run on more than one machine' in ' '.join(rows)
