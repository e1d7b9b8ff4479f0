"""A synthetic abdominal CT with its liver labels, to try every script without the data set.

The anatomy is a set of ellipsoids, tubes and a deformed two-lobed liver in a reference frame that spans 0..1 along
x (right to left), y (front to back) and z (feet to head), so a phantom of any size holds all of it. One generator
per seed draws the anatomy; slices are then evaluated one by one and HU slab by slab, so memory stays at a few bytes
a voxel and the number of threads does not change a byte.
"""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
from scipy import ndimage

from utilities.base import machine

(
    AIR,
    TABLE,
    SKIN,
    FAT,
    MUSCLE,
    CAVITY,
    LUNG,
    LUNG_VESSEL,
    MEDIASTINUM,
    MYOCARDIUM,
    BLOOD,
    BOWEL,
    BOWEL_FLUID,
    GAS,
    STOMACH,
    SPLEEN,
    PANCREAS,
    DIAPHRAGM,
    COLON,
    CORTEX,
    MEDULLA,
    GALLBLADDER,
    BONE,
    MARROW,
    DISC,
    CANAL,
    LIVER,
    LIVER_VESSEL,
    TUMOUR,
) = range(29)  # TUMOUR + i is tumour i: each has its own HU
MAX_TUMOURS = 5
SLAB = 16  # slices with one noise generator: part of what a seed means, so not a matter of speed
BLUR_MM = 0.6  # standard deviation of the scanner's point spread
BLUR_VOXELS = 0.5, 2.0  # least and most of it: a voxel averages over its own extent
NOISE_HU = 12.0
NOISE_GRAIN = 0.6  # standard deviation of the noise's in-plane correlation, voxels


