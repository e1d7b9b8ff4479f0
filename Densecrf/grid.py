"""Mean field of a dense CRF with two labels, its bilateral kernel on a coarse grid.

Two labels need one filtered channel. With p = P(liver) - P(background) and Khat = D^-1/2 K D^-1/2, D = diag(K 1), the update of
Kraehenbuehl and Koltun (NIPS 2011) for Potts weights is

    p = tanh(l / 2),  l = +-ln(c / (1 - c)) + spatial weight x Khat_spatial p + bilateral weight x Khat_bilateral p

with + where the mask is set and c its confidence. The spatial Gaussian is a product of convolutions along the axes, and so is its K 1. The
bilateral one is a wide Gaussian in four dimensions (z, y, x, v = intensity): voxels are splatted to a grid with linear weights, the
grid is blurred axis by axis and sliced with the same weights (Paris and Durand, ECCV 2006). The variance that splatting and slicing add is
taken off the blur's.

The intervals between two grid planes along z are the units of work. Each sums into planes of its own, so threads never add to the same
number, and how many there are changes no bit of the result.
"""

from concurrent.futures import ThreadPoolExecutor
from math import ceil, log, sqrt

import numpy as np
from numba import njit

from Densecrf.crf_settings import CrfSettings
from utilities.base import machine
from utilities.base.errors import InputError

REACH = 3.7  # standard deviations at which a kernel ends: 1e-3 of its height
CELLS = (
    0.5,
    0.7,
    1,
)  # grid cell along z, y, x (standard deviations): the first of which there are not too many; along v it is 1
MOST_CELLS = 4  # for each voxel; memory is then a third of pydensecrf's
FREE_CELLS = 2**20  # never too many
BLOCK = 4096  # voxels convolved at a time, so that they stay in the first cache
COUNT, START, UPDATE = range(3)

# error_model: the check for a division by zero would keep LLVM from vectorising
kernel = njit(fastmath={'contract', 'reassoc', 'nsz', 'arcp'}, error_model='numpy', nogil=True, cache=True)


def refine_by_grid(image: np.ndarray, mask: np.ndarray, settings: CrfSettings, dimensions: int) -> np.ndarray:
    """The mask (bool) after the mean field; image, finite, and mask, bool: (z, y, x), not empty.

    dimensions 3: one field; 2: a field for each slice, several at a time, and no liver in slices without any. Other arguments: see
    dense_crf. Memory: 12 bytes a voxel and three grids of float32; with 2 dimensions those of as many slices as there are threads.
    Raises InputError if the grid would have too many cells.
    """
    image = np.ascontiguousarray(image, np.int16 if np.can_cast(image.dtype, np.int16) else np.float32)
    unary = log(settings.confidence / (1 - settings.confidence))
    weights = [np.float32(w / 2) for w in (unary, settings.spatial_weight, settings.bilateral_weight)]

    def field(part, each):
        return mean_field(image[part], mask[part], settings, weights, each)

    with ThreadPoolExecutor(machine.threads()) as threads:
        if dimensions == 3:
            return field(slice(None), threads.map)
        refined = np.zeros(mask.shape, bool)

        def refine(z):
            refined[z : z + 1] = field(slice(z, z + 1), map)

        list(threads.map(refine, np.flatnonzero(mask.any((1, 2)))))  # list: so that an exception surfaces
        return refined


