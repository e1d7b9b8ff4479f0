"""A whole volume through the network, window by window."""
import numpy as np
import torch

from utilities.sliding_window import window_starts


@torch.inference_mode()
def liver_probability(network, ct, size, stride, device, air=-1.0):
    """Mean liver probability over the windows of `size` slices, float32.

    ct: normalised float32 (z, y, x), z > 0; fewer than `size` slices are filled up with `air` and cut off again.
    Returns (z, y / down_scale, x / down_scale).
    """
    depth = len(ct)
    if depth < size:
        ct = np.pad(ct, [(0, size - depth), (0, 0), (0, 0)], constant_values=air)
    total, times = None, np.zeros((len(ct), 1, 1), np.float32)
    for start in window_starts(len(ct), size, stride):
        window = torch.from_numpy(np.ascontiguousarray(ct[start:start + size]))[None, None].to(device)
        probability = network(window)[0, 0].float().cpu().numpy()
        if total is None:
            total = np.zeros((len(ct), *probability.shape[1:]), np.float32)
        total[start:start + size] += probability
        times[start:start + size] += 1
    total /= times
    return total[:depth]
