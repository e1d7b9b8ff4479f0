"""Write into docs/clusters.md how long many CTs take on many workers, simulated from the benchmark's seconds.

In:   benchmarks/results.json
Out:  docs/clusters.md between <!-- scale --> and <!-- end of scale -->

    python benchmarks/scale.py      a minute

Nothing here was run on more than one machine.
"""

import itertools
import json
import sys
from collections import deque
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import ceil, inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numpy as np

from benchmarks.benchmark import FOLDER
from benchmarks.lits_estimate import LIVER, LONGEST, MEAN, PIXELS, duration
from tools.documentation import replace_table
from utilities.inference.sliding_window import window_starts
from utilities.run.settings import read_settings

CTS = 131, 1_000, 100_000
WORKERS = 1, 4, 16, 64, 256, 1_000
SHORTEST, SPREAD = 42, 250  # slices; SPREAD, the standard deviation, is assumed
EFFICIENT = 0.7  # of N times as fast with N workers; below it the cell names what the time is lost to
ENOUGH = 20  # pieces for each worker: then the largest of them is no matter
FILES, LATENCY, LOOKS = (
    3,
    0.005,
    8,
)  # opened for the first look at a case, on a storage of the network (s each); cases at a time
PREPARE, CRF = (f'{script}, a case of 448 x 512 x 512 on one core' for script in ('get_training_set.py', '3D-CRF.py'))
WINDOW = 'network, one window of 48 x 256 x 256, eval, CPU float32'
AROUND = 'val.py, 1,000 x 512 x 512, a stand-in for the network'
FIRST = 'what a case costs the first process'
ASK, READ, WRITE, AGAIN = range(4)


@dataclass(frozen=True)
class Cluster:
    """What the workers share, and what befalls them. Assumed, but for the first process's seconds for each case."""

    bandwidth: float = 2e9  # bytes/s of the storage, reading and writing together: a 25 Gbit/s link
    slow_share: float = 0.05  # of the cases: other jobs run beside them, or the cores are older
    slow_factor: float = 3  # times longer
    lost_after: float = 500  # mean hours of work until a worker is lost: a machine that may be taken away
    notice: float = 300  # seconds until its loss is noticed, and its case is given to another
    back: float = 600  # seconds until another worker is there instead
    start: float = (
        30  # seconds until the first process looks at the first case: Python and its libraries on every machine
    )
    look: float = 0  # seconds of the first process for each case: the first look at it,
    hand: float = 0  # handing it out and taking its result,
    tables: float = 0  # and its part of the tables


LIFTED = {
    'storage': dict(bandwidth=inf),
    'first process': dict(start=0, look=0, hand=0, tables=0),
    'slow or lost workers': dict(slow_share=0, lost_after=inf),
}


def main():
    text = table(json.loads((FOLDER / 'results.json').read_text()))
    print(text)
    replace_table('scale', text)


def simulate(seconds, read, written, workers, cluster, seed=0):
    """Seconds until all cases are done: `seconds` of each where nothing slows it, bytes `read` and `written` of each; sequences.

    The first process looks at all cases, then gives each worker that asks the largest that is left. A worker reads, works and writes.
    First process and storage serve one request after the other. A worker may be lost on its way; its case is then done again.
    """
    rng = np.random.default_rng(seed)
    waiting, idle, left = deque(sorted(range(len(seconds)), key=lambda case: -seconds[case])), [], len(seconds)
    first_free, storage_free = cluster.start + left * cluster.look, 0  # when each has served all requests so far
    lost = [inf] * workers
    count = itertools.count()  # of two events at the same time the one that was known first comes first
    events = []

    def then(time, what, worker, case=None):
        if time <= lost[worker]:
            heappush(events, (time, next(count), what, worker, case))
        else:
            heappush(events, (lost[worker] + cluster.notice, next(count), AGAIN, worker, case))
            heappush(events, (lost[worker] + cluster.back, next(count), ASK, worker, None))

    for worker in range(workers):
        then(first_free, ASK, worker)
    while left:
        now, _, what, worker, case = heappop(events)
        if what == ASK:
            left -= case is not None
            if waiting:
                first_free = max(first_free, now) + cluster.hand
                lost[worker] = first_free + 3600 * rng.exponential(cluster.lost_after)  # a worker does not age
                then(first_free, READ, worker, waiting.popleft())
            else:
                lost[worker] = inf
                idle.append(worker)
        elif what == READ:
            storage_free = max(storage_free, now) + read[case] / cluster.bandwidth
            slower = cluster.slow_factor if rng.random() < cluster.slow_share else 1
            then(storage_free + seconds[case] * slower, WRITE, worker, case)
        elif what == WRITE:
            storage_free = max(storage_free, now) + written[case] / cluster.bandwidth
            then(storage_free, ASK, worker, case)
        else:
            waiting.appendleft(case)
            if idle:
                then(now, ASK, idle.pop())
    return max(now, first_free) + len(seconds) * cluster.tables


def expected(stage, cts, workers, cluster, cut=1):
    """Median seconds of a stage for so many CTs over several draws of their sizes and of what befalls the workers.

    stage: function of a CT's slices that gives seconds, bytes read and bytes written; cut: into so many equal pieces each case is cut.
    """
    times = []
    for seed in range(ceil(5_000 / cts)):
        costs = np.repeat(np.transpose(stage(sizes(cts, seed))) / cut, cut, axis=0).T.tolist()
        pieces = replace(cluster, look=cluster.look / cut, hand=cluster.hand / cut, tables=cluster.tables / cut)
        times.append(simulate(*costs, workers, pieces, seed))
    return np.median(times)  # a mean would hang on the one draw in which a worker is lost at the end


