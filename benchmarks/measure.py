"""Measure seconds and peak memory of functions and of whole processes. Linux only."""

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

CLEAR_REFS = Path('/proc/self/clear_refs')  # writing 5 resets VmHWM of this process


def side_by_side(
    plain: Callable[[], Any], ours: Callable[[], Any], repeats: int, plain_repeats: int | None = None
) -> tuple[dict, Any, Any]:
    """Measure the plain function and ours in turn, after one call of ours that is not counted because it compiles.

    Args:
        plain: the plain way to compute something.
        ours: our way to compute the same.
        repeats: calls of each that are counted.
        plain_repeats: calls of the plain function, if it is called less or more often.

    Returns:
        A row {'plain_s', 'ours_s': median seconds; 'plain_mb', 'ours_mb': peak memory above what was in use before},
        and the last results of the plain function and of ours.
    """
    ours()
    functions = {'plain': (plain, plain_repeats or repeats), 'ours': (ours, repeats)}
    seconds, peaks, results = {'plain': [], 'ours': []}, {'plain': 0, 'ours': 0}, {}
    for turn in range(max(repeats, plain_repeats or repeats)):
        for name, (function, calls) in functions.items():
            if turn < calls:
                results.pop(name, None)
                elapsed, peak, results[name] = measure_call(function)
                seconds[name].append(elapsed)
                peaks[name] = max(peaks[name], peak)
    row = {f'{name}_s': statistics.median(seconds[name]) for name in functions}
    row |= {f'{name}_mb': peaks[name] / 1e6 for name in functions}
    return row, results['plain'], results['ours']


def measure_call(function: Callable[[], Any]) -> tuple[float, int, Any]:
    """Return seconds, peak bytes above what was in use before, and the result of one call; with a GPU its bytes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        CLEAR_REFS.write_text('5')
        before = process_memory('VmRSS')
    start = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else process_memory('VmHWM')
    return seconds, peak - before, result


def process_memory(name: str) -> int:
    """Return the bytes that this process has in memory now ('VmRSS') or had at its peak ('VmHWM')."""
    fields = Path('/proc/self/status').read_text().split()
    return int(fields[fields.index(f'{name}:') + 1]) * 1024


def run_process(command: Sequence, folder: Path, cores: int | None = None) -> tuple[float, float]:
    """Run a Python script with its options in `folder`, on `cores` cores (None: all), and measure it.

    Returns:
        Seconds, and the peak memory of the whole process in MB; if it starts processes, that of the largest of them.

    Raises:
        RuntimeError: if the exit status is not 0.
    """
    CLEAR_REFS.write_text('5')  # a child process starts with the peak of its parent
    start = time.perf_counter()
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f'{command[0]} ended with status {status}')
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6