def mean_field(image, mask, settings, weights, each):
    """One field, as in grid_field; image int16 or float32, both (z, y, x) in C order.

    weights: half of the unary logit, of the spatial and of the bilateral weight; each: `map`, or that of an executor.
    """
    mask, s2, s3 = mask.view(np.uint8), settings.s2, settings.s3
    low, high = float(image.min()), float(image.max())
    nv, size_v, taps_v = _cells(high - low, s3, s3)
    line_v = nv + len(taps_v) - 1  # zeros part the lines along v, so that one pass blurs all of them
    for cell in CELLS:
        (nz, cell_z, part_z, taps_z), (ny, cell_y, part_y, taps_y), (nx, cell_x, part_x, taps_x) = (
            _axis(n, s2, cell) for n in image.shape
        )
        if nz * ny * nx * line_v <= max(MOST_CELLS * image.size, FREE_CELLS):
            break
    else:
        raise InputError(
            f"s2, s3: crf_engine='grid' would need {nz} x {ny} x {nx} x {line_v} cells, more than {MOST_CELLS} a voxel; "
            f"wanted a larger s2 or s3, got {s2} and {s3}, or crf_engine='pydensecrf'"
        )
    intervals = nz - 1
    if len(image) == 1:
        nz = 1  # of its two planes the second one is empty
    blurred = np.empty((nz, ny, nx * line_v), np.float32)
    sums = np.empty((intervals, 2, ny, nx * line_v), np.float32)
    bounds = np.searchsorted(cell_z, range(intervals + 1))
    norm, old, new = (np.empty(image.shape, np.float32) for _ in range(3))
    levels = np.float32(low), np.float32(1 / size_v), np.int32(nv - 2), np.uint32(line_v)
    places = part_z, cell_y, part_y, (cell_x * line_v).astype(np.uint32), part_x
    taps = tuple(_taps(settings.s1, n) for n in image.shape)
    scales = tuple(_scale(n, t) for n, t in zip(image.shape, taps))

    def sweep(step):
        def interval(k):
            return _sweep(
                step,
                bounds[k],
                bounds[k + 1],
                image,
                mask,
                norm,
                old,
                new,
                blurred[k : k + 2],
                sums[k],
                levels,
                places,
                taps,
                scales,
                *weights,
            )

        return sum(each(interval, range(intervals)))

    def blur():
        def plane(k):
            _blur(sums, k, (taps_z, taps_y, taps_x, taps_v), line_v, blurred[k])

        list(each(plane, range(nz)))

    sweep(COUNT)
    blur()
    sweep(START)
    for _ in range(settings.max_iter):
        old, new = new, old
        blur()
        changed = sweep(UPDATE)
        if settings.tolerance and changed <= settings.tolerance * image.size:
            break
    return new > 0


def _cells(extent, sigma, cell, added=1 / 3):
    """Nodes of a grid axis over `extent`, at most `cell` apart, at least 2; their distance; taps of the blur.

    added: variance of the two linear interpolations, cell^2; 1 / 3 for values that lie anywhere between the nodes.
    """
    intervals = max(1, ceil(extent / cell - 1e-6))
    size = extent / intervals or 1.0
    return intervals + 1, size, _taps(sqrt(max((sigma / size) ** 2 - added, 0)), intervals + 1)


def _axis(n, sigma, cell):
    """For an axis of n voxels: nodes; each voxel's interval and fraction of the way to its end; taps of the blur."""
    cell = max(cell * sigma, 1)
    nodes, size, _ = _cells(n - 1, sigma, cell)
    position = np.arange(n) / size
    interval = np.minimum(position.astype(int), nodes - 2)
    part = position - interval
    taps = _cells(n - 1, sigma, cell, 2 * (part * (1 - part)).mean())[2]
    return nodes, interval, part.astype(np.float32), taps


def _taps(sigma, n):
    """The middle and one half of a Gaussian of `sigma` along an axis of n nodes, its middle 1: the norm takes any factor out."""
    k = np.arange(min(int(REACH * sigma), n - 1) + 1)
    return np.exp(-0.5 * (k / max(sigma, 1e-6)) ** 2).astype(np.float32)


def _scale(n, taps):
    """D^-1/2 of a convolution of n voxels."""
    both = np.concatenate([taps[:0:-1], taps]).astype(float)
    return (1 / np.sqrt(np.convolve(np.ones(n), both)[len(taps) - 1 :][:n])).astype(np.float32)


def _lambert(levels):
    """tanh(x) = x P(x^2) / Q(x^2) from Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))); highest power first."""
    over, under = np.poly1d([1.0]), np.poly1d([2 * levels - 1.0])
    for odd in range(2 * levels - 3, 0, -2):
        over, under = under, odd * under + np.poly1d([1, 0]) * over
    return [tuple(np.float32(c / under[0]) for c in polynomial.coeffs) for polynomial in (over, under)]


P, Q = _lambert(12)  # within 1e-6 for |x| <= 9, where float32 has reached 1


# ---- kernels over a row, or over all that lies in one piece. Short ones of few arrays: LLVM vectorises those.


@kernel
def _zero(out):
    for i in range(len(out)):
        out[i] = 0


