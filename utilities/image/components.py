"""Connected components of volumes, on runs instead of voxels.

A run is an unbroken stretch of marked voxels within one row along x. A mask of millions of marked voxels has some ten thousand runs, so
they take far less memory than a label a voxel, and far less time to join by union-find (Rosenfeld and Pfaltz 1966).
runs (n, 2): start and stop along x, in raster order; first (depth x height + 1): number of each row's first run, row = z x height + y.
The kernels run in one thread each and let Python's lock go.
"""

import numpy as np
from numba import njit

CHUNK = 64  # voxels passed over together where nothing changes


def as_bytes(mask):
    """A mask as uint8 in C order, non-zero where it was; copied only if it is of another type than uint8 and bool, or not in C order."""
    if mask.dtype not in (np.uint8, bool):
        mask = mask != 0
    return np.ascontiguousarray(mask).view(np.uint8)


def runs_of(mask):
    """runs and first of a mask (z, y, x), non-zero is marked; an empty mask has no runs."""
    depth, height, width = mask.shape
    rows = as_bytes(mask).reshape(depth * height, width)
    first = np.zeros(len(rows) + 1, np.int64)
    position = np.uint16 if width < 2**16 else np.int32
    scan(rows, first, np.empty((0, 2), position))
    runs = np.empty((first[-1], 2), position)
    scan(rows, first, runs)
    return runs, first


@njit(cache=True, nogil=True)
def scan(rows, first, runs):
    """Fill first, and runs where it has room for any: so the first of two calls counts, and the second stores."""
    height, width = rows.shape
    n = 0
    for row in range(height):
        first[row] = n
        line, inside = rows[row], False
        for start in range(0, width, CHUNK):
            stop = min(start + CHUNK, width)
            if not changes(line[start:stop], inside):
                continue
            for x in range(start, stop):
                if (line[x] != 0) != inside:
                    if len(runs):
                        runs[n, int(inside)] = x
                    n += inside
                    inside = not inside
        if inside:
            if len(runs):
                runs[n, 1] = width
            n += 1
    first[height] = n


@njit(cache=True, nogil=True)
def changes(part, inside):
    """Whether part of a row ends the run that we are inside of, or begins one; without branches, so many voxels are done at once."""
    change = np.uint8(0)
    for x in range(len(part)):
        change |= np.uint8((part[x] != 0) != inside)
    return change != 0


@njit(cache=True, nogil=True)
def root_of(parent, run):
    """First run of the component that `run` belongs to, as far as it is joined."""
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit(cache=True, nogil=True)
def join(parent, runs, a, a_end, b, b_end, reach):
    """Join the runs of two rows, a to a_end and b to b_end, that share an x, or do when one has grown by `reach` voxels."""
    while a < a_end and b < b_end:
        if runs[a, 0] < runs[b, 1] + reach and runs[b, 0] < runs[a, 1] + reach:
            i, j = root_of(parent, a), root_of(parent, b)
            if i < j:
                parent[j] = i
            else:
                parent[i] = j
        if runs[a, 1] < runs[b, 1]:
            a += 1
        else:
            b += 1


def components(runs, first, height, edges):
    """Components of runs, `height` rows a slice: neighbours share a face (6-connectivity), or with `edges` an edge as well (18).

    Returns each run's component, numbered in the raster order of their first voxels, and the components' sizes in voxels.
    """
    label = np.arange(len(runs), dtype=np.int32 if len(runs) < 2**31 else np.int64)
    return label, join_all(runs, first, height, int(edges), label)


@njit(cache=True, nogil=True)
def join_all(runs, first, height, edges, label):
    """Turn label, the runs' own numbers, into those of their components; returns the sizes."""
    for row in range(len(first) - 1):
        a, a_end, y = first[row], first[row + 1], row % height
        if a == a_end:
            continue
        if y:
            join(label, runs, a, a_end, first[row - 1], first[row], edges)
        if row >= height:
            above = row - height
            join(label, runs, a, a_end, first[above], first[above + 1], edges)
            if edges and y:
                join(label, runs, a, a_end, first[above - 1], first[above], 0)
            if edges and y < height - 1:
                join(label, runs, a, a_end, first[above + 1], first[above + 2], 0)

    n = 0
    for run in range(len(runs)):  # a parent comes before its children, so it has its number already
        if label[run] == run:
            label[run] = n
            n += 1
        else:
            label[run] = label[label[run]]
    sizes = np.zeros(n, np.int64)
    for run in range(len(runs)):
        sizes[label[run]] += np.int64(runs[run, 1]) - np.int64(runs[run, 0])
    return sizes


@njit(cache=True, nogil=True)
def gaps(runs, first, label, chosen, width):
    """runs and first of all that is not in component `chosen`, on rows of `width` voxels."""
    n = len(first) - 1
    for run in range(len(runs)):
        n += label[run] == chosen
    between, start = np.empty((n, 2), runs.dtype), np.empty(len(first), np.int64)
    n = 0
    for row in range(len(first) - 1):
        start[row] = n
        x = 0
        for run in range(first[row], first[row + 1]):
            if label[run] == chosen:
                if runs[run, 0] > x:
                    between[n, 0], between[n, 1] = x, runs[run, 0]
                    n += 1
                x = runs[run, 1]
        if x < width:
            between[n, 0], between[n, 1] = x, width
            n += 1
    start[-1] = n
    return between[:n], start


@njit(cache=True, nogil=True)
def on_border(runs, first, label, chosen, shape):
    """Whether component `chosen` reaches a face of the volume."""
    depth, height, width = shape
    for row in range(depth * height):
        z, y = divmod(row, height)
        outer = z == 0 or z == depth - 1 or y == 0 or y == height - 1
        for run in range(first[row], first[row + 1]):
            if label[run] == chosen and (outer or runs[run, 0] == 0 or runs[run, 1] == width):
                return True
    return False


@njit(cache=True, nogil=True)
def paint_between(rows, runs, first, label, skipped):
    """Set to 1 all voxels of rows (rows, width) but those of the runs whose component is not `skipped`."""
    for row in range(len(rows)):
        x = 0
        for run in range(first[row], first[row + 1]):
            if not skipped[label[run]]:
                rows[row, x : runs[run, 0]] = 1
                x = runs[run, 1]
        rows[row, x:] = 1
