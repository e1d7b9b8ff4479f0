"""Draw the organs of a phantom from a seed.

Every position and length is a fraction of a reference frame that spans 0 to 1 along x (from the patient's right to the
left), y (from front to back) and z (from the feet to the head). Points are (x, y, z). The order of the random draws is
part of what a seed means: a draw that is added, removed or moved changes every phantom.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# Tissue numbers. TUMOUR + i is the tumour with the index i, since every tumour has its own HU.
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
) = range(29)
MAX_TUMOURS = 5
TISSUES = TUMOUR + MAX_TUMOURS


def only(*tissues: int) -> np.ndarray:
    """Return a bool array, indexed by tissue number, that is True for these tissues and False for all others."""
    table = np.zeros(TISSUES, bool)
    table[list(tissues)] = True
    return table


IN_ABDOMEN = only(CAVITY)
IN_CHEST = only(CAVITY, LUNG, LUNG_VESSEL, MEDIASTINUM, DIAPHRAGM)
INSIDE_WALL = ~only(AIR, TABLE, SKIN, FAT, MUSCLE)


@dataclass(frozen=True)
class Ellipsoid:
    """A rotated ellipsoid. bounds: half the side lengths of its bounding box."""

    centre: np.ndarray
    matrix: np.ndarray
    bounds: np.ndarray

    def squared_radius(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return (p - centre)' matrix (p - centre) of the points p: 0 at the centre, 1 on the surface."""
        dx, dy, dz = (values - np.float32(c) for values, c in zip((x, y, z), self.centre))
        m = self.matrix.astype(np.float32)
        return (
            (m[0, 0] * dx + 2 * m[0, 1] * dy + 2 * m[0, 2] * dz) * dx
            + (m[1, 1] * dy + 2 * m[1, 2] * dz) * dy
            + m[2, 2] * dz * dz
        )


@dataclass(frozen=True)
class Tube:
    """A tube with round ends whose radius changes linearly from `start` to `end`."""

    start: np.ndarray
    end: np.ndarray
    radius: float
    end_radius: float


@dataclass(frozen=True)
class Part:
    """A shape to be painted as `tissue` over those pixels whose tissue so far is True in the array `over`.

    extent: an ellipsoid is painted where its squared radius is below `extent`; the radius of a tube is multiplied by
        it.
    side: paint only what lies in 'front' of, or 'behind', the surface of the fluid in a hollow organ; '' paints the
        whole shape.
    fluid_y: y of this surface; None stands for the axis of the tube.
    """

    shape: Ellipsoid | Tube
    tissue: int
    over: np.ndarray
    extent: float = 1.0
    side: str = ''
    fluid_y: float | None = None


@dataclass(frozen=True)
class Body:
    """Position and scale of the body in the volume, thickness of its wall, and the phase of the ribs along z."""

    middle: tuple[float, float, float]
    scale: np.ndarray
    fat: float
    muscle: float
    rib_phase: float


@dataclass(frozen=True)
class Liver:
    """Two lobes that blend into each other.

    warp: amplitudes (3), frequencies (3, 2) and phases (3) of the sines that move the points of the lobes.
    waves: amplitudes (4), wave vectors (4, 3) and phases (4) of the sines that are added to the surface.
    porta: the point where vessels enter. dents: ellipsoids that are cut out of the liver.
    """

    right: Ellipsoid
    left: Ellipsoid
    warp: tuple[np.ndarray, np.ndarray, np.ndarray]
    waves: tuple[np.ndarray, np.ndarray, np.ndarray]
    porta: np.ndarray
    dents: list[Ellipsoid]


@dataclass(frozen=True)
class Anatomy:
    """Everything that a seed decides. The parts are in the order of painting: some below the liver, the others over it.

    lung_base: z of the lower end of the lungs. hu: HU of every tissue number, float32.
    """

    body: Body
    liver: Liver
    lung_base: float
    parts_below_liver: list[Part]
    parts_over_liver: list[Part]
    hu: np.ndarray


