"""Make a synthetic abdominal CT with its liver label, to try every script without the data set.

phantom_anatomy.py draws ellipsoids, tubes and a deformed two-lobed liver in a reference frame, so that a phantom of any
size holds all of them; phantom_slice.py paints them slice by slice. HU are computed slab by slab, so memory stays at a
few bytes for each voxel, and the number of threads does not change a byte.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage

from data_prepare.phantom_anatomy import CAVITY, LIVER, TISSUES, TUMOUR, draw_anatomy
from data_prepare.phantom_slice import paint_slice
from utilities.base import machine

SLAB = 16  # slices that share one noise generator; another value would change the CT of every seed
BLUR_MM = 0.6  # standard deviation of the scanner's point spread
BLUR_VOXELS = 0.5, 2.0  # its smallest and largest value: a voxel averages over its own extent
NOISE_HU = 12.0  # standard deviation of the noise
NOISE_BLUR = 0.6  # standard deviation of the Gaussian that correlates the noise in plane, voxels
MAX_THREADS = 8


def phantom(seed: int, shape: Sequence[int], spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return a CT and its label: int16 HU, and uint8 with 0 background, 1 liver, 2 tumour, both (z, y, x).

    z runs from the feet to the head, y from front to back, x from the patient's right to the left. The liver is one
    6-connected piece and the first and last slices hold none of it; there may be no tumour. The same arguments give the
    same bytes.

    Args:
        seed: an integer of 0 or more.
        shape: 3 integers (z, y, x) of 16 or more.
        spacing: 3 numbers (x, y, z) above 0 in mm, as in SimpleITK; it decides the blur and nothing else.

    Raises:
        ValueError: if an argument is not as described.
    """
    spacing = check_spacing(spacing)
    tissue = tissues(seed, shape)
    hu = draw_anatomy(seed).hu
    sigma = [float(np.clip(BLUR_MM / s, *BLUR_VOXELS)) for s in spacing[::-1]]
    ct = np.empty(tissue.shape, np.int16)
    in_threads(partial(fill_slab, ct, tissue, hu, sigma, seed), range(0, len(ct), SLAB))
    labels = np.zeros(TISSUES, np.uint8)
    labels[LIVER:], labels[TUMOUR:] = 1, 2
    return ct, labels[tissue]


def fill_slab(
    ct: np.ndarray, tissue: np.ndarray, hu: np.ndarray, sigma: Sequence[float], seed: int, start: int
) -> None:
    """Fill SLAB slices of `ct` from `start` on with the blurred HU of the tissues and noise.

    Args:
        ct: int16 (z, y, x), filled in place.
        tissue: tissue numbers (z, y, x).
        hu: HU of every tissue number, float32.
        sigma: standard deviations (z, y, x) of the blur, voxels.
        seed: of the phantom.
        start: first slice, a multiple of SLAB.
    """
    stop = min(start + SLAB, len(ct))
    margin = int(3 * sigma[0] + 0.5)  # gaussian_filter reads so many slices on both sides with truncate=3
    first = max(start - margin, 0)
    blurred = ndimage.gaussian_filter(hu[tissue[first : stop + margin]], sigma, mode='nearest', truncate=3)
    noise = np.random.default_rng([seed, start // SLAB]).standard_normal((stop - start, *ct.shape[1:]), np.float32)
    noise = ndimage.gaussian_filter(noise, (0, NOISE_BLUR, NOISE_BLUR), mode='wrap')
    kernel = ndimage.gaussian_filter1d(np.eye(1, 9, 4)[0], NOISE_BLUR)
    # Filtering along each of the two axes multiplies the standard deviation by the root of the kernel's sum of squares.
    gain = NOISE_HU / float((kernel**2).sum())
    ct[start:stop] = np.rint(blurred[start - first : stop - first] + gain * noise).clip(-1024, 3071)


def tissues(seed: int, shape: Sequence[int]) -> np.ndarray:
    """Return the tissue numbers of a phantom, uint8 (z, y, x). Raises ValueError like `phantom`."""
    shape = check_shape(shape)
    if not is_integer(seed) or seed < 0:
        raise ValueError(f'seed: wanted an integer of 0 or more, got {seed!r}')
    anatomy = draw_anatomy(seed)
    z, y, x = [
        (0.5 + ((np.arange(n) + 0.5) / n - middle) / scale).astype(np.float32)
        for n, middle, scale in zip(shape, anatomy.body.middle[::-1], anatomy.body.scale[::-1])
    ]
    volume = np.stack(in_threads(partial(paint_slice, anatomy, x, y), z))
    keep_one_piece(volume)
    return volume


def keep_one_piece(volume: np.ndarray) -> None:
    """Turn every piece of liver but the largest into fat, in place: a coarse grid may cut small pieces off."""
    box = ndimage.find_objects((volume >= LIVER).view(np.uint8))[0]
    pieces, number = ndimage.label(volume[box] >= LIVER)
    if number > 1:
        largest = np.bincount(pieces.ravel())[1:].argmax() + 1
        volume[box][(pieces > 0) & (pieces != largest)] = CAVITY


def in_threads(function: Callable[[Any], Any], items: Iterable) -> list:
    """Call `function` with every item, several at the same time, and return the results in order."""
    with ThreadPoolExecutor(min(MAX_THREADS, machine.threads())) as pool:
        return list(pool.map(function, items))


def is_integer(value: object) -> bool:
    """Return whether a value is an integer of Python or NumPy; a bool is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape as a tuple of int; raise ValueError unless it is 3 integers of 16 or more."""
    try:
        if len(shape) == 3 and all(is_integer(n) and n >= 16 for n in shape):
            return tuple(int(n) for n in shape)
    except TypeError:
        pass
    raise ValueError(f'shape: wanted 3 integers (z, y, x) of 16 or more, got {shape!r}')


def check_spacing(spacing: Sequence[float]) -> list[float]:
    """Return a spacing as floats; raise ValueError unless it is 3 finite numbers above 0."""
    try:
        values = [float(s) for s in spacing if np.isfinite(s) and s > 0]
        if len(values) == len(spacing) == 3:
            return values
    except (TypeError, ValueError):
        pass
    raise ValueError(f'spacing: wanted 3 numbers (x, y, z) above 0 in mm, got {spacing!r}')
