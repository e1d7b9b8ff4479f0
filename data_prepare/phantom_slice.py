"""Paint the tissues of one slice of a phantom."""

import numpy as np

from data_prepare.phantom_anatomy import (
    AIR,
    BLOOD,
    BONE,
    CANAL,
    CAVITY,
    DIAPHRAGM,
    DISC,
    FAT,
    LIVER,
    LUNG,
    MARROW,
    MEDIASTINUM,
    MUSCLE,
    MYOCARDIUM,
    SKIN,
    TABLE,
    Anatomy,
    Body,
    Ellipsoid,
    Liver,
    Part,
    Tube,
    only,
)

TURN = np.float32(2 * np.pi)
VERTEBRAE = 11  # in the height of the reference frame
LOBE_SHARPNESS = np.float32(5)  # the higher, the sharper the fold between the lobes of the liver


def paint_slice(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, z: np.float32) -> np.ndarray:
    """Return the tissue numbers of one slice, uint8 (y, x).

    Args:
        anatomy: the organs.
        x, y: coordinates of the columns and of the rows in the reference frame, float32, ascending.
        z: coordinate of the slice.
    """
    image = np.full((len(y), len(x)), AIR, np.uint8)
    paint_table_and_wall(image, anatomy.body, x[None, :], y[:, None], z)
    cavity = image == CAVITY
    paint_lungs(image, cavity, anatomy.lung_base, x[None, :], y[:, None], z)
    for part in anatomy.parts_below_liver:
        paint_part(image, part, x, y, z)
    paint_liver(image, anatomy.liver, cavity, x, y, z)
    for part in anatomy.parts_over_liver:
        paint_part(image, part, x, y, z)
    inside = (image != AIR) & (image != TABLE)
    paint_spine(image, inside, x[None, :], y[:, None], z)
    if z > 0.3:
        paint_ribs(image, anatomy.body, x[None, :], y[:, None], z)
    return image


def box_slices(x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice] | None:
    """Return the (row, column) slices of the pixels between two corners (x, y), or None if there are none."""
    rows = slice(*np.searchsorted(y, (low[1], high[1])))
    columns = slice(*np.searchsorted(x, (low[0], high[0])))
    is_empty = rows.start >= rows.stop or columns.start >= columns.stop
    return None if is_empty else (rows, columns)


def paint_part(image: np.ndarray, part: Part, x: np.ndarray, y: np.ndarray, z: np.float32) -> None:
    """Paint the cross-section of a part, or of its side in front of or behind the surface of a fluid."""
    if part.side:
        row = np.searchsorted(y, axis_y(part.shape, z) if part.fluid_y is None else part.fluid_y)
        rows = slice(row) if part.side == 'front' else slice(row, None)
        image, y = image[rows], y[rows]
    find_inside = inside_tube if isinstance(part.shape, Tube) else inside_ellipsoid
    if cross_section := find_inside(part.shape, part.extent, x, y, z):
        box, mask = cross_section
        pixels = image[box]
        pixels[mask & part.over[pixels]] = part.tissue


def axis_y(tube: Tube, z: np.float32) -> float:
    """Return y of the tube's axis where it crosses the slice at z, or of its nearer end."""
    fraction = np.clip((z - tube.start[2]) / (tube.end[2] - tube.start[2]), 0, 1)
    return tube.start[1] + fraction * (tube.end[1] - tube.start[1])


