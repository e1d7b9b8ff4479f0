"""Simulate how long many CTs take on many workers, event by event, from the seconds that the benchmark measured.

Nothing here was run on more than one machine. tools/benchmark_tables.py writes the table into the documentation.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import ceil, inf

import numpy as np

from benchmarks.lits_estimate import (
    EXPERIMENT,
    LIVER_MM,
    MAX_SLICES,
    MEAN_SLICES,
    PIXELS,
    format_duration,
    wrap_paragraphs,
)
from utilities.inference.sliding_window import window_starts
from utilities.run.settings import read_settings

CTS = 131, 1_000, 100_000
WORKERS = 1, 4, 16, 64, 256, 1_000
MIN_SLICES = 42
SLICES_DEVIATION = 250  # standard deviation of the number of slices; assumed
EFFICIENT = 0.7  # a cell names the bottleneck if N workers are less than this share of N times as fast as one
PIECES_PER_WORKER = 20  # with so many equal pieces for each worker the size of the largest one does not matter
FILES_PER_CASE = 3  # opened by the prechecks of a case
OPEN_SECONDS = 0.005  # to open a file on a network storage
PRECHECK_THREADS = 8  # cases that are checked at once
SIMULATED_CASES = 5_000  # cases in all draws of one cell
PREPARE = 'get_training_set.py, a case of 448 x 512 x 512 on one core'
CRF = '3D-CRF.py, a case of 448 x 512 x 512 on one core'
WINDOW = 'network, one window of 48 x 256 x 256, eval, CPU float32'
WITHOUT_NETWORK = 'val.py, 1,000 x 512 x 512, a stand-in for the network'
MAIN_PROCESS = 'what a case costs the first process'

# Kinds of events, each at the time when the worker has finished what came before.
ASK, READ, WRITE, REPEAT = range(4)

Costs = tuple[Sequence[float], Sequence[float], Sequence[float]]  # seconds, bytes read and bytes written of each case


@dataclass(frozen=True)
class Cluster:
    """What the workers share and what happens to them; assumed, except for the main process's seconds for each case."""

    bandwidth: float = 2e9  # bytes/s of the storage for reading and writing together: a link of 25 Gbit/s
    slow_share: float = 0.05  # of the cases take longer: other jobs run beside them, or the cores are older
    slow_factor: float = 3  # times as long
    hours_to_loss: float = 500  # mean hours of work until a worker is lost, such as a machine that may be taken away
    notice_seconds: float = 300  # until the loss is noticed and the case is given to another worker
    replace_seconds: float = 600  # until there is another worker
    start_seconds: float = 30  # until the main process begins: Python and its libraries on every machine
    precheck_seconds: float = 0  # of the main process for each case: check it,
    dispatch_seconds: float = 0  # hand it out and take its result,
    table_seconds: float = 0  # and write its row of the tables


@dataclass(frozen=True)
class SimulatedStage:
    """A stage and its cluster. costs: function of the slices of CTs that returns their Costs."""

    costs: Callable[[np.ndarray], Costs]
    cluster: Cluster


WITHOUT_BOTTLENECK = {
    'storage': dict(bandwidth=inf),
    'first process': dict(start_seconds=0, precheck_seconds=0, dispatch_seconds=0, table_seconds=0),
    'slow or lost workers': dict(slow_share=0, hours_to_loss=inf),
}


class Simulation:
    """A run in which main process and storage serve one request at a time. A case of a lost worker is repeated."""

    def __init__(self, costs: Costs, workers: int, cluster: Cluster, seed: int):
        self.seconds, self.read, self.written = costs
        self.cluster, self.rng = cluster, np.random.default_rng(seed)
        self.waiting = deque(sorted(range(len(self.seconds)), key=lambda case: -self.seconds[case]))
        self.unfinished = len(self.seconds)
        self.idle: list[int] = []
        self.loss_times = [inf] * workers
        self.main_free = cluster.start_seconds + self.unfinished * cluster.precheck_seconds
        self.storage_free = 0.0
        self.events: list[tuple] = []
        self.scheduled = 0

    def run(self) -> float:
        """Return the seconds until all cases are done."""
        for worker in range(len(self.loss_times)):
            self.schedule(self.main_free, ASK, worker)
        handlers = {ASK: self.ask, READ: self.read_case, WRITE: self.write_case, REPEAT: self.repeat}
        now = 0.0
        while self.unfinished:
            now, _, kind, worker, case = heappop(self.events)
            handlers[kind](now, worker, case)
        return max(now, self.main_free) + len(self.seconds) * self.cluster.table_seconds

    def push(self, time: float, kind: int, worker: int, case: int | None) -> None:
        heappush(self.events, (time, self.scheduled, kind, worker, case))
        self.scheduled += 1

    def schedule(self, time: float, kind: int, worker: int, case: int | None = None) -> None:
        """Schedule the next event of a worker, or what follows its loss if it is lost before."""
        loss = self.loss_times[worker]
        if time <= loss:
            self.push(time, kind, worker, case)
        else:
            self.push(loss + self.cluster.notice_seconds, REPEAT, worker, case)
            self.push(loss + self.cluster.replace_seconds, ASK, worker, None)

    def ask(self, now: float, worker: int, case: int | None) -> None:
        """A worker returns a finished case, if it has one, and asks for the largest one that is left."""
        self.unfinished -= case is not None
        if not self.waiting:
            self.loss_times[worker] = inf
            self.idle.append(worker)
            return
        self.main_free = max(self.main_free, now) + self.cluster.dispatch_seconds
        self.loss_times[worker] = self.main_free + 3600 * self.rng.exponential(self.cluster.hours_to_loss)
        self.schedule(self.main_free, READ, worker, self.waiting.popleft())

    def read_case(self, now: float, worker: int, case: int) -> None:
        self.storage_free = max(self.storage_free, now) + self.read[case] / self.cluster.bandwidth
        factor = self.cluster.slow_factor if self.rng.random() < self.cluster.slow_share else 1
        self.schedule(self.storage_free + self.seconds[case] * factor, WRITE, worker, case)

    def write_case(self, now: float, worker: int, case: int) -> None:
        self.storage_free = max(self.storage_free, now) + self.written[case] / self.cluster.bandwidth
        self.schedule(self.storage_free, ASK, worker, case)

    def repeat(self, now: float, worker: int, case: int) -> None:
        """The loss of a worker is noticed: its case goes to an idle worker, or to the next one that asks."""
        self.waiting.appendleft(case)
        if self.idle:
            self.schedule(now, ASK, self.idle.pop())