@kernel
def _copy(source, out):
    for i in range(len(out)):
        out[i] = source[i]


@kernel
def _multiply(first, second, factor, out):
    for i in range(len(out)):
        out[i] = first[i] * second[i] * factor


@kernel
def _add(source, weight, out):
    for i in range(len(out)):
        out[i] += weight * source[i]


@kernel
def _convolve(source, taps, stride, out):
    """out[i] = sum over k of taps[|k|] source[i + k stride], zeros beyond the ends."""
    weight = taps[0]
    for i in range(len(out)):
        out[i] = weight * source[i]
    for k in range(1, len(taps)):
        shift = k * stride
        _add(source[:-shift], taps[k], out[shift:])
        _add(source[shift:], taps[k], out[:-shift])


@kernel
def _mix(first, second, part, out):
    for i in range(len(out)):
        out[i] = first[i] + part * (second[i] - first[i])


@kernel
def _share(source, part, first, second):
    """The transpose of _mix."""
    for i in range(len(source)):
        share = part * source[i]
        first[i] += source[i] - share
        second[i] += share


@kernel
def _locate(image, levels, corner, cell, part):
    """Each voxel's lower cell in a line (x, v) of the grid, and its fraction of the way to the next one along v."""
    low, per_cell, last, _ = levels
    for i in range(len(image)):
        v = (np.float32(image[i]) - low) * per_cell
        whole = min(np.int32(v), last)
        cell[i] = corner[i] + np.uint32(whole)
        part[i] = v - np.float32(whole)


@kernel
def _slice(line, cell, part_x, part_v, line_v, out):
    one = np.uint32(1)
    for i in range(len(out)):
        a = cell[i]
        b = a + line_v
        near = line[a] + part_v[i] * (line[a + one] - line[a])
        far = line[b] + part_v[i] * (line[b + one] - line[b])
        out[i] = near + part_x[i] * (far - near)


@kernel
def _splat(values, cell, part_x, part_v, line_v, line):
    """The transpose of _slice. Two halves of the row in turn: sums into one cell wait for each other."""
    one = np.uint32(1)
    half = (len(values) + 1) // 2
    for start in range(half):
        for i in range(start, len(values), half):
            a = cell[i]
            b = a + line_v
            far = part_x[i] * values[i]
            near = values[i] - far
            up = part_v[i] * near
            line[a] += near - up
            line[a + one] += up
            up = part_v[i] * far
            line[b] += far - up
            line[b + one] += up


@kernel
def _start(mask, unary, values, norm):
    """values: in K 1, out the halved unary logit."""
    for i in range(len(mask)):
        norm[i] = 1 / np.sqrt(values[i])
        values[i] = unary * (np.float32(2) * np.float32(mask[i]) - np.float32(1))


@kernel
def _logit(mask, near, scale, norm, unary, spatial, bilateral, values):
    """values: in the sliced grid, out the halved logit."""
    for i in range(len(mask)):
        values[i] = (
            unary * (np.float32(2) * np.float32(mask[i]) - np.float32(1))
            + spatial * scale[i] * near[i]
            + bilateral * norm[i] * values[i]
        )


@kernel
def _tanh(values):
    for i in range(len(values)):
        x = min(max(values[i], np.float32(-9)), np.float32(9))
        s = x * x
        over = ((((P[0] * s + P[1]) * s + P[2]) * s + P[3]) * s + P[4]) * s + P[5]
        under = (((((Q[0] * s + Q[1]) * s + Q[2]) * s + Q[3]) * s + Q[4]) * s + Q[5]) * s + Q[6]
        values[i] = x * over / under


@kernel
def _changes(old, new):
    count = 0
    for i in range(len(old)):
        count += (old[i] > 0) != (new[i] > 0)
    return count


# ---- kernels over planes


@kernel
def _blur(sums, k, taps, line_v, out):
    """Plane k of the grid, out (y, x v), from the sums (interval, 2, y, x v) of the voxels before and behind the planes."""
    out = out.reshape(-1)
    work = np.zeros(out.size, np.float32)
    line = sums.shape[3]
    taps_z, taps_y, taps_x, taps_v = taps
    for j in range(max(0, k - len(taps_z) + 1), min(len(sums) + 1, k + len(taps_z))):
        weight = taps_z[abs(j - k)]
        if j < len(sums):
            _add(sums[j, 0].reshape(-1), weight, work)
        if j > 0:
            _add(sums[j - 1, 1].reshape(-1), weight, work)
    _convolve(work, taps_y, line, out)
    for start in range(0, out.size, line):
        _convolve(out[start : start + line], taps_x, line_v, work[start : start + line])
    _convolve(work, taps_v, 1, out)


