"""Seconds and peak memory of two ways to do the same, side by side in one process. Linux."""

import gc
import statistics
import time
from pathlib import Path

import torch


def side_by_side(plain, ours, repeats, plain_repeats=None):
    """Run both in turn, `repeats` times (the plain way `plain_repeats` times), after one run of ours that is not counted, which compiles.

    Returns ({'plain_s', 'ours_s': medians in seconds; 'plain_mb', 'ours_mb': peak of memory over what was there before},
    result of plain, result of ours).
    """
    ours()
    seconds, peaks, results = {'plain': [], 'ours': []}, {'plain': 0, 'ours': 0}, {}
    for turn in range(max(repeats, plain_repeats or repeats)):
        for name, way, times in (('plain', plain, plain_repeats or repeats), ('ours', ours, repeats)):
            if turn < times:
                results.pop(name, None)
                took, peak, results[name] = measured(way)
                seconds[name].append(took)
                peaks[name] = max(peaks[name], peak)
    row = {f'{name}_s': statistics.median(seconds[name]) for name in seconds}
    return {**row, **{f'{name}_mb': peaks[name] / 1e6 for name in peaks}}, results['plain'], results['ours']


def measured(way):
    """(seconds, bytes at the peak over what was there before, result) of one call; with a GPU at hand the bytes are the GPU's."""
    gc.collect()
    gpu = torch.cuda if torch.cuda.is_available() else None
    if gpu:
        gpu.synchronize()
        gpu.reset_peak_memory_stats()
    else:
        Path('/proc/self/clear_refs').write_text('5')  # the peak counts from here
    before, start = gpu.memory_allocated() if gpu else memory('VmRSS'), time.perf_counter()
    result = way()
    if gpu:
        gpu.synchronize()
    return time.perf_counter() - start, (gpu.max_memory_allocated() if gpu else memory('VmHWM')) - before, result


def memory(name):
    """VmRSS (resident now) or VmHWM (resident at the peak) of this process in bytes."""
    status = Path('/proc/self/status').read_text().split()
    return int(status[status.index(f'{name}:') + 1]) * 1024