def phantom(seed, shape, spacing):
    """A CT and its label: (int16 HU, uint8 0 background, 1 liver, 2 tumour), both of `shape` (z, y, x).

    `spacing` is (x, y, z) in mm, as in SimpleITK; it decides the blur only. z runs from feet to head, y from front
    to back, x from the patient's right to the left. The liver is one 6-connected piece and leaves slices free at
    both ends; there may be no tumour. The same arguments give the same bytes.
    Raises ValueError unless shape is 3 integers of 16 or more, spacing 3 finite numbers above 0, seed an integer >= 0.
    """
    spacing = _check_spacing(spacing)
    tissue = tissues(seed, shape)
    hu = _hu_table(_anatomy(seed))
    sigma = [float(np.clip(BLUR_MM / s, *BLUR_VOXELS)) for s in spacing[::-1]]
    margin = int(3 * sigma[0] + 0.5)  # what gaussian_filter reaches along z with truncate=3
    kernel = ndimage.gaussian_filter1d(np.eye(1, 9, 4)[0], NOISE_GRAIN)
    noise_gain = NOISE_HU / float((kernel**2).sum())  # both axes lose sqrt(sum of squares)
    ct = np.empty(tissue.shape, np.int16)

    def fill(start):
        stop = min(start + SLAB, len(ct))
        low = max(start - margin, 0)
        blurred = ndimage.gaussian_filter(hu[tissue[low : stop + margin]], sigma, mode='nearest', truncate=3)
        noise = np.random.default_rng([seed, start // SLAB]).standard_normal((stop - start, *ct.shape[1:]), np.float32)
        noise = ndimage.gaussian_filter(noise, (0, NOISE_GRAIN, NOISE_GRAIN), mode='wrap')
        slab = blurred[start - low : stop - low] + noise_gain * noise
        ct[start:stop] = np.rint(slab).clip(-1024, 3071)

    _threads(fill, range(0, len(ct), SLAB))
    labels = np.zeros(len(hu), np.uint8)
    labels[LIVER:], labels[TUMOUR:] = 1, 2
    return ct, labels[tissue]


def tissues(seed, shape):
    """The anatomy behind `phantom`: uint8 (z, y, x) of this module's tissue numbers. Raises ValueError as `phantom`."""
    shape = _check_shape(shape)
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f'seed: wanted an integer of 0 or more, got {seed!r}')
    body = _anatomy(seed)
    z, y, x = [
        (0.5 + ((np.arange(n) + 0.5) / n - middle) / scale).astype(np.float32)
        for n, middle, scale in zip(shape, body.middle[::-1], body.scale[::-1])
    ]
    volume = np.empty(shape, np.uint8)

    def fill(k):
        volume[k] = _slice(body, x, y, z[k])

    _threads(fill, range(shape[0]))
    _keep_one_piece(volume)
    return volume


def _is_integer(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_shape(shape):
    try:
        if len(shape) == 3 and all(_is_integer(n) and n >= 16 for n in shape):
            return tuple(int(n) for n in shape)
    except TypeError:
        pass
    raise ValueError(f'shape: wanted 3 integers (z, y, x) of 16 or more, got {shape!r}')


def _check_spacing(spacing):
    try:
        values = [float(s) for s in spacing]
        if len(values) == 3 and all(np.isfinite(s) and s > 0 for s in values):
            return values
    except (TypeError, ValueError):
        pass
    raise ValueError(f'spacing: wanted 3 numbers (x, y, z) above 0 in mm, got {spacing!r}')


def _threads(function, items):
    with ThreadPoolExecutor(min(8, machine.threads())) as pool:
        list(pool.map(function, items))  # list: so that an exception surfaces


# ---- what a seed draws; points and sizes are fractions of the reference frame, (x, y, z)


def _blob(centre, radii, degrees=(0, 0, 0)):
    """An ellipsoid turned about x, y, z: form(point) = d' matrix d is below 1 inside."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    radii = np.asarray(radii, float)
    covariance = turn @ np.diag(radii**2) @ turn.T
    return SimpleNamespace(
        centre=np.asarray(centre, float), matrix=np.linalg.inv(covariance), half=np.sqrt(np.diag(covariance))
    )


def _form(blob, x, y, z):
    dx, dy, dz = x - np.float32(blob.centre[0]), y - np.float32(blob.centre[1]), z - np.float32(blob.centre[2])
    m = blob.matrix.astype(np.float32)
    return (
        (m[0, 0] * dx + 2 * m[0, 1] * dy + 2 * m[0, 2] * dz) * dx
        + (m[1, 1] * dy + 2 * m[1, 2] * dz) * dy
        + m[2, 2] * dz * dz
    )


def _tube(start, end, radius, end_radius=None):
    return SimpleNamespace(
        start=np.asarray(start, float),
        end=np.asarray(end, float),
        radius=radius,
        end_radius=radius if end_radius is None else end_radius,
    )


def _anatomy(seed):
    rng = np.random.default_rng(seed)

    def near(centre, spread):
        return np.asarray(centre) + rng.uniform(-1, 1, 3) * spread

    def turned(spread):
        return rng.uniform(-1, 1, 3) * spread

    a = SimpleNamespace()
    a.middle = (0.5 + rng.uniform(-0.015, 0.015), 0.5 + rng.uniform(-0.02, 0.02), 0.5 + rng.uniform(-0.03, 0.03))
    a.scale = rng.uniform((0.95, 0.94, 0.94), (1.06, 1.1, 1.06))
    a.fat, a.muscle = rng.uniform(0.018, 0.045), rng.uniform(0.026, 0.034)
    a.ribs = rng.uniform(0, 1)

    # two lobes, their meeting softened; waves move the surface, dents are pressed in from below
    a.right = _blob(
        near((0.29, 0.47, 0.51), 0.02), (0.17, 0.205, 0.205) * rng.uniform(0.9, 1.1, 3), turned((12, 18, 15))
    )
    a.left = _blob(
        near((0.46, 0.345, 0.57), 0.025),
        (0.17, 0.095, 0.115) * rng.uniform(0.8, 1.2, 3),
        np.array((0, 8, -8)) + turned((15, 12, 15)),
    )
    a.warp = rng.uniform(0.006, 0.016, 3), rng.uniform(1.2, 2.6, (3, 2)), rng.uniform(0, 2 * np.pi, 3)
    a.waves = rng.uniform(0.04, 0.09, 4), rng.normal(0, 2.6, (4, 3)), rng.uniform(0, 2 * np.pi, 4)
    porta = near((0.43, 0.53, 0.44), 0.015)
    a.dents = [
        _blob(porta + (0.02, 0.05, -0.09), (0.1, 0.11, 0.12) * rng.uniform(0.8, 1.2, 3), turned(20)),
        _blob((porta[0] + 0.01, 0.3, 0.44), (0.007, 0.07, 0.1), (0, rng.uniform(-10, 10), rng.uniform(-25, 5))),
    ]
    a.gallbladder = _blob(
        porta + (-0.055, -0.12, -0.07), rng.uniform(0.024, 0.034) * np.array((1, 1.5, 1.7)), turned(25)
    )

    top = np.array((0.455, 0.56, 0.66))
    right, left = a.right.centre, a.left.centre
    a.portal = [_tube(porta + (0.06, 0.02, -0.14), porta, 0.016)]
    a.liver_vessels = []
    for lobe, number in ((a.right, 6), (a.left, 3)):
        hub = porta + (lobe.centre - porta) * 0.6
        a.liver_vessels.append(_tube(porta, hub, 0.014, 0.009))
        for _ in range(number):
            tip = lobe.centre + rng.uniform(-0.7, 0.7, 3) * lobe.half
            fork = hub + (tip - hub) * 0.55
            a.liver_vessels.append(_tube(hub, fork, 0.009, 0.006))
            a.liver_vessels += [
                _tube(fork, fork + (tip - fork) + rng.normal(0, 0.025, 3), 0.006, 0.003) for _ in range(2)
            ]
    for target in (right + (-0.06, 0.05, 0), right + (0.02, -0.1, 0.02), left):
        bend = (top + target) / 2 + rng.normal(0, 0.015, 3) + (0, 0, 0.02)
        a.liver_vessels += [_tube(top, bend, 0.011, 0.009), _tube(bend, target, 0.009, 0.004)]

    a.tumours = []
    for _ in range(rng.choice(MAX_TUMOURS + 1, p=(0.1, 0.2, 0.2, 0.2, 0.2, 0.1))):
        lobe = a.right if rng.random() < 0.8 else a.left
        direction = rng.normal(size=3)
        centre = lobe.centre + direction / np.linalg.norm(direction) * rng.uniform(0.1, 0.65) * lobe.half
        a.tumours.append(_blob(centre, rng.uniform(0.014, 0.05) * rng.uniform(0.75, 1.25, 3), turned(45)))

    # the stomach's near end lies within the left lobe, which overrides it: they always touch
    a.stomach = [
        _blob(
            left + (0.17, 0.07, -0.01) + rng.uniform(-0.015, 0.015, 3),
            (0.125, 0.095, 0.14) * rng.uniform(0.9, 1.1, 3),
            np.array((0, 15, 25)) + turned(10),
        ),
        _blob(left + (0.1, 0.04, -0.12), (0.13, 0.06, 0.06) * rng.uniform(0.9, 1.1, 3), (0, -25, 10)),
    ]
    a.stomach_gas = a.stomach[0].centre[1] - rng.uniform(0.055, 0.08)
    a.spleen = _blob(
        near((0.79, 0.57, 0.56), 0.015),
        (0.07, 0.125, 0.125) * rng.uniform(0.85, 1.15, 3),
        np.array((0, 0, 20)) + turned(10),
    )
    a.dome = _blob((0.70, 0.46, 0.50), (0.2, 0.27, 0.23), (0, 0, 0))
    a.lung_base = rng.uniform(0.50, 0.54)
    a.heart = _blob(
        near((0.55, 0.37, 0.85), 0.015),
        (0.155, 0.12, 0.15) * rng.uniform(0.92, 1.08, 3),
        np.array((0, 15, 25)) + turned(8),
    )
    a.oesophagus = _tube((0.51, 0.545, 1.2), (0.54, 0.5, 0.62), 0.016)
    a.chambers = [
        _blob(a.heart.centre + d, r, (0, 15, 25))
        for d, r in (((0.05, 0.02, 0), (0.065, 0.045, 0.085)), ((-0.055, -0.02, 0), (0.05, 0.05, 0.085)))
    ]
    a.lung_vessels = []
    for side in (-1, 1):
        hilum = np.array((0.5 + side * 0.1, 0.5, 0.9))
        for _ in range(22):
            tip = hilum + (side * rng.uniform(0.03, 0.22), rng.uniform(-0.2, 0.2), rng.uniform(-0.35, 0.15))
            a.lung_vessels.append(_tube(hilum, tip, 0.008, 0.002))

    a.kidneys = [
        _blob(
            near((x, 0.625, z), 0.012), (0.056, 0.062, 0.115) * rng.uniform(0.9, 1.1, 3), (0, tilt, 10 * np.sign(tilt))
        )
        for x, z, tilt in ((0.33, 0.27, 12), (0.67, 0.31, -12))
    ]
    a.sinus = [_blob(k.centre + (s * 0.04, -0.005, 0), (0.032, 0.022, 0.05)) for k, s in zip(a.kidneys, (1, -1))]
    a.pancreas = [
        _tube((0.43, 0.46, 0.36), (0.55, 0.45, 0.41), 0.03, 0.022),
        _tube((0.55, 0.45, 0.41), (0.74, 0.55, 0.47), 0.022, 0.018),
    ]
    a.aorta = _tube((0.535, 0.575, -1), (0.54, 0.60, 2), 0.024)
    a.cava = [
        _tube((0.455, 0.59, -1), (0.455, 0.585, 0.5), 0.026),
        _tube((0.455, 0.585, 0.5), (0.47, 0.53, 0.74), 0.026),
    ]
    a.renal = [_tube((0.5, 0.585, k.centre[2]), s.centre, 0.01) for k, s in zip(a.kidneys, a.sinus)]

    # small bowel: random walks of short tubes; colon: two upright tubes and one across
    a.bowel = []
    for _ in range(18):
        point = np.array((rng.uniform(0.3, 0.72), rng.uniform(0.28, 0.48), rng.uniform(-0.02, 0.34)))
        kind = rng.choice((BOWEL, BOWEL, BOWEL, BOWEL, BOWEL_FLUID))
        radius = rng.uniform(0.024, 0.034)
        for _ in range(6):
            step = rng.normal(size=3) * (1, 0.7, 0.6)
            after = np.clip(point + 0.09 * step / np.linalg.norm(step), (0.25, 0.25, -0.05), (0.77, 0.5, 0.36))
            a.bowel.append((_tube(point, after, radius), kind))
            point = after
    a.colon = [
        _tube((0.2, 0.5, -0.2), (0.23, 0.47, 0.24), 0.042),
        _tube((0.81, 0.52, -0.2), (0.8, 0.5, 0.34), 0.034),
        _tube((0.25, 0.32, 0.22), (0.5, 0.26, 0.16), 0.036),
        _tube((0.5, 0.26, 0.16), (0.76, 0.34, 0.32), 0.036),
    ]

    hu = {
        AIR: -1000,
        TABLE: -450,
        SKIN: 20,
        FAT: -105,
        MUSCLE: rng.uniform(50, 62),
        CAVITY: -98,
        LUNG: rng.uniform(-870, -820),
        LUNG_VESSEL: 40,
        MEDIASTINUM: -85,
        DIAPHRAGM: 50,
        COLON: 65,
        BLOOD: rng.uniform(145, 165),
        BOWEL_FLUID: 25,
        GAS: -950,
        CORTEX: rng.uniform(155, 175),
        MEDULLA: rng.uniform(125, 140),
        GALLBLADDER: rng.uniform(5, 18),
        BONE: 520,
        MARROW: rng.uniform(180, 220),
        DISC: 85,
        CANAL: 25,
    }
    hu[LIVER] = rng.uniform(102, 108)
    hu[LIVER_VESSEL] = rng.uniform(142, 158)
    hu[STOMACH] = hu[LIVER] + rng.uniform(-3.5, 3.5)
    hu[BOWEL] = hu[LIVER] + rng.uniform(-5, 5)
    hu[MYOCARDIUM] = hu[LIVER] + rng.uniform(-4, 4)
    hu[SPLEEN] = rng.uniform(110, 118)
    hu[PANCREAS] = rng.uniform(88, 100)
    hu.update({TUMOUR + i: rng.uniform(40, 70) for i in range(MAX_TUMOURS)})
    a.hu = hu
    return a


def _hu_table(anatomy):
    table = np.zeros(TUMOUR + MAX_TUMOURS, np.float32)
    for number, value in anatomy.hu.items():
        table[number] = value
    return table


# ---- one slice of it


def _box(x, y, low, high):
    """The part of a slice between two corners (x, y), or None if there is none."""
    i, j = np.searchsorted(y, (low[1], high[1]))
    k, m = np.searchsorted(x, (low[0], high[0]))
    return (slice(i, j), slice(k, m)) if i < j and k < m else None


def _paint_blob(out, x, y, z, blob, tissue, over, limit=1.0):
    reach = blob.half * np.sqrt(limit)
    if abs(z - blob.centre[2]) > reach[2]:
        return
    box = _box(x, y, blob.centre - reach, blob.centre + reach)
    if box:
        part = out[box]
        part[(_form(blob, x[None, box[1]], y[box[0], None], z) < limit) & over[part]] = tissue


def _paint_tube(out, x, y, z, tube, tissue, over, share=1.0):
    """`share` of the radius, as for what fills a bowel."""
    widest = max(tube.radius, tube.end_radius) * share
    low, high = np.minimum(tube.start, tube.end) - widest, np.maximum(tube.start, tube.end) + widest
    if not low[2] <= z <= high[2]:
        return
    box = _box(x, y, low, high)
    if box:
        part = out[box]
        dx, dy, dz = (
            x[None, box[1]] - np.float32(tube.start[0]),
            y[box[0], None] - np.float32(tube.start[1]),
            z - np.float32(tube.start[2]),
        )
        ex, ey, ez = (tube.end - tube.start).astype(np.float32)
        t = ((ex * dx + ey * dy + ez * dz) / (ex * ex + ey * ey + ez * ez)).clip(0, 1)
        radius = np.float32(share) * (np.float32(tube.radius) + t * np.float32(tube.end_radius - tube.radius))
        part[((dx - t * ex) ** 2 + (dy - t * ey) ** 2 + (dz - t * ez) ** 2 < radius**2) & over[part]] = tissue


def _over(*numbers):
    table = np.zeros(TUMOUR + MAX_TUMOURS, bool)
    table[list(numbers)] = True
    return table


ABDOMEN = _over(CAVITY)
CHEST = _over(CAVITY, LUNG, LUNG_VESSEL, MEDIASTINUM, DIAPHRAGM)
INNER = ~_over(AIR, TABLE, SKIN, FAT, MUSCLE)
TRUNK = ~_over(AIR, TABLE)


def _superellipse(x, y, width, height):
    half, power = np.float32(0.5), np.float32(2.4)
    return np.abs((x - half) / np.float32(width)) ** power + np.abs((y - half) / np.float32(height)) ** power


def _slice(a, xs, ys, z):
    x, y = xs[None, :], ys[:, None]
    out = np.full((len(ys), len(xs)), AIR, np.uint8)

    def blob(shape, tissue, over, limit=1.0):
        _paint_blob(out, xs, ys, z, shape, tissue, over, limit)

    def tube(shape, tissue, over, share=1.0):
        _paint_tube(out, xs, ys, z, shape, tissue, over, share)

    out[np.abs(y - (0.845 - 0.35 * (x - 0.5) ** 2)) * np.ones_like(x) < 0.006] = TABLE
    width, height = 0.43 + 0.012 * np.sin(5 * z), 0.305 + 0.01 * np.cos(4 * z)
    for inset, tissue in ((0, SKIN), (0.006, FAT), (a.fat, MUSCLE), (a.fat + a.muscle, CAVITY)):
        out[_superellipse(x, y, width - inset, height - inset) < 1] = tissue
    cavity = out == CAVITY

    # chest: lungs above a base that is lower at the back, the left dome, what lies between
    out[cavity & (z > a.lung_base + 0.26 * (0.72 - y) - 0.7 * (x - 0.5) ** 2)] = LUNG
    middle = ((x - 0.5) / 0.085) ** 2 + ((y - 0.49) / 0.27) ** 2 < 1
    out[(out == LUNG) & middle] = MEDIASTINUM
    blob(a.dome, DIAPHRAGM, _over(LUNG))
    blob(a.dome, CAVITY, _over(DIAPHRAGM, MEDIASTINUM), 0.95)
    tube(a.oesophagus, DIAPHRAGM, CHEST)
    for shape in a.lung_vessels:
        tube(shape, LUNG_VESSEL, _over(LUNG))
    blob(a.heart, MYOCARDIUM, CHEST)
    for shape in a.chambers:
        blob(shape, BLOOD, _over(MYOCARDIUM))

    # abdomen
    for shape, kind in a.bowel:
        tube(shape, BOWEL, ABDOMEN)
        if kind != BOWEL:
            tube(shape, kind, _over(BOWEL), 0.75)
    for shape in a.colon:
        tube(shape, COLON, _over(CAVITY, BOWEL, BOWEL_FLUID))
        t = np.clip((z - shape.start[2]) / (shape.end[2] - shape.start[2]), 0, 1)
        level = np.searchsorted(ys, shape.start[1] + t * (shape.end[1] - shape.start[1]))  # gas in front of it
        for part, kind in ((slice(level), GAS), (slice(level, None), BOWEL_FLUID)):
            _paint_tube(out[part], xs, ys[part], z, shape, kind, _over(COLON), 0.85)
    for shape in a.pancreas:
        tube(shape, PANCREAS, _over(CAVITY, BOWEL, BOWEL_FLUID))
    blob(a.spleen, SPLEEN, _over(CAVITY, LUNG))
    for shape in a.stomach:
        blob(shape, STOMACH, ~_over(SPLEEN, MYOCARDIUM, BLOOD) & INNER)
    front = np.searchsorted(ys, a.stomach_gas)
    _paint_blob(out[:front], xs, ys[:front], z, a.stomach[0], GAS, _over(STOMACH), 0.85)

    _paint_liver(a, out, xs, ys, z, cavity)
    for shape, sinus in zip(a.kidneys, a.sinus):
        blob(shape, CAVITY, INNER, 1.35)
        blob(shape, CORTEX, INNER)
        blob(shape, MEDULLA, _over(CORTEX), 0.55)
        blob(sinus, CAVITY, _over(CORTEX, MEDULLA))
    blob(a.gallbladder, GALLBLADDER, INNER)
    for shape in a.portal:
        tube(shape, BLOOD, ~_over(LIVER, LUNG) & INNER)
    for shape in a.liver_vessels:
        tube(shape, LIVER_VESSEL, _over(LIVER))
    for i, shape in enumerate(a.tumours):
        blob(shape, TUMOUR + i, _over(LIVER, LIVER_VESSEL))
    for shape in (*a.cava, a.aorta):
        tube(shape, BLOOD, INNER)
    for shape in a.renal:
        tube(shape, BLOOD, ABDOMEN)
    _paint_bones(a, out, x, y, z, width, height)
    return out


def _paint_liver(a, out, xs, ys, z, cavity):
    low = np.minimum(a.right.centre - 1.3 * a.right.half, a.left.centre - 1.3 * a.left.half)
    high = np.maximum(a.right.centre + 1.3 * a.right.half, a.left.centre + 1.3 * a.left.half)
    box = _box(xs, ys, low, high) if low[2] < z < high[2] else None
    if not box:
        return
    x, y, part = xs[None, box[1]], ys[box[0], None], out[box]
    size, pitch, phase = (v.astype(np.float32) for v in a.warp)
    turn = np.float32(2 * np.pi)
    wx = x + size[0] * np.sin(turn * (pitch[0, 0] * y + pitch[0, 1] * z) + phase[0])
    wy = y + size[1] * np.sin(turn * (pitch[1, 0] * x + pitch[1, 1] * z) + phase[1])
    wz = z + size[2] * np.sin(turn * (pitch[2, 0] * x + pitch[2, 1] * y) + phase[2])
    right, left = _form(a.right, wx, wy, wz), _form(a.left, wx, wy, wz)
    soft = np.float32(5)  # the larger, the sharper the fold between the lobes
    field = np.minimum(right, left) - np.log1p(np.exp(-soft * np.abs(right - left))) / soft - 1
    for height, wave, start in zip(*a.waves):
        field += np.float32(height) * np.sin(
            turn * (np.float32(wave[0]) * x + np.float32(wave[1]) * y + np.float32(wave[2]) * z) + np.float32(start)
        )
    free = cavity[box] & ~_over(BLOOD, MYOCARDIUM)[part]
    part[free & (field < 0.09) & (part == LUNG)] = DIAPHRAGM
    liver = free & (field < 0)
    for dent in a.dents:
        if abs(z - dent.centre[2]) < dent.half[2]:
            liver &= _form(dent, x, y, z) >= 1
    part[liver] = LIVER


def _paint_bones(a, out, x, y, z, width, height):
    inside = TRUNK[out]

    def disc(cx, cy, rx, ry):
        return ((x - np.float32(cx)) / np.float32(rx)) ** 2 + ((y - np.float32(cy)) / np.float32(ry)) ** 2

    for side in (-1, 1):  # muscles beside the spine
        out[inside & (disc(0.5 + side * 0.068, 0.728, 0.062, 0.045) < 1)] = MUSCLE
        if z < 0.4:
            out[inside & (disc(0.5 + side * 0.075, 0.655, 0.033, 0.042) < 1)] = MUSCLE
    level = z * 11 % 1  # vertebrae: 11 in the frame's height, a fifth of each is disc
    arch = disc(0.5, 0.708, 0.034, 0.03)
    out[inside & (arch < 1)] = BONE
    if level > 0.35:
        for side in (-1, 1):
            out[inside & (disc(0.5 + side * 0.05, 0.708, 0.036, 0.011) < 1)] = BONE
        spinous = disc(0.5, 0.75, 0.009, 0.035)
        out[inside & (spinous < 1)] = BONE
    out[inside & (arch < 0.42)] = CANAL
    column = disc(0.5, 0.645, 0.053, 0.043) / (1 if level < 0.2 else 1 + 0.12 * np.cos(2 * np.pi * (level - 0.2) / 0.8))
    if level < 0.2:
        out[inside & (column < 1)] = DISC
    else:
        out[inside & (column < 1)] = BONE
        if 0.25 < level < 0.95:
            out[inside & (column < 0.8)] = MARROW

    if z > 0.3:  # ribs: rings in the body wall that drop towards the front
        inset = a.fat + 0.55 * a.muscle
        phase = (8 * (z - 0.7 * (y - 0.5) + 0.4 * np.abs(x - 0.5)) + a.ribs) % 1

        def ring(half):
            outer, inner = (_superellipse(x, y, width - inset + d, height - inset + d) for d in (half, -half))
            return (outer < 1) & (inner >= 1)

        wall = (y > 0.3 - 0.15 * (z - 0.3)) & (np.abs(x - 0.5) > 0.1)
        out[wall & ring(0.009) & (phase < 0.36)] = BONE
        out[wall & ring(0.005) & (phase > 0.07) & (phase < 0.29)] = MARROW


def _keep_one_piece(volume):
    """Specks of liver that a coarse grid cuts off become fat."""
    where = ndimage.find_objects((volume >= LIVER).view(np.uint8))[0]
    part = volume[where]
    pieces, number = ndimage.label(part >= LIVER)
    if number > 1:
        largest = np.bincount(pieces.ravel())[1:].argmax() + 1
        part[(pieces > 0) & (pieces != largest)] = CAVITY
