"""Estimate how long LiTS takes and how large it gets, stage by stage, from the figures of the benchmark.

What the benchmark did not measure is 'not measured'. The wait for a disk is not included.
tools/benchmark_tables.py writes the table into the documentation.
"""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isnan, nan
from pathlib import Path
from types import SimpleNamespace

from benchmarks.whole_case import STRIDE
from scripts.draw_figures import MAX_CASES
from utilities.inference.sliding_window import window_starts
from utilities.run.settings import read_settings

EXPERIMENT = Path(__file__).resolve().parents[1] / 'experiments/lits.py'
CASES, SLICES, MAX_SLICES, PIXELS = 131, 58_638, 1_026, 512 * 512
MEAN_SLICES = round(SLICES / CASES)
TEST_CASES = 20  # those of 3DIRCADb
TRAIN_CASES = CASES - TEST_CASES
LIVER_MM = 240  # of a case: the liver and expand_slice slices on both sides
WEIGHT_BYTES = 4 * 9_498_260  # of the network in float32


@dataclass(frozen=True)
class StageEstimate:
    """Seconds without and with a GPU, bytes written, bytes of memory; None: not worth a figure, NaN: not measured."""

    stage: str
    command: str
    cpu_seconds: float | None
    gpu_seconds: float | None
    written: float | None
    memory: float | None


class Figures:
    """Figures of the benchmark by the name of the row; NaN for what was not measured."""

    def __init__(self, results: dict):
        self.rows = {row['stage']: row for row in results['rows']}

    def seconds(self, stage: str) -> float:
        return self.rows.get(stage, {}).get('ours_s', nan)

    def bytes(self, stage: str) -> float:
        return 1e6 * self.rows.get(stage, {}).get('ours_mb', nan)

    def script(self, name: str, cases: int) -> tuple[float, float]:
        """Return (seconds for so many cases, peak memory in bytes) of a whole script."""
        stage = f'{name}, 3 cases of 448 x 512 x 512'
        row = self.rows.get(stage, {})
        return row.get('start_s', nan) + cases * row.get('case_s', nan), self.bytes(stage)


def estimate_stages(results: dict, para: SimpleNamespace) -> list[StageEstimate]:
    """Return the estimates in the order of the pipeline.

    Args:
        results: the content of benchmarks/results.json.
        para: the settings of experiments/lits.py.
    """
    figures = Figures(results)
    check_s, check_memory = figures.script('check_dataset.py', CASES)
    masks = TEST_CASES * MEAN_SLICES * PIXELS
    return [
        StageEstimate('the data, unpacked', '', None, None, 3 * SLICES * PIXELS, None),
        StageEstimate(
            'check', 'data_prepare/check_dataset.py', check_s, None, None, check_memory * MAX_SLICES / MEAN_SLICES
        ),
        estimate_training_set(figures, para),
        estimate_training(figures, para),
        estimate_prediction(figures, para, masks),
        estimate_script(figures, '2D CRF', 'Densecrf/2D-CRF.py', TEST_CASES, masks),
        estimate_script(figures, '3D CRF', 'Densecrf/3D-CRF.py', TEST_CASES, masks),
        estimate_script(figures, 'figures', 'scripts/draw_figures.py', MAX_CASES, None),
        estimate_script(figures, 'report', 'scripts/write_report.py', TEST_CASES, None),
    ]


def estimate_script(figures: Figures, stage: str, command: str, cases: int, written: float | None) -> StageEstimate:
    seconds, memory = figures.script(Path(command).name, cases)
    return StageEstimate(stage, command, seconds, None, written, memory)


def estimate_training_set(figures: Figures, para: SimpleNamespace) -> StageEstimate:
    stage = 'get_training_set.py, a case of 160 x 512 x 512, with reading and writing'
    written = TRAIN_CASES * LIVER_MM / para.slice_thickness * PIXELS * (2 * para.down_scale**2 + 1)
    seconds = TRAIN_CASES * figures.seconds(stage) * MEAN_SLICES / 160
    memory = figures.bytes(stage) * MAX_SLICES / 160
    return StageEstimate('training set', 'data_prepare/get_training_set.py', seconds, None, written, memory)


