"""Mean field of a dense CRF with two labels, its bilateral kernel on a coarse grid.

Two labels need one channel. Let p = P(liver) - P(background) for each voxel, and K' = D^-1/2 K D^-1/2 a kernel K with
its symmetric normalisation, D = diag(K 1). For Potts weights, the update of Kraehenbuehl and Koltun (NIPS 2011) is

    p = tanh(l / 2),  l = +-ln(c / (1 - c)) + spatial weight x K'_spatial p + bilateral weight x K'_bilateral p

where the sign is + inside the mask and - outside, and c is the confidence in the mask.

- Spatial kernel: a Gaussian in (z, y, x) is a product of convolutions along the axes, and so is its K 1.
- Bilateral kernel: a wide Gaussian in (z, y, x, v), where v is the intensity. As in the bilateral grid (Paris and
  Durand, ECCV 2006), the voxels are splatted to a coarse grid with linear weights, the grid is blurred along each axis,
  and the voxels are sliced from it with the same weights. Linear splatting and slicing also blur, so their variance
  is subtracted from that of the Gaussian along each axis.

A grid plane of one z has the shape (y nodes, x nodes * stride), written (y, x v) below: a row of the plane consists of
one line along v for each node x. Every line ends with zeros, so that one convolution of the whole plane blurs all lines
along v without mixing neighbouring lines.

The slices of voxels between two neighbouring grid planes are one unit of work, called an interval. Each interval splats
into two planes of its own, so threads never add to the same number, and the number of threads does not change a bit of
the result.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from math import ceil, log, prod, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from Densecrf.crf_settings import CrfSettings
from utilities.base import machine
from utilities.base.errors import InputError

MAX_DISTANCE = 3.7  # standard deviations at which a kernel is cut off: 1e-3 of its height
# Cell sizes along z, y and x, in standard deviations. The first one is used whose grid is not too large. Along v the
# cell size is always 1.
CELL_SIZES = 0.5, 0.7, 1
MAX_CELLS_PER_VOXEL = 4  # a grid of this size needs a third of pydensecrf's memory
FREE_CELLS = 2**20  # a grid with up to this number of cells is accepted for any number of voxels
BLOCK = 4096  # voxels convolved at a time, so that they stay in the first-level cache
SPLAT_ONES, START, ITERATE = range(3)  # steps of the mean field; see _process_slices

# error_model: the check for a division by zero would keep LLVM from vectorising.
kernel = njit(fastmath={'contract', 'reassoc', 'nsz', 'arcp'}, error_model='numpy', nogil=True, cache=True)


class Voxels(NamedTuple):
    """Arrays (z, y, x) of one mean field; see `_process_slices` for norm, old and new."""

    image: np.ndarray  # int16 or float32, HU
    mask: np.ndarray  # uint8
    norm: np.ndarray  # float32: D^-1/2 of the bilateral kernel
    old: np.ndarray  # float32: p of the last iteration times D^-1/2 of the spatial kernel
    new: np.ndarray  # float32: the same of this iteration


class Axis(NamedTuple):
    """An axis (z, y or x) of the grid, and where n slices of voxels lie on it."""

    nodes: int
    cell: np.ndarray  # (n,): the node before each slice
    fraction: np.ndarray  # (n,) float32: position of each slice between that node and the next, 0 to 1
    half_kernel: np.ndarray  # float32: the blur, see _half_gaussian


class IntensityAxis(NamedTuple):
    """The axis v of the grid."""

    lowest: np.float32  # HU of the first node
    nodes_per_hu: np.float32
    last_cell: np.int32  # the node before the last one
    stride: np.uint32  # length of a line along v, with the zeros that end it


class Model(NamedTuple):
    """The weights, kernels and grid positions of one mean field; the iterations do not change them."""

    z_fraction: np.ndarray  # Axis.fraction of each slice
    y_cell: np.ndarray  # Axis.cell of each row
    y_fraction: np.ndarray  # Axis.fraction of each row
    x_offset: np.ndarray  # for each column, the index in a grid row at which the line of its node begins
    x_fraction: np.ndarray  # Axis.fraction of each column
    intensity: IntensityAxis
    spatial_kernels: tuple  # half kernels along z, y, x
    spatial_norms: tuple  # D^-1/2 of these convolutions along z, y, x
    unary_weight: np.float32  # the three weights are halved, because p = tanh(l / 2)
    spatial_weight: np.float32
    bilateral_weight: np.float32


def refine_by_grid(image: np.ndarray, mask: np.ndarray, settings: CrfSettings, dimensions: int) -> np.ndarray:
    """Return the mask, bool (z, y, x), after the mean-field iterations.

    Memory: 12 bytes per voxel and three grids of float32. With dimensions 2, this counts only the slices that are
    refined at the same time, one per thread.

    Args:
        image: HU, (z, y, x), finite.
        mask: bool, (z, y, x), not empty.
        settings: the CRF's parameters; `engine` is ignored.
        dimensions: 3 for one CRF over the volume; 2 for one CRF per slice, several slices at a time. A slice without
            liver stays empty.

    Raises:
        InputError: the grid would have too many cells.
    """
    image = np.ascontiguousarray(image, np.int16 if np.can_cast(image.dtype, np.int16) else np.float32)
    with ThreadPoolExecutor(machine.threads()) as pool:
        if dimensions == 3:
            return MeanField(image, mask, settings, pool.map).run()
        refined = np.zeros(mask.shape, bool)
        slices = [slice(z, z + 1) for z in np.flatnonzero(mask.any((1, 2)))]
        fields = pool.map(lambda z: MeanField(image[z], mask[z], settings, map).run(), slices)
        for z, field in zip(slices, fields):
            refined[z] = field
        return refined


class MeanField:
    """The mean field of one CRF: its voxels, its grid, and the steps over the intervals of the grid."""

    def __init__(self, image: np.ndarray, mask: np.ndarray, settings: CrfSettings, map_function: Callable) -> None:
        """Build the grid and compute nothing yet.

        Args:
            image: int16 or float32 (z, y, x) in C order, finite HU.
            mask: bool (z, y, x) in C order.
            settings: the CRF's parameters.
            map_function: `map`, or an executor's, to run over the intervals of the grid.
        """
        self.settings, self.map = settings, map_function
        lowest, highest = float(image.min()), float(image.max())
        v_nodes, v_size, v_kernel = _place_nodes(highest - lowest, settings.s3, settings.s3)
        stride = v_nodes + len(v_kernel) - 1
        z_axis, y_axis, x_axis = _choose_axes(image.shape, stride, settings)
        unary = log(settings.confidence / (1 - settings.confidence))
        weights = [np.float32(w / 2) for w in (unary, settings.spatial_weight, settings.bilateral_weight)]
        spatial_kernels = tuple(_half_gaussian(settings.s1, n) for n in image.shape)
        self.model = Model(
            z_axis.fraction,
            y_axis.cell,
            y_axis.fraction,
            (x_axis.cell * stride).astype(np.uint32),
            x_axis.fraction,
            IntensityAxis(np.float32(lowest), np.float32(1 / v_size), np.int32(v_nodes - 2), np.uint32(stride)),
            spatial_kernels,
            tuple(_convolution_norm(n, half) for n, half in zip(image.shape, spatial_kernels)),
            *weights,
        )
        self.blur_kernels = z_axis.half_kernel, y_axis.half_kernel, x_axis.half_kernel, v_kernel
        self.voxels = Voxels(image, mask.view(np.uint8), *(np.empty(image.shape, np.float32) for _ in range(3)))

        self.intervals = z_axis.nodes - 1
        # The first slice of each interval, and at the end the number of slices.
        self.bounds = np.searchsorted(z_axis.cell, range(self.intervals + 1))
        # A single slice lies exactly on the first plane, so the second plane is not needed.
        planes = z_axis.nodes if len(image) > 1 else 1
        self.blurred = np.empty((planes, y_axis.nodes, x_axis.nodes * stride), np.float32)
        self.sums = np.empty((self.intervals, 2, *self.blurred.shape[1:]), np.float32)

    def run(self) -> np.ndarray:
        """Iterate, and return where liver is the more probable label."""
        self._process(SPLAT_ONES)
        self._blur()
        self._process(START)
        for _ in range(self.settings.max_iter):
            self.voxels = self.voxels._replace(old=self.voxels.new, new=self.voxels.old)
            self._blur()
            changed = self._process(ITERATE)
            if self.settings.tolerance and changed <= self.settings.tolerance * self.voxels.image.size:
                break
        return self.voxels.new > 0

    def _process(self, step: int) -> int:
        """Do a step on all slices; return the number of labels that it changed."""
        return sum(self.map(self._process_interval, repeat(step, self.intervals), range(self.intervals)))

    def _process_interval(self, step: int, k: int) -> int:
        """Do a step on the slices of interval k; return the number of labels that it changed."""
        start, stop = self.bounds[k], self.bounds[k + 1]
        return _process_slices(step, start, stop, self.voxels, self.model, self.blurred[k : k + 2], self.sums[k])

    def _blur(self) -> None:
        """Fill the blurred grid from the sums of the intervals."""
        # list() waits for all planes and raises their exceptions.
        list(self.map(self._blur_plane, range(len(self.blurred))))

    def _blur_plane(self, k: int) -> None:
        """Fill plane k of the blurred grid."""
        _blur_plane(self.sums, k, self.blur_kernels, int(self.model.intensity.stride), self.blurred[k])


def _choose_axes(shape: tuple[int, ...], stride: int, settings: CrfSettings) -> list[Axis]:
    """Return the axes z, y, x of the finest grid that does not have too many cells.

    stride: nodes of a line along v. Raises InputError if even the coarsest grid has too many.
    """
    for cell_size in CELL_SIZES:
        axes = [_make_axis(n, settings.s2, cell_size) for n in shape]
        nodes = [axis.nodes for axis in axes]
        if prod(nodes) * stride <= max(MAX_CELLS_PER_VOXEL * prod(shape), FREE_CELLS):
            return axes
    raise InputError(
        f"s2, s3: crf_engine='grid' would need {' x '.join(map(str, nodes))} x {stride} cells, more than "
        f'{MAX_CELLS_PER_VOXEL} a voxel; wanted a larger s2 or s3, got {settings.s2} and {settings.s3}, or '
        f"crf_engine='pydensecrf'"
    )


def _make_axis(n: int, sigma: float, cell_size: float) -> Axis:
    """Return the grid axis for n slices of voxels, of which the first and the last lie on nodes.

    sigma: standard deviation of the bilateral kernel (voxels). cell_size: largest distance between two neighbouring
    nodes (standard deviations); a size below one voxel is raised to one voxel.
    """
    max_distance = max(cell_size * sigma, 1)
    nodes, distance, _ = _place_nodes(n - 1, sigma, max_distance)
    position = np.arange(n) / distance
    cell = np.minimum(position.astype(int), nodes - 2)
    fraction = position - cell
    # Splatting and slicing with linear weights have the variance 2 f (1 - f) cells^2 at the fraction f.
    half_kernel = _place_nodes(n - 1, sigma, max_distance, 2 * (fraction * (1 - fraction)).mean())[2]
    return Axis(nodes, cell, fraction.astype(np.float32), half_kernel)


def _place_nodes(
    extent: float, sigma: float, max_distance: float, interpolation_variance: float = 1 / 3
) -> tuple[int, float, np.ndarray]:
    """Return the number of nodes (2 or more) over an extent, their distance, and the half kernel of the blur.

    Args:
        extent: distance of the first and the last node, in the unit of sigma and max_distance.
        sigma: standard deviation of the kernel.
        max_distance: largest distance of two neighbouring nodes.
        interpolation_variance: variance of splatting and slicing together, in squared node distances; 1/3 is the mean
            over values anywhere between the nodes.
    """
    intervals = max(1, ceil(extent / max_distance - 1e-6))
    distance = extent / intervals or 1.0
    blur_sigma = sqrt(max((sigma / distance) ** 2 - interpolation_variance, 0))
    return intervals + 1, distance, _half_gaussian(blur_sigma, intervals + 1)


def _half_gaussian(sigma: float, n: int) -> np.ndarray:
    """Return the centre and one half of a Gaussian kernel for an axis of n nodes, float32.

    The centre is 1 instead of the sum: the symmetric normalisation cancels any factor.
    """
    k = np.arange(min(int(MAX_DISTANCE * sigma), n - 1) + 1)
    return np.exp(-0.5 * (k / max(sigma, 1e-6)) ** 2).astype(np.float32)


def _convolution_norm(n: int, half_kernel: np.ndarray) -> np.ndarray:
    """Return D^-1/2 of a convolution along an axis of n voxels, float32 (n,)."""
    whole = np.concatenate([half_kernel[:0:-1], half_kernel]).astype(float)
    return (1 / np.sqrt(np.convolve(np.ones(n), whole)[len(half_kernel) - 1 :][:n])).astype(np.float32)


def _lambert(levels: int) -> list[tuple[np.float32, ...]]:
    """Return the coefficients, highest power first, of P and Q with tanh(x) = x P(x^2) / Q(x^2).

    They come from Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))), cut off after `levels` levels.
    """
    numerator, denominator = np.poly1d([1.0]), np.poly1d([2 * levels - 1.0])
    for odd in range(2 * levels - 3, 0, -2):
        numerator, denominator = denominator, odd * denominator + np.poly1d([1, 0]) * numerator
    return [tuple(np.float32(c / denominator[0]) for c in part.coeffs) for part in (numerator, denominator)]


P, Q = _lambert(12)  # the error is below 1e-6 for |x| <= 9, where tanh in float32 has reached 1


# ---- Kernels over one row or one contiguous array. They are short and take few arrays, so that LLVM vectorises them.


@kernel
def _multiply(first, second, factor, out):
    for i in range(len(out)):
        out[i] = first[i] * second[i] * factor


@kernel
def _add_scaled(source, weight, out):
    for i in range(len(out)):
        out[i] += weight * source[i]


@kernel
def _convolve(source, half_kernel, stride, out):
    """out[i] = sum over k of half_kernel[|k|] source[i + k stride], with zeros beyond the ends."""
    weight = half_kernel[0]
    for i in range(len(out)):
        out[i] = weight * source[i]
    for k in range(1, len(half_kernel)):
        shift = k * stride
        _add_scaled(source[:-shift], half_kernel[k], out[shift:])
        _add_scaled(source[shift:], half_kernel[k], out[:-shift])


@kernel
def _interpolate(first, second, fraction, out):
    for i in range(len(out)):
        out[i] = first[i] + fraction * (second[i] - first[i])


@kernel
def _distribute(source, fraction, first, second):
    """Add `source` to `first` and `second` with the weights of _interpolate: its transpose."""
    for i in range(len(source)):
        share = fraction * source[i]
        first[i] += source[i] - share
        second[i] += share


@kernel
def _locate(image, intensity, x_offset, offset, v_fraction):
    """Find each voxel of a row in a grid row: the offset of the node before it in x and v, and its fraction along v."""
    for i in range(len(image)):
        v = (np.float32(image[i]) - intensity.lowest) * intensity.nodes_per_hu
        cell = min(np.int32(v), intensity.last_cell)
        offset[i] = x_offset[i] + np.uint32(cell)
        v_fraction[i] = v - np.float32(cell)


@kernel
def _slice(grid_row, offset, x_fraction, v_fraction, stride, out):
    """Interpolate each voxel of a row from a grid row, bilinearly in x and v."""
    one = np.uint32(1)
    for i in range(len(out)):
        a = offset[i]
        b = a + stride
        at_x = grid_row[a] + v_fraction[i] * (grid_row[a + one] - grid_row[a])
        at_next_x = grid_row[b] + v_fraction[i] * (grid_row[b + one] - grid_row[b])
        out[i] = at_x + x_fraction[i] * (at_next_x - at_x)


@kernel
def _splat(values, offset, x_fraction, v_fraction, stride, grid_row):
    """Add the voxels of a row to a grid row: the transpose of _slice.

    It alternates between the two halves of the row: neighbouring voxels often add to the same cell, and then one
    addition has to wait for the other.
    """
    one = np.uint32(1)
    half = (len(values) + 1) // 2
    for start in range(half):
        for i in range(start, len(values), half):
            a = offset[i]
            b = a + stride
            to_next_x = x_fraction[i] * values[i]
            to_x = values[i] - to_next_x
            to_next_v = v_fraction[i] * to_x
            grid_row[a] += to_x - to_next_v
            grid_row[a + one] += to_next_v
            to_next_v = v_fraction[i] * to_next_x
            grid_row[b] += to_next_x - to_next_v
            grid_row[b + one] += to_next_v


@kernel
def _start_from_mask(mask, unary_weight, values, norm):
    """Set norm to D^-1/2, where `values` is K 1; then set `values` to the halved unary logit."""
    for i in range(len(mask)):
        norm[i] = 1 / np.sqrt(values[i])
        values[i] = unary_weight * (np.float32(2) * np.float32(mask[i]) - np.float32(1))


@kernel
def _add_terms(mask, smoothed, spatial_norm, norm, unary_weight, spatial_weight, bilateral_weight, values):
    """Turn `values`, sliced from the grid, into the halved logit of a row: the sum of the three terms."""
    for i in range(len(mask)):
        values[i] = (
            unary_weight * (np.float32(2) * np.float32(mask[i]) - np.float32(1))
            + spatial_weight * spatial_norm[i] * smoothed[i]
            + bilateral_weight * norm[i] * values[i]
        )


@kernel
def _tanh(values):
    for i in range(len(values)):
        x = min(max(values[i], np.float32(-9)), np.float32(9))
        s = x * x
        numerator = ((((P[0] * s + P[1]) * s + P[2]) * s + P[3]) * s + P[4]) * s + P[5]
        denominator = (((((Q[0] * s + Q[1]) * s + Q[2]) * s + Q[3]) * s + Q[4]) * s + Q[5]) * s + Q[6]
        values[i] = x * numerator / denominator


@kernel
def _count_changes(old, new):
    """Count the voxels of a row whose sign, and so whose label, differs."""
    count = 0
    for i in range(len(old)):
        count += (old[i] > 0) != (new[i] > 0)
    return count


# ---- Kernels over planes


@kernel
def _blur_plane(sums, k, half_kernels, stride, out):
    """Blur plane k of the grid into `out` (y, x v).

    sums (interval, 2, y, x v): what the voxels of each interval have added to the plane before and behind them.
    """
    out = out.reshape(-1)
    work = np.zeros(out.size, np.float32)
    row_length = sums.shape[3]
    z_kernel, y_kernel, x_kernel, v_kernel = half_kernels
    for j in range(max(0, k - len(z_kernel) + 1), min(len(sums) + 1, k + len(z_kernel))):
        weight = z_kernel[abs(j - k)]
        if j < len(sums):
            _add_scaled(sums[j, 0].reshape(-1), weight, work)
        if j > 0:
            _add_scaled(sums[j - 1, 1].reshape(-1), weight, work)
    _convolve(work, y_kernel, row_length, out)
    for start in range(0, out.size, row_length):
        _convolve(out[start : start + row_length], x_kernel, stride, work[start : start + row_length])
    _convolve(work, v_kernel, 1, out)


@kernel
def _smooth_slice(p, z, half_kernels, out):
    """Convolve slice z of p (z, y, x) along all axes into `out` (y, x).

    `out` has more columns than p: as many as the kernel along x reaches to one side.
    """
    ny, nx = p.shape[1:]
    z_kernel, y_kernel, x_kernel = half_kernels
    reach = len(y_kernel) - 1
    rows = np.zeros((ny + 2 * reach, nx), np.float32)
    block = max(1, BLOCK // nx)
    work = np.empty((block, nx), np.float32)
    padded = np.zeros((block, out.shape[1]), np.float32)  # zeros between the rows, so that one pass convolves all
    for y in range(0, ny, block):
        n = min(block, ny - y)
        for k in range(max(0, z - len(z_kernel) + 1), min(len(p), z + len(z_kernel))):
            target = rows[reach + y : reach + y + n].reshape(-1)
            _add_scaled(p[k, y : y + n].reshape(-1), z_kernel[abs(k - z)], target)
    for y in range(0, ny, block):
        n = min(block, ny - y)
        work[:n] = 0
        for k in range(-reach, reach + 1):
            source = rows[reach + y + k : reach + y + k + n].reshape(-1)
            _add_scaled(source, y_kernel[abs(k)], work[:n].reshape(-1))
        padded[:n, :nx] = work[:n]
        _convolve(padded[:n].reshape(-1), x_kernel, 1, out[y : y + n].reshape(-1))


@kernel
def _process_slices(step, start, stop, voxels, model, blurred, sums):
    """Do a step on the slices [start, stop) of one interval; return the number of labels that it changes.

    SPLAT_ONES splats ones. START slices K 1 from the blurred grid, sets voxels.norm to D^-1/2, and starts p from the
    unary term. ITERATE slices the bilateral message and computes the next p. The last two store p times the spatial
    D^-1/2 in voxels.new, and splat p times voxels.norm.

    Args:
        step: SPLAT_ONES, START or ITERATE.
        start, stop: the slices between two planes of the grid.
        voxels, model: see their classes.
        blurred: the two planes (y, x v) before and behind the slices.
        sums: planes (2, y, x v) that the slices are splatted to.
    """
    ny, nx = voxels.image.shape[1:]
    intensity = model.intensity
    z_norm, y_norm, x_norm = model.spatial_norms
    grid_plane = np.empty(sums.shape[1:], np.float32)
    splat_plane = np.empty(sums.shape[1:], np.float32)
    grid_row = np.empty(sums.shape[2], np.float32)
    offset = np.empty(nx, np.uint32)
    v_fraction = np.empty(nx, np.float32)
    values = np.ones(nx, np.float32)
    smoothed = np.empty((ny, nx + len(model.spatial_kernels[2]) - 1), np.float32)
    changed = 0
    sums[:] = 0
    for z in range(start, stop):
        if step != SPLAT_ONES:
            _interpolate(blurred[0].reshape(-1), blurred[-1].reshape(-1), model.z_fraction[z], grid_plane.reshape(-1))
        if step == ITERATE:
            _smooth_slice(voxels.old, z, model.spatial_kernels, smoothed)
        splat_plane[:] = 0
        for y in range(ny):
            cell, fraction = model.y_cell[y], model.y_fraction[y]
            mask, norm = voxels.mask[z, y], voxels.norm[z, y]
            _locate(voxels.image[z, y], intensity, model.x_offset, offset, v_fraction)
            if step != SPLAT_ONES:
                _interpolate(grid_plane[cell], grid_plane[cell + 1], fraction, grid_row)
                _slice(grid_row, offset, model.x_fraction, v_fraction, intensity.stride, values)
                zy_norm = z_norm[z] * y_norm[y]
                if step == START:
                    _start_from_mask(mask, model.unary_weight, values, norm)
                else:
                    spatial_weight = model.spatial_weight * zy_norm
                    _add_terms(
                        mask,
                        smoothed[y],
                        x_norm,
                        norm,
                        model.unary_weight,
                        spatial_weight,
                        model.bilateral_weight,
                        values,
                    )
                _tanh(values)
                if step == ITERATE:
                    changed += _count_changes(voxels.old[z, y], values)
                _multiply(values, x_norm, zy_norm, voxels.new[z, y])
                _multiply(values, norm, np.float32(1), values)
            grid_row[:] = 0
            _splat(values, offset, model.x_fraction, v_fraction, intensity.stride, grid_row)
            _distribute(grid_row, fraction, splat_plane[cell], splat_plane[cell + 1])
        _distribute(splat_plane.reshape(-1), model.z_fraction[z], sums[0].reshape(-1), sums[1].reshape(-1))
    return changed
