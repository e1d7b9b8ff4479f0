"""Surface voxels of masks, and exact distances between two surfaces.

The surface voxels lie in a tree of boxes: neighbours along a Z-order curve share a leaf, and each box holds those of its two children. A
search goes down to the boxes that may hold something nearer than what is known. All of a leaf's voxels are searched for together, and
begin with what the leaf before found, so a far island costs little more than a near one. The kernels run in one thread each and let
Python's lock go.
"""

import numpy as np
from numba import njit

LEAF = 16  # voxels in one leaf


class Tree:
    """Surface voxels in a tree of boxes, for nearest_distances; its memory depends on their number n alone.

    leaves (leaves, 3, LEAF): z, y, x of their centres in mm along the curve; what is left of the last leaf holds the last voxel
    again. boxes (2 x leaves, 2, 3): lowest and highest z, y, x of the nodes; node 1 is the root, node i has the children 2i and
    2i + 1, and leaf i is node leaves + i.
    """

    def __init__(self, voxels, spacing):
        """voxels (n, 3): z, y, x of one voxel or more; spacing (z, y, x) in mm."""
        self.n = len(voxels)
        order = np.argsort(curve(voxels))
        order = np.concatenate([order, np.repeat(order[-1:], -self.n % LEAF)])
        self.leaves = np.ascontiguousarray(
            (voxels[order] * np.asarray(spacing, float)).reshape(-1, LEAF, 3).swapaxes(1, 2)
        )
        self.boxes = boxes_of(self.leaves)


def nearest_distances(queries, targets):
    """Distance in mm, float64, from each voxel of one Tree to the nearest voxel of another; in the order of the first one's curve."""
    squares = np.empty((len(queries.leaves), LEAF))
    search(queries.leaves, queries.boxes, targets.leaves, targets.boxes, squares)
    return np.sqrt(squares.ravel()[: queries.n])


def surface_voxels(mask):
    """z, y, x (n, 3) of the voxels of a mask (z, y, x) that have one of their 18 neighbours outside it, or outside the volume.

    The mask is uint8 in C order, and non-zero is marked.
    """
    voxels = np.empty((scan_surface(mask, np.empty((0, 3), np.int32)), 3), np.int32)
    scan_surface(mask, voxels)
    return voxels


@njit(cache=True, nogil=True)
def scan_surface(mask, voxels):
    """Number of surface voxels; stores them in voxels where that has room for any."""
    depth, height, width = mask.shape
    core, n = np.empty(width, np.uint8), 0
    for z in range(depth):
        for y in range(height):
            line = mask[z, y]
            marked = np.uint8(0)
            for x in range(width):
                marked |= line[x]
            if marked == 0:
                continue
            core[:] = 0
            if 0 < z < depth - 1 and 0 < y < height - 1:
                core[1 : width - 1] = 1
                for dz in range(-1, 2):
                    for dy in range(-1, 2):
                        erode(core, mask[z + dz, y + dy], dz == 0 or dy == 0)
            if len(voxels):
                for x in range(width):
                    if line[x] != 0 and core[x] == 0:
                        voxels[n, 0], voxels[n, 1], voxels[n, 2] = z, y, x
                        n += 1
            else:
                count = np.int32(0)
                for x in range(width):
                    count += np.int32((line[x] != 0) & (core[x] == 0))
                n += count
    return n


@njit(cache=True, nogil=True)
def erode(core, line, wide):
    """Clear core where line, a row beside it or itself, is unmarked; if wide, at the two voxels next to that as well."""
    if wide:
        for x in range(1, len(core) - 1):
            core[x] &= np.uint8(line[x - 1] != 0) & np.uint8(line[x] != 0) & np.uint8(line[x + 1] != 0)
    else:
        for x in range(len(core)):
            core[x] &= np.uint8(line[x] != 0)


@njit(cache=True, nogil=True)
def curve(voxels):
    """Places on a Z-order curve (Morton 1966): the bits of z, y and x (below 2 ** 21) in turn."""
    code = np.zeros(len(voxels), np.int64)
    for n in range(len(voxels)):
        z, y, x = np.int64(voxels[n, 0]), np.int64(voxels[n, 1]), np.int64(voxels[n, 2])
        bit = 0
        while (z | y | x) >> bit:
            code[n] |= ((z >> bit & 1) << 2 | (y >> bit & 1) << 1 | (x >> bit & 1)) << 3 * bit
            bit += 1
    return code


@njit(cache=True, nogil=True)
def boxes_of(leaves):
    """The boxes of a Tree, children before parents; any number of leaves will do."""
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
def gap(a, b):
    """Square of the distance between two boxes (2, 3)."""
    square = 0.0
    for k in range(3):
        side = max(a[0, k] - b[1, k], b[0, k] - a[1, k], 0.0)
        square += side * side
    return square


@njit(cache=True, nogil=True, fastmath={'nnan', 'nsz', 'contract'})  # minima of many at once; nothing is NaN
def search(queries, query_boxes, targets, boxes, squares):
    """Fill squares (leaves, LEAF) with the squared distance of each query to the nearest target."""
    waiting, gaps = np.empty(64, np.int64), np.empty(64)  # one a level at most
    known, z, y, x = np.inf, 0.0, 0.0, 0.0
    for q in range(len(queries)):
        query, box, best = queries[q], query_boxes[len(queries) + q], squares[q]
        # no voxel is farther than the last one of the leaf before was, and the way to that; a little more, for rounding
        for i in range(LEAF):
            way = known + np.sqrt((query[0, i] - z) ** 2 + (query[1, i] - y) ** 2 + (query[2, i] - x) ** 2)
            best[i] = way * way * (1 + 1e-9)
        worst = best.max()
        node, distance, left = 1, 0.0, 0
        while True:
            if distance < worst:
                if node < len(targets):
                    near, far = 2 * node, 2 * node + 1
                    distance, other = gap(box, boxes[near]), gap(box, boxes[far])
                    if other < distance:
                        near, far, distance, other = far, near, other, distance
                    waiting[left], gaps[left] = far, other
                    left += 1
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
            if left == 0:
                break
            left -= 1
            node, distance = waiting[left], gaps[left]
        known, z, y, x = np.sqrt(best[LEAF - 1]), query[0, LEAF - 1], query[1, LEAF - 1], query[2, LEAF - 1]
