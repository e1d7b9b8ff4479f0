"""The stages of the benchmark, a module each.

A module has a function `measure(folder, repeats)` that makes its own data in an empty folder, runs the plain way and
ours, and returns a row (see benchmarks/rows.py), a list of rows, or None if this machine cannot run it. STAGE is the
name of its row.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

NAMES = (
    'zoom',
    'prepare',
    'sample',
    'components',
    'metrics',
    'crf_3d',
    'crf_2d',
    'window',
    'training',
    'safe_training',
    'monitored_training',
    'training_lits',
    'val_200',
    'val_1000',
    'scripts',
    'peak_memory',
    'throughput',
    'one_core',
    'main_process',
    'gpu_training',
    'gpu_window',
)


def import_stage(name: str) -> ModuleType:
    """Return the module of a stage; only the stage that is measured is imported, since imports take memory."""
    return import_module(f'benchmarks.stages.{name}')


def measure_stage(name: str, folder: Path, repeats: int) -> list[dict]:
    """Measure a stage and return its rows; a row without figures says that this machine cannot run it."""
    stage = import_stage(name)
    rows = stage.measure(folder, repeats)
    if rows is None:
        return [{'stage': stage.STAGE}]
    rows = rows if isinstance(rows, list) else [rows]
    return [{'stage': stage.STAGE, **row, 'reached': bool(row['reached'])} for row in rows]
