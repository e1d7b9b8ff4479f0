"""Predict the mask of a whole volume window by window, in memory that does not grow with the number of slices."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from utilities.inference.precision import autocast
from utilities.inference.sliding_window import window_starts


@dataclass(frozen=True)
class WindowSettings:
    """How a network runs over a volume in sliding windows.

    Args:
        size: slices in a window.
        stride: slices between the starts of two windows (1 to size).
        threshold: probability from which a voxel is liver.
        air: normalised intensity that pads a volume of fewer than `size` slices.
        window_batch: number of windows in one forward pass of the network.
        precision: dtype of the network's convolutions.
    """

    size: int
    stride: int
    threshold: float
    air: float = -1.0
    window_batch: int = 1
    precision: torch.dtype = torch.float32


@torch.inference_mode()
def predict_mask(
    network: torch.nn.Module,
    ct: np.ndarray,
    shape: tuple[int, int, int],
    settings: WindowSettings,
    device: torch.device,
) -> np.ndarray:
    """Return where the mean probability over all windows reaches the threshold, as a uint8 mask.

    Probabilities are stored only of the slices that a later window still changes.

    Args:
        network: maps windows (n, 1, z, y, x) to probabilities (n, 1, z, Y, X).
        ct: normalised CT on the network's grid, float32 (z, y, x), at least one slice.
        shape: shape (z, y, x) of the mask. The probability is interpolated linearly along z to its slices; rows
            and columns beyond its own, which only padded the network's input, are cut off.
        settings: windows, threshold and precision.
        device: where the network is.
    """
    depth = len(ct)
    if depth < settings.size:
        ct = np.pad(ct, [(0, settings.size - depth), (0, 0), (0, 0)], constant_values=settings.air)
    means = mean_over_windows(network, torch.from_numpy(ct).to(device), settings)
    cropped = (mean[:, : shape[1], : shape[2]] for mean in means)
    mask = np.empty(shape, np.uint8)
    start = 0
    for probability in resample_slices(cropped, depth, shape[0]):
        mask[start : start + len(probability)] = (probability >= settings.threshold).cpu().numpy()
        start += len(probability)
    return mask


def mean_over_windows(network: torch.nn.Module, ct: torch.Tensor, settings: WindowSettings) -> Iterator[torch.Tensor]:
    """Yield the mean probability over all windows of a CT, as blocks (slices, Y, X) of finished slices in order.

    ct: (z, y, x) on the network's device, with at least settings.size slices.
    """
    size = settings.size
    starts = window_starts(len(ct), size, settings.stride)
    windows_per_slice = torch.zeros(len(ct), 1, 1, device=ct.device)
    for start in starts:
        windows_per_slice[start : start + size] += 1
    total, first = None, 0  # sum of the windows so far, of the slices from `first` on
    for batch in (starts[i : i + settings.window_batch] for i in range(0, len(starts), settings.window_batch)):
        with autocast(ct.device, settings.precision):
            windows = network(torch.stack([ct[start : start + size] for start in batch])[:, None])[:, 0].float()
        for start, window in zip(batch, windows):
            if total is None:
                total = torch.zeros_like(window)
            if start > first:  # no later window reaches the slices before `start`
                finished = start - first
                yield total[:finished] / windows_per_slice[first:start]
                total = torch.cat((total[finished:], torch.zeros_like(window[:finished])))
                first = start
            total += window
    yield total / windows_per_slice[first:]


def resample_slices(blocks: Iterable[torch.Tensor], depth: int, new_depth: int) -> Iterator[torch.Tensor]:
    """Interpolate linearly along z from `depth` slices to `new_depth`, block by block.

    The first and the last slice keep their position, as in `resample.zoom`.

    Args:
        blocks: the slices in order, as tensors (slices, y, x); slices beyond `depth` are ignored.
        depth: number of slices to interpolate from.
        new_depth: number of slices to yield.

    Yields:
        Tensors (slices, y, x), as soon as both neighbours of their slices have arrived.
    """
    positions = np.linspace(0, depth - 1, new_depth) if new_depth > 1 else np.zeros(1)
    below = np.clip(positions.astype(int), 0, max(depth - 2, 0))
    above = np.minimum(below + 1, depth - 1)
    fractions = torch.from_numpy((positions - below).astype(np.float32))[:, None, None]
    buffer, first, done = None, 0, 0  # slices from `first` on that are still needed; number of new slices so far
    for block in blocks:
        buffer = block if buffer is None else torch.cat((buffer, block))
        ready = int(np.searchsorted(above, first + len(buffer)))
        if ready > done:
            lower = torch.from_numpy(below[done:ready] - first).to(buffer.device)
            upper = torch.from_numpy(above[done:ready] - first).to(buffer.device)
            yield torch.lerp(buffer[lower], buffer[upper], fractions[done:ready].to(buffer.device))
            done = ready
        next_needed = below[done] if done < new_depth else depth
        drop = min(len(buffer), next_needed - first)
        buffer, first = buffer[drop:], first + drop