def inside_ellipsoid(
    ellipsoid: Ellipsoid, extent: float, x: np.ndarray, y: np.ndarray, z: np.float32
) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Return a box of the image and the mask of its pixels whose squared radius is below `extent`.

    The box is a pair of slices (rows, columns). Returns None where the slice at z does not meet the ellipsoid.
    """
    bounds = ellipsoid.bounds * np.sqrt(extent)
    if abs(z - ellipsoid.centre[2]) > bounds[2]:
        return None
    box = box_slices(x, y, ellipsoid.centre - bounds, ellipsoid.centre + bounds)
    if not box:
        return None
    return box, ellipsoid.squared_radius(x[None, box[1]], y[box[0], None], z) < extent


def inside_tube(
    tube: Tube, extent: float, x: np.ndarray, y: np.ndarray, z: np.float32
) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Return a box of the image and the mask of its pixels inside the tube, whose radius is multiplied by `extent`.

    The box is a pair of slices (rows, columns). Returns None where the slice at z does not meet the tube.
    """
    max_radius = max(tube.radius, tube.end_radius) * extent
    low, high = np.minimum(tube.start, tube.end) - max_radius, np.maximum(tube.start, tube.end) + max_radius
    box = box_slices(x, y, low, high) if low[2] <= z <= high[2] else None
    if not box:
        return None
    start_x, start_y, start_z = tube.start.astype(np.float32)
    dx, dy, dz = x[None, box[1]] - start_x, y[box[0], None] - start_y, z - start_z
    ex, ey, ez = (tube.end - tube.start).astype(np.float32)
    fraction = ((ex * dx + ey * dy + ez * dz) / (ex * ex + ey * ey + ez * ez)).clip(0, 1)
    radius = np.float32(extent) * (np.float32(tube.radius) + fraction * np.float32(tube.end_radius - tube.radius))
    return box, (dx - fraction * ex) ** 2 + (dy - fraction * ey) ** 2 + (dz - fraction * ez) ** 2 < radius**2


def superellipse(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """Return a function of the pixels that is 1 on the outline of the body and less inside.

    width and height: half axes of the outline.
    """
    half, power = np.float32(0.5), np.float32(2.4)
    return np.abs((x - half) / np.float32(width)) ** power + np.abs((y - half) / np.float32(height)) ** power


def body_size(z: np.float32) -> tuple[float, float]:
    """Return the half axes (width, height) of the body at z."""
    return 0.43 + 0.012 * np.sin(5 * z), 0.305 + 0.01 * np.cos(4 * z)


def paint_table_and_wall(image: np.ndarray, body: Body, x: np.ndarray, y: np.ndarray, z: np.float32) -> None:
    """Paint the table, and the body from the skin to the cavity, each layer over the inside of the one before."""
    image[np.abs(y - (0.845 - 0.35 * (x - 0.5) ** 2)) * np.ones_like(x) < 0.006] = TABLE
    width, height = body_size(z)
    for inset, tissue in ((0, SKIN), (0.006, FAT), (body.fat, MUSCLE), (body.fat + body.muscle, CAVITY)):
        image[superellipse(x, y, width - inset, height - inset) < 1] = tissue


def paint_lungs(
    image: np.ndarray, cavity: np.ndarray, lung_base: float, x: np.ndarray, y: np.ndarray, z: np.float32
) -> None:
    """Paint the lungs, whose base lies lower at the back, and the mediastinum between them."""
    image[cavity & (z > lung_base + 0.26 * (0.72 - y) - 0.7 * (x - 0.5) ** 2)] = LUNG
    middle = ((x - 0.5) / 0.085) ** 2 + ((y - 0.49) / 0.27) ** 2 < 1
    image[(image == LUNG) & middle] = MEDIASTINUM


def paint_liver(
    image: np.ndarray, liver: Liver, cavity: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.float32
) -> None:
    """Paint the liver, and the diaphragm between liver and lung, inside the mask `cavity` but never over the heart."""
    right, left = liver.right, liver.left
    low = np.minimum(right.centre - 1.3 * right.bounds, left.centre - 1.3 * left.bounds)
    high = np.maximum(right.centre + 1.3 * right.bounds, left.centre + 1.3 * left.bounds)
    box = box_slices(x, y, low, high) if low[2] < z < high[2] else None
    if not box:
        return
    x, y, pixels = x[None, box[1]], y[box[0], None], image[box]
    surface = liver_surface(liver, x, y, z)
    free = cavity[box] & ~only(BLOOD, MYOCARDIUM)[pixels]
    pixels[free & (surface < 0.09) & (pixels == LUNG)] = DIAPHRAGM
    inside = free & (surface < 0)
    for dent in liver.dents:
        if abs(z - dent.centre[2]) < dent.bounds[2]:
            inside &= dent.squared_radius(x, y, z) >= 1
    pixels[inside] = LIVER


def liver_surface(liver: Liver, x: np.ndarray, y: np.ndarray, z: np.float32) -> np.ndarray:
    """Return the function that is 0 on the surface of the liver and negative inside.

    It is the smooth minimum of the squared radii of both lobes at warped points, less 1, plus a sum of sine waves.
    """
    amplitude, frequency, phase = (values.astype(np.float32) for values in liver.warp)
    warped_x = x + amplitude[0] * np.sin(TURN * (frequency[0, 0] * y + frequency[0, 1] * z) + phase[0])
    warped_y = y + amplitude[1] * np.sin(TURN * (frequency[1, 0] * x + frequency[1, 1] * z) + phase[1])
    warped_z = z + amplitude[2] * np.sin(TURN * (frequency[2, 0] * x + frequency[2, 1] * y) + phase[2])
    right, left = (lobe.squared_radius(warped_x, warped_y, warped_z) for lobe in (liver.right, liver.left))
    surface = np.minimum(right, left) - np.log1p(np.exp(-LOBE_SHARPNESS * np.abs(right - left))) / LOBE_SHARPNESS - 1
    for height, vector, start in zip(*(values.astype(np.float32) for values in liver.waves)):
        surface += height * np.sin(TURN * (vector[0] * x + vector[1] * y + vector[2] * z) + start)
    return surface


def ellipse_squared_radius(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], half_axes: tuple[float, float]
) -> np.ndarray:
    """Return the squared radius of the pixels about the centre of an ellipse: 1 on the ellipse, less inside."""
    (cx, cy), (rx, ry) = centre, half_axes
    return ((x - np.float32(cx)) / np.float32(rx)) ** 2 + ((y - np.float32(cy)) / np.float32(ry)) ** 2