def estimate_training(figures: Figures, para: SimpleNamespace) -> StageEstimate:
    cpu_step = 'training step on the CPU, 1 x 48 x 256 x 256'
    ten_gpu_steps = 'training step on a GPU, 48 x 256 x 256'
    samples = (TRAIN_CASES - para.validation_cases) * para.samples_per_case
    steps = para.Epoch * ceil(samples / para.batch_size)
    saved = ceil(para.Epoch / para.save_every)
    networks = saved + 1 + 3  # best.pth; last.pth holds the weights and the two moments of Adam
    return StageEstimate(
        'training',
        'train_ds.py',
        steps * figures.seconds(cpu_step),
        steps * figures.seconds(ten_gpu_steps) / 10,
        networks * WEIGHT_BYTES,
        figures.bytes(cpu_step),
    )


def estimate_prediction(figures: Figures, para: SimpleNamespace, written: float) -> StageEstimate:
    short = 'val.py, 200 x 512 x 512, the ResUNet on the CPU'
    long = 'val.py, 1,000 x 512 x 512, a stand-in for the network'
    windows = len(window_starts(MEAN_SLICES, para.size, para.stride))
    measured_windows = len(window_starts(200, para.size, STRIDE))
    seconds = TEST_CASES * windows / measured_windows * figures.seconds(short)
    memory = max(figures.bytes(short), figures.bytes(long))
    return StageEstimate('prediction', 'val.py', seconds, nan, written, memory)


def table(results: dict) -> str:
    """Return the estimates and what they assume as Markdown; results: the content of benchmarks/results.json."""
    para = read_settings([f'--parameters={EXPERIMENT}'])
    lines = [
        f'| stage | command | time, {cores(results["machine"])}, no GPU | time, one GPU | written | memory |',
        '|---|---|--:|--:|--:|--:|',
    ]
    for stage in estimate_stages(results, para):
        cells = (
            stage.stage,
            f'`{stage.command}`' if stage.command else '',
            format_cell(stage.cpu_seconds, format_duration),
            format_cell(stage.gpu_seconds, format_duration),
            format_cell(stage.written, format_size),
            format_cell(stage.memory, format_size),
        )
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join([*lines, '', assumptions(para)])


def assumptions(para: SimpleNamespace) -> str:
    return wrap_paragraphs(
        'Estimated from [the benchmark](speed.md) by benchmarks/lits_estimate.py, not run on LiTS. An empty cell means '
        'that the stage uses no GPU, or writes next to nothing. The estimate assumes:',
        '',
        f'- {CASES} cases with {SLICES:,} slices of 512 x 512: {MEAN_SLICES} in the mean, {MAX_SLICES:,} in the '
        f'longest case. {TEST_CASES} cases are for testing. A voxel is int16 in a CT and uint8 in a mask.',
        f'- Training set: {LIVER_MM} mm of a case hold the liver and the slices on both sides. Time and memory grow '
        'with the number of slices. The memory is that of the longest case, without that of Python.',
        f'- Check, CRF, figures, report: measured as whole scripts on 1 and on 3 phantoms of {MEAN_SLICES} slices, '
        'which gives the time to start and the time for each case. All files were in memory, so add the wait for a '
        f'disk. The figures show {MAX_CASES} cases, however many there are. The memory of the check is that of the '
        "longest case and rather too high, since Python's own share is scaled as well.",
        f'- Training: {para.Epoch:,} epochs of {TRAIN_CASES} steps. Written: the saved networks of '
        f'{WEIGHT_BYTES / 1e6:.0f} MB each. Memory: without a GPU, and without the processes that read samples.',
        f'- Prediction: slices of 1 mm, as the headers of those {TEST_CASES} cases say. The time grows with the number '
        'of windows; the memory was measured at 200 and at 1,000 slices.',
    )


def wrap_paragraphs(*paragraphs: str) -> str:
    """Return paragraphs and list items of Markdown in lines of at most 120 characters."""
    wrapped = (
        textwrap.fill(text, 120, subsequent_indent='  ' if text.startswith('- ') else '', break_on_hyphens=False)
        for text in paragraphs
    )
    return '\n'.join(wrapped)


def cores(machine: str) -> str:
    """Return the part of a machine's description that says how many cores it has, such as '2 cores'."""
    return next(part for part in machine.split(', ') if part.endswith('cores'))


def format_cell(value: float | None, format_value: Callable[[float], str]) -> str:
    if value is None:
        return ''
    return 'not measured' if isnan(value) else format_value(value)


def format_duration(seconds: float) -> str:
    """Return seconds in the largest unit that makes a number of 2 or more."""
    for unit, length in (('days', 86400), ('h', 3600), ('min', 60)):
        if seconds >= 2 * length:
            return f'{seconds / length:.0f} {unit}'
    return f'{seconds:.0f} s'


def format_size(number: float) -> str:
    return f'{number / 1e9:.1f} GB'
