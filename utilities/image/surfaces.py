"""Surface voxels of masks, and exact distances between two surfaces.

The surface voxels lie in a binary tree of bounding boxes, whose leaves hold LEAF voxels that are neighbours along a
Z-order curve. A search visits only nodes that may hold a voxel nearer than the nearest one so far. It searches for all
voxels of a leaf together, and starts with an upper bound from the previous leaf's result, so that voxels far from the
other surface cost little more than near ones.

Each kernel runs in one thread and releases Python's global lock.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

LEAF = 16  # voxels in one leaf
MAX_DEPTH = 64  # more than the levels of any tree


class SurfaceTree:
    """Surface voxels in a tree of boxes, for `nearest_distances`. Its memory depends on the number of voxels alone.

    Attributes:
        n: number of voxels.
        leaves: (leaves, 3, LEAF) float64: z, y, x of the voxels' centres in mm, in the order of the curve. Copies of
            the last voxel pad the last leaf.
        boxes: (2 x leaves, 2, 3) float64: lowest and highest z, y, x of each node. Node 1 is the root, node i has the
            children 2i and 2i + 1, and leaf i is the node leaves + i.
    """

    def __init__(self, voxels: np.ndarray, spacing: Sequence[float]) -> None:
        """Build the tree of voxels (n, 3), the z, y, x of one voxel or more; spacing (z, y, x) in mm."""
        self.n = len(voxels)
        order = np.argsort(z_order(voxels))
        order = np.concatenate([order, np.repeat(order[-1:], -self.n % LEAF)])
        centres = voxels[order] * np.asarray(spacing, float)
        self.leaves = np.ascontiguousarray(centres.reshape(-1, LEAF, 3).swapaxes(1, 2))
        self.boxes = build_boxes(self.leaves)


def nearest_distances(queries: SurfaceTree, targets: SurfaceTree) -> np.ndarray:
    """Return the distance from each voxel of one surface to the nearest voxel of another.

    The result is float64 (n,) in mm, in the order of the Z-order curve of the first surface.
    """
    squares = np.empty((len(queries.leaves), LEAF))
    search(queries.leaves, queries.boxes, targets.leaves, targets.boxes, squares)
    return np.sqrt(squares.ravel()[: queries.n])


def surface_voxels(mask: np.ndarray) -> np.ndarray:
    """Return the surface voxels of a mask as int32 (n, 3): z, y, x in raster order.

    A surface voxel has at least one of its 18 neighbours outside the mask or outside the volume. The mask (z, y, x) is
    uint8 in C order, non-zero inside.
    """
    n = scan_surface(mask, np.empty((0, 3), np.int32))
    voxels = np.empty((n, 3), np.int32)
    scan_surface(mask, voxels)
    return voxels


@njit(cache=True, nogil=True)
def scan_surface(mask, voxels):
    """Return the number of surface voxels of a mask, and store them in `voxels` unless that is of length 0."""
    depth, height, width = mask.shape
    interior = np.empty(width, np.uint8)  # 1 where a voxel of the row and all its neighbours are inside the mask
    n = 0
    for z in range(depth):
        for y in range(height):
            row = mask[z, y]
            any_bits = np.uint8(0)
            for x in range(width):
                any_bits |= row[x]
            if any_bits == 0:
                continue
            interior[:] = 0
            if 0 < z < depth - 1 and 0 < y < height - 1:
                interior[1 : width - 1] = 1
                for dz in range(-1, 2):
                    for dy in range(-1, 2):
                        erode(interior, mask[z + dz, y + dy], dz == 0 or dy == 0)
            if len(voxels):
                for x in range(width):
                    if row[x] != 0 and interior[x] == 0:
                        voxels[n, 0], voxels[n, 1], voxels[n, 2] = z, y, x
                        n += 1
            else:
                count = np.int32(0)
                for x in range(width):
                    count += np.int32((row[x] != 0) & (interior[x] == 0))
                n += count
    return n


@njit(cache=True, nogil=True)
def erode(interior, row, with_diagonals):
    """Clear `interior` at each x where a neighbour in `row` is outside the mask.

    row: the row itself, or one of its eight neighbours. with_diagonals: x - 1 and x + 1 count as neighbours as well.
    """
    if with_diagonals:
        for x in range(1, len(interior) - 1):
            interior[x] &= np.uint8(row[x - 1] != 0) & np.uint8(row[x] != 0) & np.uint8(row[x + 1] != 0)
    else:
        for x in range(len(interior)):
            interior[x] &= np.uint8(row[x] != 0)


@njit(cache=True, nogil=True)
def z_order(voxels):
    """Return the positions of voxels (n, 3) on a Z-order curve (Morton 1966): int64 (n,).

    A position consists of the bits of z, y and x in turn; each coordinate is below 2 ** 21.
    """
    code = np.zeros(len(voxels), np.int64)
    for n in range(len(voxels)):
        z, y, x = np.int64(voxels[n, 0]), np.int64(voxels[n, 1]), np.int64(voxels[n, 2])
        bit = 0
        while (z | y | x) >> bit:
            code[n] |= ((z >> bit & 1) << 2 | (y >> bit & 1) << 1 | (x >> bit & 1)) << 3 * bit
            bit += 1
    return code


@njit(cache=True, nogil=True)
def build_boxes(leaves):
    """Return the boxes of a SurfaceTree with any number of leaves. Children are computed before their parents."""
    n = len(leaves)
    boxes = np.empty((2 * n, 2, 3))
    for node in range(2 * n - 1, 0, -1):
        for k in range(3):
            if node >= n:
                boxes[node, 0, k], boxes[node, 1, k] = leaves[node - n, k].min(), leaves[node - n, k].max()
            else:
                boxes[node, 0, k] = min(boxes[2 * node, 0, k], boxes[2 * node + 1, 0, k])
                boxes[node, 1, k] = max(boxes[2 * node, 1, k], boxes[2 * node + 1, 1, k])
    return boxes


@njit(cache=True, nogil=True)
def squared_distance(box, other):
    """Return the squared distance of two boxes (2, 3)."""
    square = 0.0
    for k in range(3):
        side = max(box[0, k] - other[1, k], other[0, k] - box[1, k], 0.0)
        square += side * side
    return square


@njit(cache=True, nogil=True, fastmath={'nnan', 'nsz', 'contract'})  # vectorises the minima; no value is NaN
def search(queries, query_boxes, targets, target_boxes, squares):
    """Fill `squares` (leaves, LEAF) with the squared distance from each query voxel to the nearest target voxel.

    queries, query_boxes, targets, target_boxes: leaves and boxes of the two trees.
    """
    # Nodes that are still to be visited, at most one per level, and their squared distances to the query's box.
    stack, stack_squares = np.empty(MAX_DEPTH, np.int64), np.empty(MAX_DEPTH)
    # The last voxel of the previous leaf: the distance to its nearest target, and its centre.
    previous, z, y, x = np.inf, 0.0, 0.0, 0.0
    for q in range(len(queries)):
        query, box, best = queries[q], query_boxes[len(queries) + q], squares[q]
        # By the triangle inequality, the distance to the previous voxel's nearest target is an upper bound. 1e-9
        # allows for rounding.
        for i in range(LEAF):
            bound = previous + np.sqrt((query[0, i] - z) ** 2 + (query[1, i] - y) ** 2 + (query[2, i] - x) ** 2)
            best[i] = bound * bound * (1 + 1e-9)
        worst = best.max()
        node, square, n_stack = 1, 0.0, 0
        while True:
            if square < worst:
                if node < len(targets):
                    near, far = 2 * node, 2 * node + 1
                    square = squared_distance(box, target_boxes[near])
                    far_square = squared_distance(box, target_boxes[far])
                    if far_square < square:
                        near, far, square, far_square = far, near, far_square, square
                    stack[n_stack], stack_squares[n_stack] = far, far_square
                    n_stack += 1
                    node = near
                    continue
                target = targets[node - len(targets)]
                for i in range(LEAF):
                    nearest = best[i]
                    for j in range(LEAF):
                        nearest = min(
                            nearest,
                            (query[0, i] - target[0, j]) ** 2
                            + (query[1, i] - target[1, j]) ** 2
                            + (query[2, i] - target[2, j]) ** 2,
                        )
                    best[i] = nearest
                worst = best.max()
            if n_stack == 0:
                break
            n_stack -= 1
            node, square = stack[n_stack], stack_squares[n_stack]
        previous, z, y, x = np.sqrt(best[LEAF - 1]), query[0, LEAF - 1], query[1, LEAF - 1], query[2, LEAF - 1]
