"""A synthetic abdomen with a known liver: analytic shapes, partial volume, correlated noise.

All places and radii are fractions of the array, (z, y, x), so a phantom of any size holds the whole anatomy: z from the
pelvis up, y from front to back, x from the patient's right to left.
"""
import cc3d
import numpy as np
from scipy import ndimage

SLAB = 32  # slices smoothed at a time
BLUR = (0.5, 0.7, 0.7)  # standard deviation of the partial volume blur, voxels
NOISE = 14  # standard deviation of the noise after the blur, HU


def phantom(seed, shape, spacing):
    """CT (int16, HU) and label (uint8: 0 background, 1 liver, 2 tumour) of `shape` (z, y, x); spacing is (x, y, z) mm.

    The same seed gives the same bytes. Thicker slices blur less across. Raises ValueError for a shape that is not three
    whole numbers of 16 or more, and a spacing that is not three numbers above 0.
    """
    if len(shape) != 3 or any(n != int(n) or n < 16 for n in shape):
        raise ValueError(f'shape: wanted three whole numbers of 16 or more (z, y, x), got {tuple(shape)}')
    if len(spacing) != 3 or not all(0 < s < np.inf for s in spacing):
        raise ValueError(f'spacing: wanted three numbers above 0 (x, y, z), got {tuple(spacing)}')
    shape, rng = tuple(int(n) for n in shape), np.random.default_rng(seed)
    hu = np.full(shape, -1000, np.int16)
    label = np.zeros(shape, np.uint8)
    liver_hu = rng.uniform(95, 110)
    paint_trunk(hu, rng, liver_hu)
    paint_organs(hu, rng, liver_hu)
    paint_liver(hu, label, rng, liver_hu)
    paint_bones(hu, rng)
    blur = (BLUR[0] * min(1.0, spacing[0] / spacing[2] * 2), *BLUR[1:])
    return image(hu, blur, seed), label


def paint_trunk(hu, rng, liver_hu):
    """Couch, skin, fat, muscle, abdominal fat, lungs, heart."""
    z, y, x = hu.shape
    hu[:, int(0.93 * y):int(0.945 * y) + 1, int(0.15 * x):int(0.85 * x)] = -250
    thin = rng.uniform(0, 0.02)
    for (ry, rx), value in (((0.37, 0.45), 20), ((0.362, 0.442), -100), ((0.32 + thin, 0.40 + thin), 60), ((0.27, 0.35), -85)):
        hu[:, ellipse(hu.shape, (0.53, 0.5), (ry, rx))] = value
    for side in (0.28, 0.72):
        fill(hu, blob(hu.shape, (1.02, 0.50, side), (0.30, 0.23, 0.17)), -850)
    fill(hu, blob(hu.shape, (1.02, 0.42, 0.56), (0.16, 0.13, 0.14)), liver_hu + 6)


def paint_organs(hu, rng, liver_hu):
    """Bowel, stomach (of the liver's intensity, beside its left lobe), spleen, kidneys, pancreas, aorta, vena cava."""
    for _ in range(9):
        place = (rng.uniform(0.02, 0.38), rng.uniform(0.33, 0.58), rng.uniform(0.27, 0.73))
        fill(hu, blob(hu.shape, place, rng.uniform((0.04, 0.04, 0.05), (0.08, 0.07, 0.10)), rng), liver_hu + rng.uniform(-12, 10))
    jitter = rng.uniform(-0.015, 0.015, (8, 3))
    fill(hu, blob(hu.shape, (0.60, 0.42, 0.67) + jitter[0], (0.19, 0.14, 0.12), rng), liver_hu + rng.uniform(-3, 3))
    fill(hu, blob(hu.shape, (0.62, 0.61, 0.75) + jitter[1], (0.16, 0.11, 0.075), rng), liver_hu + rng.uniform(5, 12))
    fill(hu, blob(hu.shape, (0.47, 0.53, 0.56) + jitter[2], (0.04, 0.04, 0.13), rng), liver_hu - 15)
    for place in ((0.36, 0.63, 0.33) + jitter[3], (0.40, 0.63, 0.67) + jitter[4]):
        fill(hu, blob(hu.shape, place, (0.13, 0.065, 0.06)), 170)
        fill(hu, blob(hu.shape, place, (0.09, 0.035, 0.03)), 110)
    hu[:, ellipse(hu.shape, (0.615, 0.535), (0.026, 0.024))] = 165
    hu[:, ellipse(hu.shape, (0.60, 0.445), (0.026, 0.032))] = 130