def draw_anatomy(seed: int) -> Anatomy:
    """Draw all organs with one random generator."""
    rng = np.random.default_rng(seed)
    body = draw_body(rng)
    liver = draw_liver(rng)
    gallbladder = draw_gallbladder(rng, liver.porta)
    liver_vessels = draw_liver_vessels(rng, liver)
    tumours = draw_tumours(rng, liver)
    stomach = draw_stomach(rng, liver)
    spleen = draw_spleen(rng)
    lung_base = rng.uniform(0.50, 0.54)
    chest = draw_chest(rng)
    kidneys, renal_arteries = draw_kidneys(rng)
    bowel = draw_bowel(rng)
    return Anatomy(
        body=body,
        liver=liver,
        lung_base=lung_base,
        parts_below_liver=[*chest, *bowel, *make_colon(), *make_pancreas(), *spleen, *stomach],
        parts_over_liver=[*kidneys, *gallbladder, *liver_vessels, *tumours, *make_great_vessels(), *renal_arteries],
        hu=draw_hu(rng),
    )


def make_ellipsoid(centre: ArrayLike, radii: ArrayLike, degrees: ArrayLike = (0, 0, 0)) -> Ellipsoid:
    """Return an ellipsoid with these radii, rotated about x, then y, then z."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        about_axis = np.eye(3)
        about_axis[i, i] = about_axis[j, j] = np.cos(angle)
        about_axis[i, j], about_axis[j, i] = -np.sin(angle), np.sin(angle)
        rotation = about_axis @ rotation
    covariance = rotation @ np.diag(np.asarray(radii, float) ** 2) @ rotation.T
    return Ellipsoid(np.asarray(centre, float), np.linalg.inv(covariance), np.sqrt(np.diag(covariance)))


def make_tube(start: ArrayLike, end: ArrayLike, radius: float, end_radius: float | None = None) -> Tube:
    """Return a tube; without `end_radius` it is as wide at its end as at its start."""
    return Tube(np.asarray(start, float), np.asarray(end, float), radius, radius if end_radius is None else end_radius)


def draw_near(rng: np.random.Generator, centre: ArrayLike, spread: ArrayLike) -> np.ndarray:
    """Draw a point or three angles, each uniform within `spread` of `centre`."""
    return np.asarray(centre) + rng.uniform(-1, 1, 3) * spread


def draw_body(rng: np.random.Generator) -> Body:
    middle = 0.5 + rng.uniform(-0.015, 0.015), 0.5 + rng.uniform(-0.02, 0.02), 0.5 + rng.uniform(-0.03, 0.03)
    scale = rng.uniform((0.95, 0.94, 0.94), (1.06, 1.1, 1.06))
    return Body(middle, scale, rng.uniform(0.018, 0.045), rng.uniform(0.026, 0.034), rng.uniform(0, 1))


def draw_liver(rng: np.random.Generator) -> Liver:
    right = make_ellipsoid(
        draw_near(rng, (0.29, 0.47, 0.51), 0.02),
        (0.17, 0.205, 0.205) * rng.uniform(0.9, 1.1, 3),
        draw_near(rng, 0, (12, 18, 15)),
    )
    left = make_ellipsoid(
        draw_near(rng, (0.46, 0.345, 0.57), 0.025),
        (0.17, 0.095, 0.115) * rng.uniform(0.8, 1.2, 3),
        draw_near(rng, (0, 8, -8), (15, 12, 15)),
    )
    warp = rng.uniform(0.006, 0.016, 3), rng.uniform(1.2, 2.6, (3, 2)), rng.uniform(0, 2 * np.pi, 3)
    waves = rng.uniform(0.04, 0.09, 4), rng.normal(0, 2.6, (4, 3)), rng.uniform(0, 2 * np.pi, 4)
    porta = draw_near(rng, (0.43, 0.53, 0.44), 0.015)
    below = make_ellipsoid(
        porta + (0.02, 0.05, -0.09), (0.1, 0.11, 0.12) * rng.uniform(0.8, 1.2, 3), draw_near(rng, 0, 20)
    )
    fissure = make_ellipsoid(
        (porta[0] + 0.01, 0.3, 0.44), (0.007, 0.07, 0.1), (0, rng.uniform(-10, 10), rng.uniform(-25, 5))
    )
    return Liver(right, left, warp, waves, porta, [below, fissure])


def draw_gallbladder(rng: np.random.Generator, porta: np.ndarray) -> list[Part]:
    radii = rng.uniform(0.024, 0.034) * np.array((1, 1.5, 1.7))
    shape = make_ellipsoid(porta + (-0.055, -0.12, -0.07), radii, draw_near(rng, 0, 25))
    return [Part(shape, GALLBLADDER, INSIDE_WALL)]


def draw_liver_vessels(rng: np.random.Generator, liver: Liver) -> list[Part]:
    """Draw the portal vein, its branches in both lobes, and the hepatic veins."""
    vessels = []
    for lobe, branches in ((liver.right, 6), (liver.left, 3)):
        hub = liver.porta + (lobe.centre - liver.porta) * 0.6
        vessels.append(make_tube(liver.porta, hub, 0.014, 0.009))
        for _ in range(branches):
            tip = lobe.centre + rng.uniform(-0.7, 0.7, 3) * lobe.bounds
            fork = hub + (tip - hub) * 0.55
            vessels.append(make_tube(hub, fork, 0.009, 0.006))
            for _ in range(2):
                vessels.append(make_tube(fork, fork + (tip - fork) + rng.normal(0, 0.025, 3), 0.006, 0.003))
    top, right, left = np.array((0.455, 0.56, 0.66)), liver.right.centre, liver.left.centre
    for tip in (right + (-0.06, 0.05, 0), right + (0.02, -0.1, 0.02), left):
        bend = (top + tip) / 2 + rng.normal(0, 0.015, 3) + (0, 0, 0.02)
        vessels += [make_tube(top, bend, 0.011, 0.009), make_tube(bend, tip, 0.009, 0.004)]
    portal_vein = make_tube(liver.porta + (0.06, 0.02, -0.14), liver.porta, 0.016)
    return [
        Part(portal_vein, BLOOD, ~only(LIVER, LUNG) & INSIDE_WALL),
        *(Part(vessel, LIVER_VESSEL, only(LIVER)) for vessel in vessels),
    ]


def draw_tumours(rng: np.random.Generator, liver: Liver) -> list[Part]:
    """Draw 0 to MAX_TUMOURS tumours, four of five in the right lobe."""
    tumours = []
    for index in range(rng.choice(MAX_TUMOURS + 1, p=(0.1, 0.2, 0.2, 0.2, 0.2, 0.1))):
        lobe = liver.right if rng.random() < 0.8 else liver.left
        direction = rng.normal(size=3)
        centre = lobe.centre + direction / np.linalg.norm(direction) * rng.uniform(0.1, 0.65) * lobe.bounds
        radii = rng.uniform(0.014, 0.05) * rng.uniform(0.75, 1.25, 3)
        shape = make_ellipsoid(centre, radii, draw_near(rng, 0, 45))
        tumours.append(Part(shape, TUMOUR + index, only(LIVER, LIVER_VESSEL)))
    return tumours


def draw_stomach(rng: np.random.Generator, liver: Liver) -> list[Part]:
    """Draw a stomach of two ellipsoids with gas in front.

    One end lies inside the left lobe and the liver is painted over it, so stomach and liver always touch.
    """
    left = liver.left.centre
    fundus = make_ellipsoid(
        left + (0.17, 0.07, -0.01) + rng.uniform(-0.015, 0.015, 3),
        (0.125, 0.095, 0.14) * rng.uniform(0.9, 1.1, 3),
        draw_near(rng, (0, 15, 25), 10),
    )
    antrum = make_ellipsoid(left + (0.1, 0.04, -0.12), (0.13, 0.06, 0.06) * rng.uniform(0.9, 1.1, 3), (0, -25, 10))
    fluid_y = fundus.centre[1] - rng.uniform(0.055, 0.08)
    over = ~only(SPLEEN, MYOCARDIUM, BLOOD) & INSIDE_WALL
    return [
        Part(fundus, STOMACH, over),
        Part(antrum, STOMACH, over),
        Part(fundus, GAS, only(STOMACH), 0.85, 'front', fluid_y),
    ]


def draw_spleen(rng: np.random.Generator) -> list[Part]:
    centre = draw_near(rng, (0.79, 0.57, 0.56), 0.015)
    radii = (0.07, 0.125, 0.125) * rng.uniform(0.85, 1.15, 3)
    return [Part(make_ellipsoid(centre, radii, draw_near(rng, (0, 0, 20), 10)), SPLEEN, only(CAVITY, LUNG))]


def draw_chest(rng: np.random.Generator) -> list[Part]:
    """Draw the left dome of the diaphragm, the oesophagus, the vessels of the lungs and the heart."""
    dome = make_ellipsoid((0.70, 0.46, 0.50), (0.2, 0.27, 0.23))
    oesophagus = make_tube((0.51, 0.545, 1.2), (0.54, 0.5, 0.62), 0.016)
    heart = make_ellipsoid(
        draw_near(rng, (0.55, 0.37, 0.85), 0.015),
        (0.155, 0.12, 0.15) * rng.uniform(0.92, 1.08, 3),
        draw_near(rng, (0, 15, 25), 8),
    )
    left_chamber = make_ellipsoid(heart.centre + (0.05, 0.02, 0), (0.065, 0.045, 0.085), (0, 15, 25))
    right_chamber = make_ellipsoid(heart.centre + (-0.055, -0.02, 0), (0.05, 0.05, 0.085), (0, 15, 25))
    vessels = []
    for side in (-1, 1):
        hilum = np.array((0.5 + side * 0.1, 0.5, 0.9))
        for _ in range(22):
            tip = hilum + (side * rng.uniform(0.03, 0.22), rng.uniform(-0.2, 0.2), rng.uniform(-0.35, 0.15))
            vessels.append(make_tube(hilum, tip, 0.008, 0.002))
    return [
        Part(dome, DIAPHRAGM, only(LUNG)),
        Part(dome, CAVITY, only(DIAPHRAGM, MEDIASTINUM), 0.95),
        Part(oesophagus, DIAPHRAGM, IN_CHEST),
        *(Part(vessel, LUNG_VESSEL, only(LUNG)) for vessel in vessels),
        Part(heart, MYOCARDIUM, IN_CHEST),
        Part(left_chamber, BLOOD, only(MYOCARDIUM)),
        Part(right_chamber, BLOOD, only(MYOCARDIUM)),
    ]


def draw_kidneys(rng: np.random.Generator) -> tuple[list[Part], list[Part]]:
    """Draw both kidneys in their fat, and the renal arteries: (parts of the kidneys, parts of the arteries)."""
    kidneys, arteries = [], []
    for x, z, tilt, inwards in ((0.33, 0.27, 12, 1), (0.67, 0.31, -12, -1)):
        centre = draw_near(rng, (x, 0.625, z), 0.012)
        radii = (0.056, 0.062, 0.115) * rng.uniform(0.9, 1.1, 3)
        kidney = make_ellipsoid(centre, radii, (0, tilt, 10 * inwards))
        sinus = make_ellipsoid(centre + (inwards * 0.04, -0.005, 0), (0.032, 0.022, 0.05))
        kidneys += [
            Part(kidney, CAVITY, INSIDE_WALL, 1.35),
            Part(kidney, CORTEX, INSIDE_WALL),
            Part(kidney, MEDULLA, only(CORTEX), 0.55),
            Part(sinus, CAVITY, only(CORTEX, MEDULLA)),
        ]
        arteries.append(Part(make_tube((0.5, 0.585, centre[2]), sinus.centre, 0.01), BLOOD, IN_ABDOMEN))
    return kidneys, arteries


def make_pancreas() -> list[Part]:
    over = only(CAVITY, BOWEL, BOWEL_FLUID)
    return [
        Part(make_tube((0.43, 0.46, 0.36), (0.55, 0.45, 0.41), 0.03, 0.022), PANCREAS, over),
        Part(make_tube((0.55, 0.45, 0.41), (0.74, 0.55, 0.47), 0.022, 0.018), PANCREAS, over),
    ]


def make_great_vessels() -> list[Part]:
    """Return the inferior vena cava, whose upper end bends forwards, and the aorta."""
    return [
        Part(make_tube((0.455, 0.59, -1), (0.455, 0.585, 0.5), 0.026), BLOOD, INSIDE_WALL),
        Part(make_tube((0.455, 0.585, 0.5), (0.47, 0.53, 0.74), 0.026), BLOOD, INSIDE_WALL),
        Part(make_tube((0.535, 0.575, -1), (0.54, 0.60, 2), 0.024), BLOOD, INSIDE_WALL),
    ]


def draw_bowel(rng: np.random.Generator) -> list[Part]:
    """Draw the small bowel as 18 random walks of six short tubes; one in five walks is filled with fluid."""
    parts = []
    for _ in range(18):
        point = np.array((rng.uniform(0.3, 0.72), rng.uniform(0.28, 0.48), rng.uniform(-0.02, 0.34)))
        content = rng.choice((BOWEL, BOWEL, BOWEL, BOWEL, BOWEL_FLUID))
        radius = rng.uniform(0.024, 0.034)
        for _ in range(6):
            step = rng.normal(size=3) * (1, 0.7, 0.6)
            next_point = np.clip(point + 0.09 * step / np.linalg.norm(step), (0.25, 0.25, -0.05), (0.77, 0.5, 0.36))
            loop = make_tube(point, next_point, radius)
            parts.append(Part(loop, BOWEL, IN_ABDOMEN))
            if content == BOWEL_FLUID:
                parts.append(Part(loop, BOWEL_FLUID, only(BOWEL), 0.75))
            point = next_point
    return parts


def make_colon() -> list[Part]:
    """Return the colon, two upright tubes and two across, with gas in front of fluid in each."""
    parts = []
    for start, end, radius in (
        ((0.2, 0.5, -0.2), (0.23, 0.47, 0.24), 0.042),
        ((0.81, 0.52, -0.2), (0.8, 0.5, 0.34), 0.034),
        ((0.25, 0.32, 0.22), (0.5, 0.26, 0.16), 0.036),
        ((0.5, 0.26, 0.16), (0.76, 0.34, 0.32), 0.036),
    ):
        tube = make_tube(start, end, radius)
        parts += [
            Part(tube, COLON, only(CAVITY, BOWEL, BOWEL_FLUID)),
            Part(tube, GAS, only(COLON), 0.85, 'front'),
            Part(tube, BOWEL_FLUID, only(COLON), 0.85, 'behind'),
        ]
    return parts


def draw_hu(rng: np.random.Generator) -> np.ndarray:
    """Draw the HU of every tissue number, float32; stomach, bowel and heart muscle are close to the liver."""
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
        LIVER: rng.uniform(102, 108),
        LIVER_VESSEL: rng.uniform(142, 158),
    }
    hu |= {
        STOMACH: hu[LIVER] + rng.uniform(-3.5, 3.5),
        BOWEL: hu[LIVER] + rng.uniform(-5, 5),
        MYOCARDIUM: hu[LIVER] + rng.uniform(-4, 4),
        SPLEEN: rng.uniform(110, 118),
        PANCREAS: rng.uniform(88, 100),
        **{TUMOUR + index: rng.uniform(40, 70) for index in range(MAX_TUMOURS)},
    }
    return np.array([hu[tissue] for tissue in range(TISSUES)], np.float32)
