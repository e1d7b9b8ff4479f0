"""Write into docs/lits.md how long LiTS takes and how large it gets, stage by stage, from the benchmark's seconds.

In:   benchmarks/results.json, experiments/lits.py
Out:  docs/lits.md between <!-- lits --> and <!-- end of lits -->

    python benchmarks/lits_estimate.py

What the benchmark did not measure is 'not measured'. Nothing here includes the wait for a disk.
"""

import json
import sys
from math import ceil, isnan, nan
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from benchmarks.benchmark import FOLDER
from benchmarks.predict import STRIDE
from scripts.draw_figures import MAX_CASES
from tools.documentation import replace_table
from utilities.inference.sliding_window import window_starts
from utilities.run.settings import read_settings

CASES, SLICES, LONGEST, PIXELS = 131, 58_638, 1_026, 512 * 512
MEAN = round(SLICES / CASES)  # slices of a case
TEST = 20  # cases that are 3DIRCADb
TRAIN = CASES - TEST
LIVER = 240  # mm that hold the liver and expand_slice on both sides
WEIGHTS = 4 * 9_498_260  # bytes of the network in float32


def main():
    text = table(json.loads((FOLDER / 'results.json').read_text()))
    print(text)
    replace_table('lits', text)


def table(results):
    """What is assumed, and the stages, as Markdown; results: benchmarks/results.json."""
    rows = {row['stage']: row for row in results['rows']}
    para = read_settings([f'--parameters={FOLDER.parent / "experiments/lits.py"}'])

    def seconds(stage):
        return rows.get(stage, {}).get('ours_s', nan)

    def megabytes(stage):
        return rows.get(stage, {}).get('ours_mb', nan)

    def script(name, cases):
        row = rows.get(f'{name}, 3 cases of 448 x 512 x 512', {})
        return row.get('start_s', nan) + cases * row.get('case_s', nan), 1e6 * row.get('ours_mb', nan)

    prepare = 'get_training_set.py, a case of 160 x 512 x 512, with reading and writing'
    step = 'training step on the CPU, 1 x 48 x 256 x 256'
    gpu_step = 'training step on a GPU, 48 x 256 x 256'  # ten steps
    val = 'val.py, 200 x 512 x 512, the ResUNet on the CPU'
    long_val = 'val.py, 1,000 x 512 x 512, a stand-in for the network'
    (check, check_memory), (figures, figures_memory), (report, report_memory) = (
        script('check_dataset.py', CASES),
        script('draw_figures.py', MAX_CASES),
        script('write_report.py', TEST),
    )
    crf = {kind: script(f'{kind}-CRF.py', TEST) for kind in ('2D', '3D')}

    steps = para.Epoch * ceil((TRAIN - para.validation_cases) * para.samples_per_case / para.batch_size)
    training_set = TRAIN * LIVER / para.slice_thickness * PIXELS * (2 * para.down_scale**2 + 1)
    networks = ceil(para.Epoch / para.save_every) + 1 + 3  # best.pth; last.pth holds Adam's two moments as well
    windows = len(window_starts(MEAN, para.size, para.stride)) / len(window_starts(200, para.size, STRIDE))
    masks = TEST * MEAN * PIXELS
    stages = [  # stage, command, seconds without a GPU, with one, bytes written, bytes of memory; None: nothing worth a figure
        ('the data, unpacked', '', None, None, 3 * SLICES * PIXELS, None),
        ('check', 'data_prepare/check_dataset.py', check, None, None, check_memory * LONGEST / MEAN),
        (
            'training set',
            'data_prepare/get_training_set.py',
            TRAIN * seconds(prepare) * MEAN / 160,
            None,
            training_set,
            megabytes(prepare) * 1e6 * LONGEST / 160,
        ),
        (
            'training',
            'train_ds.py',
            steps * seconds(step),
            steps * seconds(gpu_step) / 10,
            networks * WEIGHTS,
            1e6 * megabytes(step),
        ),
        (
            'prediction',
            'val.py',
            TEST * windows * seconds(val),
            nan,
            masks,
            1e6 * max(megabytes(val), megabytes(long_val)),
        ),
        *(
            (f'{kind} CRF', f'Densecrf/{kind}-CRF.py', time, None, masks, memory)
            for kind, (time, memory) in crf.items()
        ),
        ('figures', 'scripts/draw_figures.py', figures, None, None, figures_memory),
        ('report', 'scripts/write_report.py', report, None, None, report_memory),
    ]
    lines = [
        f'| stage | command | time, {cores(results["machine"])}, no GPU | time, one GPU | written | memory |',
        '|---|---|--:|--:|--:|--:|',
    ]
    for stage, command, plain, gpu, written, memory in stages:
        cells = (
            stage,
            command and f'`{command}`',
            cell(plain, duration),
            cell(gpu, duration),
            cell(written, size),
            cell(memory, size),
        )
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join([*lines, '', assumptions(para)])


def assumptions(para):
    return f"""Estimated from [the benchmark](speed.md) by benchmarks/lits_estimate.py, not run on LiTS. Empty: no GPU used, or next to
nothing written. Assumed:

- {CASES} cases with {SLICES:,} slices of 512 x 512, so {MEAN} in the mean, {TEST} of the cases to test on; the longest has {LONGEST:,}.
  int16 for a CT's voxel, uint8 for a mask's.
- Training set: {LIVER} mm a case hold the liver and the slices on both sides. Its time grows with a case's slices, and so does its
  memory, which is the longest case's, over that of Python.
- Check, CRF, figures, report: whole scripts on 1 and on 3 phantoms of {MEAN} slices, so what they take to start and what each
  case adds, all files in memory: the wait for a disk comes on top. The figures show {MAX_CASES} cases, however many there are. Memory of the
  check: the longest case's, as if Python's own grew as well, so rather too much.
- Training: {para.Epoch:,} epochs of {TRAIN} steps. Written: the networks kept, each {WEIGHTS / 1e6:.0f} MB. Memory: without a GPU, and
  without the processes that read samples.
- Prediction: slices of 1 mm, as the headers of those {TEST} say; time by the number of windows; memory as measured at 200 and 1,000
  slices."""


def cores(machine):
    """'2 cores' of the machine's description."""
    return next(part for part in machine.split(', ') if part.endswith('cores'))


def cell(value, shown):
    return '' if value is None else 'not measured' if isnan(value) else shown(value)


def duration(seconds):
    unit, length = next(
        (u, s) for u, s in (('days', 86400), ('h', 3600), ('min', 60), ('s', 1)) if seconds >= 2 * s or s == 1
    )
    return f'{seconds / length:.0f} {unit}'


def size(number):
    return f'{number / 1e9:.1f} GB'


if __name__ == '__main__':
    main()