def sizes(cts, seed):
    """Slices of so many CTs: a beta distribution from SHORTEST to LONGEST with the mean MEAN and the standard deviation SPREAD."""
    mean, spread = (MEAN - SHORTEST) / (LONGEST - SHORTEST), SPREAD / (LONGEST - SHORTEST)
    total = mean * (1 - mean) / spread**2 - 1
    return np.rint(
        SHORTEST + (LONGEST - SHORTEST) * np.random.default_rng(seed).beta(mean * total, (1 - mean) * total, cts)
    )


def limit(stage, cts, workers, cluster):
    """Without which the run would be shortest: one of LIFTED, or 'largest case', that is with cases that divide evenly."""
    without = {name: expected(stage, cts, workers, replace(cluster, **lifted)) for name, lifted in LIFTED.items()}
    without['largest case'] = expected(stage, cts, workers, cluster, ceil(ENOUGH * workers / cts))
    return min(without, key=without.get)


def stages(results):
    """{name: (function of the slices of CTs that gives seconds, bytes read and bytes written, its Cluster)}; results: results.json."""
    rows = {row['stage']: row for row in results['rows']}
    para = read_settings([f'--parameters={FOLDER.parent / "experiments/lits.py"}'])
    first, window = rows[FIRST], rows[WINDOW]['ours_s']
    around = rows[AROUND]['ours_s'] / 1_000  # seconds of val.py for a slice, but for the network

    def on_one_core(name):
        return lambda slices: rows[name]['case_s'] + rows[name]['slice_s'] * slices

    def predict(slices):
        return [
            len(window_starts(max(int(n), para.size), para.size, para.stride)) * window + n * around for n in slices
        ]

    def stage(seconds, read, written, hand):
        """read: bytes of a voxel; written: bytes of a case of so many slices."""
        cluster = Cluster(look=first['look_s'] + FILES * LATENCY / LOOKS, hand=first[hand], tables=first['table_s'])
        return lambda slices: (seconds(slices), slices * PIXELS * read, written(slices)), cluster

    def mask(slices):
        return slices * PIXELS

    def training_case(slices):
        return np.full(len(slices), LIVER / para.slice_thickness * PIXELS * (2 * para.down_scale**2 + 1))

    return {
        'training set, one core a worker': stage(on_one_core(PREPARE), 3, training_case, 'dask_s'),
        'prediction, two cores a worker': stage(predict, 3, mask, 'rank_s'),
        '3D CRF, one core a worker': stage(on_one_core(CRF), 4, mask, 'dask_s'),
    }


def table(results):
    """The simulated times as Markdown, and what is assumed; results: benchmarks/results.json."""
    lines = [
        f'| simulated | CTs | {" | ".join(f"{n:,}" for n in WORKERS)} workers |',
        '|---|--:|' + '--:|' * len(WORKERS),
    ]
    for name, (stage, cluster) in stages(results).items():
        for cts in CTS:
            cells, alone = [], expected(stage, cts, 1, cluster)
            for workers in WORKERS:
                seconds = expected(stage, cts, workers, cluster)
                few = alone < EFFICIENT * workers * seconds
                cells.append(duration(seconds) + (f', {limit(stage, cts, workers, cluster)}' if few else ''))
            lines.append(f'| {name if cts == CTS[0] else ""} | {cts:,} | {" | ".join(cells)} |')
    return '\n'.join([*lines, '', assumptions(results)])


def assumptions(results):
    c, first = Cluster(), next(row for row in results['rows'] if row['stage'] == FIRST)
    return f"""Simulated by benchmarks/scale.py from the seconds of [the benchmark](speed.md), event by event, the median of several
draws; nothing of it was run on more than one machine. Named is what a time is lost to where N workers are less than {EFFICIENT:.0%} of N
times as fast as one: of storage, first process, slow or lost workers and the largest case the one without which the run would be
shortest. Assumed:

- Sizes: {SHORTEST} to {LONGEST:,} slices of 512 x 512, {MEAN} in the mean, as in LiTS; drawn from a beta distribution with a standard
  deviation of {SPREAD}. The largest case goes first. Slices of 1 mm for the network.
- Storage: one queue of {c.bandwidth / 1e9:.0f} GB/s (a link of 25 Gbit/s) for all that is read and written, and
  {LATENCY * 1e3:.0f} ms to open a file. A worker does not read ahead.
- Workers: {c.slow_share:.0%} of the cases take {c.slow_factor} times as long. A worker is lost every {c.lost_after} hours of its work,
  which is noticed after {c.notice / 60:.0f} minutes; another is there after {c.back / 60:.0f}. Cores as quick
  as those measured, with as much memory bandwidth each.
- First process: {c.start} s until it begins; for each case a first look ({1e3 * first['look_s']:.1f} ms and the opening of {FILES} files,
  {LOOKS} cases at a time), handing out (Dask: {1e3 * first['dask_s']:.1f} ms; ranks of torchrun: {1e3 * first['rank_s']:.1f} ms),
  its row in the tables ({1e3 * first['table_s']:.1f} ms). That Dask and torchrun take so many workers was not tried here."""


if __name__ == '__main__':
    main()
