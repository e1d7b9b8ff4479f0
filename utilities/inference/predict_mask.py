"""A whole volume through the network, window by window, in memory that does not grow with the number of slices."""

import numpy as np
import torch

from utilities.inference.precision import autocast
from utilities.inference.sliding_window import window_starts


@torch.inference_mode()
def predict_mask(
    network, ct, shape, size, stride, threshold, device, air=-1.0, window_batch=1, precision=torch.float32
):
    """Where the mean probability over the windows of `size` slices reaches the threshold: uint8 of `shape` (z, y, x).

    ct: normalised float32 (z, y, x), z > 0, on the network's grid; its slices are interpolated linearly to the shape's, and
    rows and columns beyond the shape, which only filled the network's input up, are cut off. `window_batch` windows go
    through the network at a time. Only the slices that a later window still adds to are held as probabilities.
    """
    depth = len(ct)
    if depth < size:
        ct = np.pad(ct, [(0, size - depth), (0, 0), (0, 0)], constant_values=air)
    means = window_means(network, torch.from_numpy(ct).to(device), size, stride, window_batch, precision)
    mask = np.empty(shape, np.uint8)
    first = 0
    for slices in resample_slices((mean[:, : shape[1], : shape[2]] for mean in means), depth, shape[0]):
        mask[first : first + len(slices)] = (slices >= threshold).cpu().numpy()
        first += len(slices)
    return mask


def window_means(network, ct, size, stride, window_batch=1, precision=torch.float32):
    """Mean probability of all windows over a ct tensor (z, y, x), z >= size, in blocks (slices, Y, X) of finished slices in order."""
    starts = window_starts(len(ct), size, stride)
    times = torch.zeros(len(ct), 1, 1, device=ct.device)
    for start in starts:
        times[start : start + size] += 1
    total, done = None, 0  # sums of the slices from `done` on
    for batch in (starts[i : i + window_batch] for i in range(0, len(starts), window_batch)):
        with autocast(ct.device, precision):
            windows = network(torch.stack([ct[start : start + size] for start in batch])[:, None])[:, 0].float()
        for start, window in zip(batch, windows):
            if total is None:
                total = torch.zeros_like(window)
            if start > done:
                yield total[: start - done] / times[done:start]
                total = torch.cat((total[start - done :], torch.zeros_like(window[: start - done])))
                done = start
            total += window
    yield total / times[done:]


def resample_slices(blocks, old, new):
    """Linear interpolation along z of `old` slices, which come in blocks (slices, y, x), to `new` ones, in blocks as they get ready.

    The first and last slice stay in place, as in resample.zoom. Slices from `old` on are dropped.
    """
    places = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
    below = np.clip(places.astype(int), 0, max(old - 2, 0))
    above = np.minimum(below + 1, old - 1)
    weights = torch.from_numpy((places - below).astype(np.float32))[:, None, None]
    held, first, done = None, 0, 0  # old slices from `first` on, new slices up to `done`
    for block in blocks:
        held = block if held is None else torch.cat((held, block))
        ready = int(np.searchsorted(above, first + len(held)))  # new slices whose neighbours are both there
        if ready > done:
            lower, upper = (torch.from_numpy(i[done:ready] - first).to(held.device) for i in (below, above))
            yield torch.lerp(held[lower], held[upper], weights[done:ready].to(held.device))
            done = ready
        drop = min(len(held), (below[done] if done < new else old) - first)
        held, first = held[drop:], first + drop