def simulate(costs: Costs, workers: int, cluster: Cluster, seed: int = 0) -> float:
    """Return the seconds until all cases are done.

    The main process checks all cases and then gives each worker that asks the largest case that is left. A worker
    reads, works and writes.

    Args:
        costs: seconds of work, bytes read and bytes written of each case.
        workers: their number.
        cluster: what they share.
        seed: of slow cases and lost workers.
    """
    return Simulation(costs, workers, cluster, seed).run()


def median_seconds(stage: SimulatedStage, cts: int, workers: int, cluster: Cluster, pieces: int = 1) -> float:
    """Return the median seconds for so many CTs over several draws of their sizes and of what happens to the workers.

    Args:
        stage: what is done with each CT.
        cts: their number.
        workers: their number.
        cluster: instead of the stage's own.
        pieces: number of equal pieces that each case is cut into.
    """
    times = []
    cluster = replace(
        cluster,
        precheck_seconds=cluster.precheck_seconds / pieces,
        dispatch_seconds=cluster.dispatch_seconds / pieces,
        table_seconds=cluster.table_seconds / pieces,
    )
    for seed in range(ceil(SIMULATED_CASES / cts)):
        costs = np.transpose(stage.costs(draw_sizes(cts, seed))) / pieces
        times.append(simulate(np.repeat(costs, pieces, axis=0).T.tolist(), workers, cluster, seed))
    return np.median(times)  # a mean would depend on the one draw in which a worker is lost at the end


def draw_sizes(cts: int, seed: int) -> np.ndarray:
    """Draw the slices of so many CTs from a beta distribution between MIN_SLICES and MAX_SLICES."""
    length = MAX_SLICES - MIN_SLICES
    mean, deviation = (MEAN_SLICES - MIN_SLICES) / length, SLICES_DEVIATION / length
    total = mean * (1 - mean) / deviation**2 - 1
    rng = np.random.default_rng(seed)
    return np.rint(MIN_SLICES + length * rng.beta(mean * total, (1 - mean) * total, cts))


def find_bottleneck(stage: SimulatedStage, cts: int, workers: int, cluster: Cluster) -> str:
    """Return the name of the bottleneck without which the run would be shortest.

    It is a key of WITHOUT_BOTTLENECK, or 'largest case', which is removed by cutting the cases into equal pieces.
    """
    seconds = {
        name: median_seconds(stage, cts, workers, replace(cluster, **changes))
        for name, changes in WITHOUT_BOTTLENECK.items()
    }
    pieces = ceil(PIECES_PER_WORKER * workers / cts)
    seconds['largest case'] = median_seconds(stage, cts, workers, cluster, pieces)
    return min(seconds, key=seconds.get)


