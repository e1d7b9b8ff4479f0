"""Connected components of masks, computed on runs instead of voxels.

A run is an unbroken stretch of non-zero voxels in one row along x. A mask of millions of voxels has some ten thousand
runs, so they need far less memory than a label per voxel, and far less time to be joined by union-find (Rosenfeld and
Pfaltz 1966).

Two arrays describe the runs of a mask (z, y, x), whose rows are numbered z x height + y:

- runs (n, 2): start and stop of each run along x, in raster order;
- first_run (rows + 1,): number of the first run of each row, and at the end the number of runs.

Each kernel runs in one thread and releases Python's global lock.
"""

import numpy as np
from numba import njit

CHUNK = 64  # voxels that are skipped together if no run starts or ends among them


def as_bytes(mask: np.ndarray) -> np.ndarray:
    """Return a mask as uint8 in C order, non-zero inside.

    It is copied only if it is neither uint8 nor bool, or not in C order.
    """
    if mask.dtype not in (np.uint8, bool):
        mask = mask != 0
    return np.ascontiguousarray(mask).view(np.uint8)


def find_runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return runs and first_run of a mask (z, y, x), non-zero inside. An empty mask has no runs."""
    depth, height, width = mask.shape
    rows = as_bytes(mask).reshape(depth * height, width)
    first_run = np.zeros(len(rows) + 1, np.int64)
    dtype = np.uint16 if width < 2**16 else np.int32
    scan_runs(rows, first_run, np.empty((0, 2), dtype))
    runs = np.empty((first_run[-1], 2), dtype)
    scan_runs(rows, first_run, runs)
    return runs, first_run


@njit(cache=True, nogil=True)
def scan_runs(rows, first_run, runs):
    """Fill first_run, and store the runs of `rows` (rows, width) in `runs` unless that is of length 0."""
    n_rows, width = rows.shape
    n = 0
    for number in range(n_rows):
        first_run[number] = n
        row, inside = rows[number], False
        for start in range(0, width, CHUNK):
            stop = min(start + CHUNK, width)
            if not has_change(row[start:stop], inside):
                continue
            for x in range(start, stop):
                if (row[x] != 0) != inside:
                    if len(runs):
                        runs[n, int(inside)] = x
                    n += inside
                    inside = not inside
        if inside:
            if len(runs):
                runs[n, 1] = width
            n += 1
    first_run[n_rows] = n


@njit(cache=True, nogil=True)
def has_change(chunk, inside):
    """Return whether a run starts or ends within `chunk`, a part of a row.

    inside: whether the voxel before the chunk belongs to a run.

    The loop has no branches, so that LLVM vectorises it.
    """
    change = np.uint8(0)
    for x in range(len(chunk)):
        change |= np.uint8((chunk[x] != 0) != inside)
    return change != 0


@njit(cache=True, nogil=True)
def find_root(parent, run):
    """Return the first run of the component that `run` belongs to so far, and shorten the path to it."""
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit(cache=True, nogil=True)
def join_rows(parent, runs, a, a_stop, b, b_stop, reach):
    """Join the runs of two neighbouring rows that touch.

    The runs of the rows are those with the numbers [a, a_stop) and [b, b_stop). reach: 0 if two runs touch only where
    they share an x; 1 if it is also enough that one ends at x - 1 and the other starts at x (they touch diagonally).
    """
    while a < a_stop and b < b_stop:
        if runs[a, 0] < runs[b, 1] + reach and runs[b, 0] < runs[a, 1] + reach:
            root_a, root_b = find_root(parent, a), find_root(parent, b)
            if root_a < root_b:
                parent[root_b] = root_a
            else:
                parent[root_a] = root_b
        if runs[a, 1] < runs[b, 1]:
            a += 1
        else:
            b += 1


def label_components(
    runs: np.ndarray, first_run: np.ndarray, height: int, with_edges: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Label the connected components of runs.

    Args:
        runs, first_run: as `find_runs` returns them.
        height: rows in a slice.
        with_edges: voxels that share an edge are neighbours as well (18-connectivity); else only those that share a
            face (6-connectivity).

    Returns:
        The component of each run, numbered in the raster order of their first voxels, and the size of each component in
        voxels.
    """
    label = np.arange(len(runs), dtype=np.int32 if len(runs) < 2**31 else np.int64)
    return label, join_all(runs, first_run, height, int(with_edges), label)


@njit(cache=True, nogil=True)
def join_all(runs, first_run, height, with_edges, label):
    """Replace `label`, at first the number of each run, by the component of each run; return the components' sizes."""
    for row in range(len(first_run) - 1):
        start, stop, y = first_run[row], first_run[row + 1], row % height
        if start == stop:
            continue
        if y:
            join_rows(label, runs, start, stop, first_run[row - 1], first_run[row], with_edges)
        if row >= height:
            below = row - height  # the same row of the slice z - 1
            join_rows(label, runs, start, stop, first_run[below], first_run[below + 1], with_edges)
            if with_edges and y:
                join_rows(label, runs, start, stop, first_run[below - 1], first_run[below], 0)
            if with_edges and y < height - 1:
                join_rows(label, runs, start, stop, first_run[below + 1], first_run[below + 2], 0)

    n = 0
    for run in range(len(runs)):  # a parent comes before its children, so it has its component's number already
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
def background_runs(runs, first_run, label, component, width):
    """Return runs and first_run of all voxels outside one component, in rows of `width` voxels."""
    n = len(first_run) - 1
    for run in range(len(runs)):
        n += label[run] == component
    background, first_background = np.empty((n, 2), runs.dtype), np.empty(len(first_run), np.int64)
    n = 0
    for row in range(len(first_run) - 1):
        first_background[row] = n
        x = 0
        for run in range(first_run[row], first_run[row + 1]):
            if label[run] == component:
                if runs[run, 0] > x:
                    background[n, 0], background[n, 1] = x, runs[run, 0]
                    n += 1
                x = runs[run, 1]
        if x < width:
            background[n, 0], background[n, 1] = x, width
            n += 1
    first_background[-1] = n
    return background[:n], first_background


@njit(cache=True, nogil=True)
def touches_border(runs, first_run, label, component, shape):
    """Return whether a component touches a face of the volume of `shape` (z, y, x)."""
    depth, height, width = shape
    for row in range(depth * height):
        z, y = divmod(row, height)
        row_on_border = z == 0 or z == depth - 1 or y == 0 or y == height - 1
        for run in range(first_run[row], first_run[row + 1]):
            if label[run] == component and (row_on_border or runs[run, 0] == 0 or runs[run, 1] == width):
                return True
    return False


@njit(cache=True, nogil=True)
def fill_outside(rows, runs, first_run, label, is_hole):
    """Set the voxels of `rows` (rows, width) to 1, except those of the runs whose component is not a hole."""
    for row in range(len(rows)):
        x = 0
        for run in range(first_run[row], first_run[row + 1]):
            if not is_hole[label[run]]:
                rows[row, x : runs[run, 0]] = 1
                x = runs[run, 1]
        rows[row, x:] = 1