@kernel
def _gaussian(p, z, taps, out):
    """Slice z of p (z, y, x), convolved along all axes, into out (y, x and as many columns more as the taps reach)."""
    ny, nx = p.shape[1:]
    taps_z, taps_y, taps_x = taps
    reach = len(taps_y) - 1
    rows = np.zeros((ny + 2 * reach, nx), np.float32)
    block = max(1, BLOCK // nx)
    work = np.empty((block, nx), np.float32)
    parted = np.zeros((block, out.shape[1]), np.float32)  # by zeros, so that one pass convolves all rows
    for y in range(0, ny, block):
        n = min(block, ny - y)
        for k in range(max(0, z - len(taps_z) + 1), min(len(p), z + len(taps_z))):
            _add(p[k, y : y + n].reshape(-1), taps_z[abs(k - z)], rows[reach + y : reach + y + n].reshape(-1))
    for y in range(0, ny, block):
        n = min(block, ny - y)
        _zero(work[:n].reshape(-1))
        for k in range(-reach, reach + 1):
            _add(rows[reach + y + k : reach + y + k + n].reshape(-1), taps_y[abs(k)], work[:n].reshape(-1))
        for i in range(n):
            _copy(work[i], parted[i, :nx])
        _convolve(parted[:n].reshape(-1), taps_x, 1, out[y : y + n].reshape(-1))


@kernel
def _sweep(
    step,
    start,
    stop,
    image,
    mask,
    norm,
    old,
    new,
    blurred,
    sums,
    levels,
    places,
    taps,
    scales,
    unary,
    spatial,
    bilateral,
):
    """One pass over the slices [start, stop) between two grid planes: the number of labels that change.

    COUNT splats ones; START slices K 1, sets norm = D^-1/2 and the field of the unary; UPDATE slices Khat p and makes the next field.
    The last two splat norm x field into `sums` (2, y, x v). old and new hold the field times the spatial D^-1/2.
    """
    ny, nx = image.shape[1:]
    part_z, cell_y, part_y, corner, part_x = places
    scale_z, scale_y, scale_x = scales
    line_v = levels[3]
    plane = np.empty(sums.shape[1:], np.float32)
    total = np.empty(sums.shape[1:], np.float32)
    line = np.empty(sums.shape[2], np.float32)
    cell = np.empty(nx, np.uint32)
    part_v = np.empty(nx, np.float32)
    values = np.ones(nx, np.float32)
    near = np.empty((ny, nx + len(taps[2]) - 1), np.float32)
    changed = 0
    _zero(sums.reshape(-1))
    for z in range(start, stop):
        if step != COUNT:
            _mix(blurred[0].reshape(-1), blurred[-1].reshape(-1), part_z[z], plane.reshape(-1))
        if step == UPDATE:
            _gaussian(old, z, taps, near)
        _zero(total.reshape(-1))
        for y in range(ny):
            _locate(image[z, y], levels, corner, cell, part_v)
            if step != COUNT:
                _mix(plane[cell_y[y]], plane[cell_y[y] + 1], part_y[y], line)
                _slice(line, cell, part_x, part_v, line_v, values)
                scale = scale_z[z] * scale_y[y]
                if step == START:
                    _start(mask[z, y], unary, values, norm[z, y])
                else:
                    _logit(mask[z, y], near[y], scale_x, norm[z, y], unary, spatial * scale, bilateral, values)
                _tanh(values)
                if step == UPDATE:
                    changed += _changes(old[z, y], values)
                _multiply(values, scale_x, scale, new[z, y])
                _multiply(values, norm[z, y], np.float32(1), values)
            _zero(line)
            _splat(values, cell, part_x, part_v, line_v, line)
            _share(line, part_y[y], total[cell_y[y]], total[cell_y[y] + 1])
        _share(total.reshape(-1), part_z[z], sums[0].reshape(-1), sums[1].reshape(-1))
    return changed