def paint_liver(hu, label, rng, liver_hu):
    """Two lobes that differ from case to case, gall bladder, portal branches, tumours."""
    move = rng.uniform(-1, 1, 3) * (0.02, 0.02, 0.015)
    right_radii, left_radii = (0.25, 0.20, 0.165) * rng.uniform(0.86, 1.1, 3), (0.15, 0.10, 0.18) * rng.uniform(0.75, 1.15, 3)
    right, left = np.array((0.55, 0.49, 0.31)) + move, np.array((0.61, 0.39, 0.47)) + move
    box, mask = blob(label.shape, right, right_radii, rng)
    fill(label, (box, mask), 1)
    fill(label, blob(label.shape, left, left_radii, rng), 1)
    gall_bladder = blob(label.shape, right + (-0.16, -0.05, 0.09), (0.07, 0.05, 0.04))
    fill(label, gall_bladder, 0)
    label *= ellipse(label.shape, (0.53, 0.5), (0.28, 0.36))  # inside the ribs
    liver = cc3d.largest_k(label, k=1, connectivity=6) > 0
    label *= liver
    fill(hu, gall_bladder, 12)
    hu[liver] = round(liver_hu)

    hilum = right + (-0.03, -0.02, 0.10)
    ends = right + rng.uniform(-0.7, 0.7, (6, 3)) * right_radii
    for end in [*ends, left + (0, 0, 0.08)]:
        inside(hu, liver, tube(hu.shape, hilum, end, 0.016), liver_hu + 45)
    for _ in range(rng.integers(0, 5)):
        tumour = blob(hu.shape, right + rng.uniform(-0.6, 0.6, 3) * right_radii, rng.uniform(0.025, 0.065) * np.array((1.3, 1, 0.9)), rng)
        inside(hu, liver, tumour, rng.uniform(45, 70))
        inside(label, liver, tumour, 2)


def paint_bones(hu, rng):
    """Spine with discs, ribs in the wall of the chest."""
    z, y, x = hu.shape
    shell, core = ellipse(hu.shape, (0.715, 0.5), (0.068, 0.070)), ellipse(hu.shape, (0.715, 0.5), (0.055, 0.057))
    canal, arch = ellipse(hu.shape, (0.80, 0.5), (0.025, 0.03)), ellipse(hu.shape, (0.80, 0.5), (0.045, 0.05))
    rows, columns = (np.arange(n, dtype=np.float32) / n for n in (y, x))
    wall = ellipse(hu.shape, (0.53, 0.5), (0.315, 0.395)) & ~ellipse(hu.shape, (0.53, 0.5), (0.290, 0.370))
    wall &= (np.abs(columns - 0.5) > 0.04) & (rows[:, None] > 0.25)
    phase = rng.uniform()
    for index, height in enumerate(np.arange(z) / z):
        disc = (height * 9 + phase) % 1 > 0.8
        hu[index][arch & ~shell] = 350
        hu[index][canal] = 25
        hu[index][shell] = 90 if disc else 420
        hu[index][core] = 90 if disc else 190
        if height > 0.42:  # ribs slope down towards the front
            rib = wall & (((height * 11 + phase + 3 * (0.85 - rows[:, None])) % 1) < 0.38)
            hu[index][rib] = 380