def paint_spine(image: np.ndarray, inside: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.float32) -> None:
    """Paint the muscles beside the spine, the vertebra or disc at z and the spinal canal within the mask `inside`."""
    height = z * VERTEBRAE % 1  # within a vertebra and its disc; the disc is the lowest fifth
    for tissue, is_present, centre, half_axes in (
        (MUSCLE, True, (0.5 - 0.068, 0.728), (0.062, 0.045)),
        (MUSCLE, True, (0.5 + 0.068, 0.728), (0.062, 0.045)),
        (MUSCLE, z < 0.4, (0.5 - 0.075, 0.655), (0.033, 0.042)),
        (MUSCLE, z < 0.4, (0.5 + 0.075, 0.655), (0.033, 0.042)),
        (BONE, True, (0.5, 0.708), (0.034, 0.03)),  # the arch around the canal
        (BONE, height > 0.35, (0.5 - 0.05, 0.708), (0.036, 0.011)),  # transverse processes
        (BONE, height > 0.35, (0.5 + 0.05, 0.708), (0.036, 0.011)),
        (BONE, height > 0.35, (0.5, 0.75), (0.009, 0.035)),  # spinous process
    ):
        if is_present:
            image[inside & (ellipse_squared_radius(x, y, centre, half_axes) < 1)] = tissue
    image[inside & (ellipse_squared_radius(x, y, (0.5, 0.708), (0.034, 0.03)) < 0.42)] = CANAL
    waist = 1 if height < 0.2 else 1 + 0.12 * np.cos(2 * np.pi * (height - 0.2) / 0.8)
    column = ellipse_squared_radius(x, y, (0.5, 0.645), (0.053, 0.043)) / waist
    image[inside & (column < 1)] = DISC if height < 0.2 else BONE
    if 0.25 < height < 0.95:
        image[inside & (column < 0.8)] = MARROW


def paint_ribs(image: np.ndarray, body: Body, x: np.ndarray, y: np.ndarray, z: np.float32) -> None:
    """Paint the ribs: rings in the wall of the body that are lower in front."""
    phase = (8 * (z - 0.7 * (y - 0.5) + 0.4 * np.abs(x - 0.5)) + body.rib_phase) % 1
    wall = (y > 0.3 - 0.15 * (z - 0.3)) & (np.abs(x - 0.5) > 0.1)
    image[wall & wall_ring(body, x, y, z, 0.009) & (phase < 0.36)] = BONE
    image[wall & wall_ring(body, x, y, z, 0.005) & (phase > 0.07) & (phase < 0.29)] = MARROW


def wall_ring(body: Body, x: np.ndarray, y: np.ndarray, z: np.float32, half_width: float) -> np.ndarray:
    """Return the mask of a ring in the muscle of the wall, `half_width` to both sides of its middle line."""
    width, height = body_size(z)
    inset = body.fat + 0.55 * body.muscle
    outer = superellipse(x, y, width - inset + half_width, height - inset + half_width)
    inner = superellipse(x, y, width - inset - half_width, height - inset - half_width)
    return (outer < 1) & (inner >= 1)