class StageFactory:
    """Make the simulated stages from the figures of the benchmark; results: the content of benchmarks/results.json."""

    def __init__(self, results: dict):
        self.rows = {row['stage']: row for row in results['rows']}
        self.para = read_settings([f'--parameters={EXPERIMENT}'])

    def make_stages(self) -> dict[str, SimulatedStage]:
        """Return the simulated stages by their names."""
        return {
            'training set, one core a worker': SimulatedStage(self.training_set_costs, self.make_cluster('dask_s')),
            'prediction, two cores a worker': SimulatedStage(self.prediction_costs, self.make_cluster('rank_s')),
            '3D CRF, one core a worker': SimulatedStage(self.crf_costs, self.make_cluster('dask_s')),
        }

    def make_cluster(self, dispatch: str) -> Cluster:
        """Return a cluster; dispatch: the figure for handing out a case, 'dask_s' or (ranks of torchrun) 'rank_s'."""
        row = self.rows[MAIN_PROCESS]
        precheck_seconds = row['look_s'] + FILES_PER_CASE * OPEN_SECONDS / PRECHECK_THREADS
        return Cluster(precheck_seconds=precheck_seconds, dispatch_seconds=row[dispatch], table_seconds=row['table_s'])

    def one_core_seconds(self, stage: str, slices: np.ndarray) -> np.ndarray:
        return self.rows[stage]['case_s'] + self.rows[stage]['slice_s'] * slices

    def training_set_costs(self, slices: np.ndarray) -> Costs:
        voxels = LIVER_MM / self.para.slice_thickness * PIXELS
        written = np.full(len(slices), voxels * (2 * self.para.down_scale**2 + 1))
        return self.one_core_seconds(PREPARE, slices), 3 * slices * PIXELS, written

    def prediction_costs(self, slices: np.ndarray) -> Costs:
        seconds_per_slice = self.rows[WITHOUT_NETWORK]['ours_s'] / 1_000
        window_seconds = self.rows[WINDOW]['ours_s']
        seconds = [
            len(window_starts(max(int(n), self.para.size), self.para.size, self.para.stride)) * window_seconds
            + n * seconds_per_slice
            for n in slices
        ]
        return seconds, 3 * slices * PIXELS, slices * PIXELS

    def crf_costs(self, slices: np.ndarray) -> Costs:
        return self.one_core_seconds(CRF, slices), 4 * slices * PIXELS, slices * PIXELS


def table(results: dict) -> str:
    """Return the simulated times and what they assume as Markdown; results: the content of benchmarks/results.json."""
    lines = [
        f'| simulated | CTs | {" | ".join(f"{n:,}" for n in WORKERS)} workers |',
        '|---|--:|' + '--:|' * len(WORKERS),
    ]
    for name, stage in StageFactory(results).make_stages().items():
        for cts in CTS:
            cells = [name if cts == CTS[0] else '', f'{cts:,}', *table_cells(stage, cts)]
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join([*lines, '', assumptions(results)])


def table_cells(stage: SimulatedStage, cts: int) -> list[str]:
    """Return the time for each number of workers, with the bottleneck where they are not efficient."""
    cells, one_worker = [], median_seconds(stage, cts, 1, stage.cluster)
    for workers in WORKERS:
        seconds = median_seconds(stage, cts, workers, stage.cluster)
        cell = format_duration(seconds)
        if one_worker < EFFICIENT * workers * seconds:
            cell += f', {find_bottleneck(stage, cts, workers, stage.cluster)}'
        cells.append(cell)
    return cells


def assumptions(results: dict) -> str:
    cluster, row = Cluster(), next(row for row in results['rows'] if row['stage'] == MAIN_PROCESS)
    ms = {name: f'{1e3 * row[name]:.1f} ms' for name in ('look_s', 'dask_s', 'rank_s', 'table_s')}
    return wrap_paragraphs(
        'Simulated by benchmarks/scale.py from the seconds of [the benchmark](speed.md), event by event, the median of '
        'several draws; nothing of it was run on more than one machine. Where N workers are less than '
        f'{EFFICIENT:.0%} of N times as fast as one, the cell names the bottleneck: storage, first process, slow or '
        'lost workers, or largest case, whichever would shorten the run most if it were removed. The '
        'simulation assumes:',
        '',
        f'- Sizes: {MIN_SLICES} to {MAX_SLICES:,} slices of 512 x 512, {MEAN_SLICES} in the mean, as in LiTS, drawn '
        f'from a beta distribution with a standard deviation of {SLICES_DEVIATION}. The largest case goes first. '
        'The network gets slices of 1 mm.',
        f'- Storage: one queue of {cluster.bandwidth / 1e9:.0f} GB/s (a link of 25 Gbit/s) for everything that is '
        f'read and written, and {OPEN_SECONDS * 1e3:.0f} ms to open a file. A worker does not read ahead.',
        f'- Workers: {cluster.slow_share:.0%} of the cases take {cluster.slow_factor} times as long. A worker is lost '
        f'after {cluster.hours_to_loss} hours of its work in the mean; the loss is noticed after '
        f'{cluster.notice_seconds / 60:.0f} minutes, and another worker is there after '
        f'{cluster.replace_seconds / 60:.0f} minutes. The cores are as fast as the measured ones, with as much memory '
        'bandwidth each.',
        f'- First process: {cluster.start_seconds} s until it begins. For each case it runs the prechecks '
        f'({ms["look_s"]} and the opening of {FILES_PER_CASE} files, {PRECHECK_THREADS} cases at a time), hands the '
        f'case out (Dask: {ms["dask_s"]}; ranks of torchrun: {ms["rank_s"]}), and writes its row of the tables '
        f'({ms["table_s"]}). Whether Dask and torchrun can serve so many workers was not tried.',
    )