def image(hu, blur, seed):
    """HU blurred and noisy, int16, in slabs; each slice has its own noise, so slabs leave no seam."""
    gain = np.prod([np.sqrt((ndimage.gaussian_filter1d(np.eye(1, 65, 32)[0], s) ** 2).sum()) for s in blur])
    depth, halo = len(hu), 3
    ct = np.empty_like(hu)
    for start in range(0, depth, SLAB):
        first, last = max(0, start - halo), min(depth, start + SLAB + halo)
        slab = hu[first:last].astype(np.float32)
        for z in range(first, last):
            slab[z - first] += np.random.default_rng([seed, z]).standard_normal(hu.shape[1:], np.float32) * np.float32(NOISE / gain)
        slab = ndimage.gaussian_filter(slab, blur, truncate=3)[start - first:start - first + SLAB]
        ct[start:start + SLAB] = np.clip(np.rint(slab), -1024, 3071)
    return ct


def ellipse(shape, centre, radii):
    """An ellipse of the (y, x) plane as a mask of one slice; centre and radii are fractions."""
    y, x = ((np.arange(n, dtype=np.float32) + 0.5) / n for n in shape[1:])
    return ((y - centre[0]) / radii[0])[:, None] ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1


def coordinates(shape, low, high):
    """Box (slices) between two corners in fractions, cut at the border, and its open grid of fractional coordinates."""
    box = tuple(slice(max(0, int(a * n)), max(0, min(n, int(b * n) + 1))) for a, b, n in zip(low, high, shape))
    grid = [((np.arange(b.start, b.stop) + 0.5) / n).astype(np.float32) for b, n in zip(box, shape)]
    return box, np.meshgrid(*grid, indexing='ij', sparse=True)


def blob(shape, centre, radii, rng=None):
    """Box and mask of an ellipsoid; with rng tilted and dented by two low waves."""
    centre, radii = np.asarray(centre, float), np.asarray(radii, float)
    reach = radii * (1 if rng is None else 1.35)
    box, (z, y, x) = coordinates(shape, centre - reach, centre + reach)
    z, y, x = ((axis - c) / r for axis, c, r in zip((z, y, x), centre.astype(np.float32), radii.astype(np.float32)))
    if rng is None:
        return box, z * z + y * y + x * x <= 1
    tilt, lean, strength = rng.uniform(-0.35, 0.35), rng.uniform(-0.25, 0.25), rng.uniform(0.08, 0.16, 2)
    phases, waves = rng.uniform(0, 2 * np.pi, 6), rng.uniform(1.5, 3.2, 6)
    tilted_x, tilted_y = x + np.float32(tilt) * z, y + np.float32(lean) * x
    dents = [np.sin(np.float32(w) * axis + np.float32(p)) for w, p, axis in zip(waves, phases, (z, y, x, z, y, x))]
    edge = 1 + np.float32(strength[0]) * dents[0] * dents[2] + np.float32(strength[1]) * dents[4] * dents[5]
    return box, z * z + tilted_y * tilted_y + tilted_x * tilted_x <= edge


def tube(shape, start, end, radius):
    """Box and mask of a straight vessel from start to end, thinner towards its end."""
    start, along = np.asarray(start), np.asarray(end) - start
    box, axes = coordinates(shape, np.minimum(start, end) - radius, np.maximum(start, end) + radius)
    offset = [axis - np.float32(s) for axis, s in zip(axes, start)]
    share = np.clip(sum(o * np.float32(a) for o, a in zip(offset, along)) / np.float32(along @ along), 0, 1)
    distance = sum((o - share * np.float32(a)) ** 2 for o, a in zip(offset, along))
    return box, distance <= (radius * (1.3 - share)) ** 2


def fill(array, boxed, value):
    box, mask = boxed
    array[box][mask] = round(value)


def inside(array, organ, boxed, value):
    box, mask = boxed
    array[box][mask & organ[box]] = round(value)
