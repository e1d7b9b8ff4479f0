"""Draw the outlines of masks on slices of their CT.

The figures are matplotlib Figures without pyplot, so that they may be drawn in any thread.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from utilities.base.errors import one_line
from utilities.evaluation.calculate_metrics import count_voxels, overlap_metrics
from utilities.image.bounding_box import bounding_box, count_per_slice
from utilities.viewing.case_volumes import CaseVolumes
from utilities.viewing.figure_files import DPI, NothingToDraw
from utilities.volumes.geometry import patient_view

COLOURS = {'label': '#009E73', 'prediction': '#E69F00', 'CRF': '#56B4E9', '2D CRF': '#56B4E9', '3D CRF': '#56B4E9'}
CRF_DASHES = (0, (1, 1.2))  # matplotlib's (offset, (dash, gap)), in line widths
DASHES = {'label': 'solid', 'prediction': (0, (5, 2)), 'CRF': CRF_DASHES, '2D CRF': CRF_DASHES, '3D CRF': CRF_DASHES}
LINE_WIDTHS = {'label': 1.6, 'prediction': 1.4, 'CRF': 2, '2D CRF': 2, '3D CRF': 2}  # points

CROP_MARGIN = 20  # mm of CT that are shown around the masks
MIN_SLICE_DISTANCE = 15  # mm between two of the worst slices of a case, at least
MAX_WORST_SLICES = 3  # worst slices of a case that are shown
WIDTH = 900  # pixels of a figure
MAX_PANEL_HEIGHT = 340  # pixels
GAP = 10  # pixels between two panels, and at the sides
TITLE_HEIGHT, CAPTION_LINE_HEIGHT, LEGEND_HEIGHT = 28, 17, 30  # pixels


@dataclass(frozen=True)
class Panel:
    """A slice to draw: its CT (rows, columns) in HU and its masks {name: bool (rows, columns)}.

    left_side: letter of the patient's side at the left edge, R (right) or A (anterior); height, width: mm.
    """

    caption: str
    left_side: str
    ct: np.ndarray
    masks: dict[str, np.ndarray]
    height: float
    width: float


@dataclass(frozen=True)
class Row:
    """A row of panels below a title at the left and a note at the right."""

    title: str
    note: str
    panels: list[Panel]

    @property
    def caption_height(self) -> int:
        """Height of the captions, which all have the same number of lines, in pixels."""
        return CAPTION_LINE_HEIGHT * (1 + self.panels[0].caption.count('\n'))

    @property
    def panel_height(self) -> float:
        """Height of the highest panel, in mm."""
        return max(panel.height for panel in self.panels)

    @property
    def scale(self) -> float:
        """Pixels per mm: the largest scale at which the panels fit into WIDTH and MAX_PANEL_HEIGHT."""
        free_width = WIDTH - GAP * (len(self.panels) + 1)
        return min(free_width / sum(panel.width for panel in self.panels), MAX_PANEL_HEIGHT / self.panel_height)

    @property
    def height(self) -> float:
        """Height of the whole row, in pixels."""
        return TITLE_HEIGHT + self.caption_height + self.scale * self.panel_height + GAP


def draw_case(case: CaseVolumes, window: tuple[float, float], width: int = WIDTH) -> np.ndarray:
    """Draw one case as in `draw_segmentations`; returns an image, uint8 (rows, `width` columns, 3)."""
    figure = draw_segmentations([case], window)
    figure.dpi = (width + 0.01) / WIDTH * DPI
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def draw_segmentations(cases: Iterable[CaseVolumes], window: tuple[float, float]) -> Figure:
    """Draw a row for each case: the axial, coronal and sagittal slice with most liver, cropped to the masks.

    Most liver: of the first mask that is not empty; if all are empty, the middle of the whole CT is shown. With a
    label, each row gives the Dice of the whole masks.

    Args:
        cases: may be a generator; only the slices that are shown stay in memory.
        window: lowest and highest HU that are shown.

    Raises:
        NothingToDraw: there is no case.
    """
    rows = list(map(make_overview_row, cases))
    if not rows:
        raise NothingToDraw('no case to show')
    return draw_rows(rows, window)


def draw_worst_slices(cases: Iterable[CaseVolumes], window: tuple[float, float]) -> Figure:
    """Draw a row for each case: the axial slices whose prediction differs most from the label, the worst first.

    The slices, at most MAX_WORST_SLICES, lie MIN_SLICE_DISTANCE or more apart and are counted from 1 at the feet. The
    mask of the CRF is compared where there is no prediction. A case without label or without a difference has no row.

    Args:
        cases, window: as in `draw_segmentations`.

    Raises:
        NothingToDraw: no case has a difference.
    """
    rows = [row for row in map(make_worst_slices_row, cases) if row.panels]
    if not rows:
        raise NothingToDraw('no case has a label that its mask differs from')
    return draw_rows(rows, window)


# ---------------------------------------------------------------------------- choosing the slices


def make_overview_row(case: CaseVolumes) -> Row:
    """Return the row of three orthogonal slices of a case."""
    case = turn_to_patient_view(case)
    counts = [count_per_slice(mask) for mask in case.masks.values()]
    box = z, y, x = crop_box(counts, case)
    first_mask_counts = next((per_axis for per_axis in counts if per_axis[0].any()), None)
    if first_mask_counts is None:
        centre = [length // 2 for length in case.ct.shape]
    else:
        centre = [int(along_axis.argmax()) for along_axis in first_mask_counts]
    panels = [
        make_panel(case, 'axial', (centre[0], y, x)),
        make_panel(case, 'coronal', (z, centre[1], x)),
        make_panel(case, 'sagittal', (z, y, centre[2])),
    ]
    return Row(case.title, describe_dice(case.masks, box), panels)


def make_worst_slices_row(case: CaseVolumes) -> Row:
    """Return the row of the axial slices that differ most from the label; without panels if no slice differs."""
    case = turn_to_patient_view(case)
    masks, spacing = case.masks, case.geometry.spacing
    compared = [mask for name, mask in masks.items() if name != 'label']
    if 'label' not in masks or not compared:
        return Row(case.title, '', [])
    box = _, y, x = crop_box([count_per_slice(mask) for mask in masks.values()], case)
    differing = np.array([np.count_nonzero((a != 0) != (b != 0)) for a, b in zip(masks['label'], compared[0])])
    candidates = differing.copy()
    panels = []
    while len(panels) < MAX_WORST_SLICES and candidates.any():
        z = int(candidates.argmax())
        candidates[np.abs(np.arange(len(candidates)) - z) * spacing[2] < MIN_SLICE_DISTANCE] = 0
        area = differing[z] * spacing[0] * spacing[1] / 100
        dice = describe_dice(masks, np.s_[z : z + 1, y, x])
        panels.append(make_panel(case, f'slice {z + 1} of {len(case.ct)}: {area:.1f} cm² differ\n{dice}', (z, y, x)))
    return Row(case.title, describe_dice(masks, box), panels)


def turn_to_patient_view(case: CaseVolumes) -> CaseVolumes:
    """Return the case with arrays whose axes run to the head (z), to the back (y) and to the patient's left (x)."""
    masks = {name: patient_view(mask, case.geometry) for name, mask in case.masks.items()}
    return replace(case, ct=patient_view(case.ct, case.geometry), masks=masks)


def make_panel(case: CaseVolumes, caption: str, index: tuple[int | slice, ...]) -> Panel:
    """Return the panel of a plane of a case in the patient's view; index: (z, y, x), one int and two slices.

    The pixels are copied, so that the volumes need not stay in memory. In coronal and sagittal planes the head is on
    top.
    """
    flip = slice(None) if isinstance(index[0], int) else slice(None, None, -1)
    ct = case.ct[index][flip].copy()
    masks = {name: (mask[index] != 0)[flip] for name, mask in case.masks.items()}
    pixel_height, pixel_width = (s for s, part in zip(case.geometry.spacing[::-1], index) if isinstance(part, slice))
    left_side = 'A' if isinstance(index[2], int) else 'R'
    return Panel(caption, left_side, ct, masks, pixel_height * ct.shape[0], pixel_width * ct.shape[1])


def describe_dice(masks: dict[str, np.ndarray], box: tuple[slice, ...]) -> str:
    """Return the Dice of each mask with the label inside a box as a text; '' without a label or another mask."""
    texts = []
    for name, mask in masks.items():
        if name != 'label' and 'label' in masks:
            dice = overlap_metrics(*count_voxels(masks['label'][box], mask[box]))['dice']
            texts.append(f'{name} {dice:.3f}')
    return 'Dice: ' + ', '.join(texts) if texts else ''


def crop_box(counts: list[tuple[np.ndarray, ...]], case: CaseVolumes) -> tuple[slice, ...]:
    """Return the box (slices z, y, x) around all masks of a case, grown by CROP_MARGIN and cut at the border of the CT.

    counts: what `count_per_slice` returns for each mask; if all masks are empty, the box is the whole CT.
    """
    if not counts:
        return np.s_[:, :, :]
    totals = [np.sum(along_axis, axis=0) for along_axis in zip(*counts)]
    return bounding_box(totals, [round(CROP_MARGIN / step) for step in case.geometry.spacing[::-1]])


# ---------------------------------------------------------------------------- drawing


def draw_rows(rows: list[Row], window: tuple[float, float]) -> Figure:
    """Draw rows of panels, white on black, above a legend. Each row has a scale of its own."""
    height = sum(row.height for row in rows) + LEGEND_HEIGHT
    figure = Figure((WIDTH / DPI, height / DPI), DPI, facecolor='black')
    top = height
    for row in rows:
        draw_row(figure, row, top / height, window)
        top -= row.height
    draw_legend(figure, [name for name in COLOURS if any(name in row.panels[0].masks for row in rows)])
    return figure


def draw_row(figure: Figure, row: Row, top: float, window: tuple[float, float]) -> None:
    """Draw a row whose upper edge lies at `top`, as a fraction of the figure's height."""
    height = figure.get_figheight() * DPI  # pixels
    title_y = top - TITLE_HEIGHT / 2 / height
    caption_y = top - TITLE_HEIGHT / height
    panel_top = caption_y - row.caption_height / height
    title = f'{one_line(row.title):.70}'
    figure.text(GAP / WIDTH, title_y, title, color='white', fontsize=12, va='center', parse_math=False)
    figure.text(1 - GAP / WIDTH, title_y, row.note, color='white', fontsize=11, va='center', ha='right')
    left = GAP / WIDTH
    for panel in row.panels:
        panel_width, panel_height = row.scale * panel.width / WIDTH, row.scale * panel.height / height
        figure.text(left, caption_y, panel.caption, color='white', fontsize=9, va='top')
        draw_panel(figure.add_axes((left, panel_top - panel_height, panel_width, panel_height)), panel, window)
        left += panel_width + GAP / WIDTH


def draw_panel(axes: Axes, panel: Panel, window: tuple[float, float]) -> None:
    """Draw a slice with its outlines, a letter for the patient's side and a bar of 5 cm.

    The centre of the pixel in row r and column c lies at (c, r).
    """
    axes.imshow(panel.ct, cmap='gray', vmin=window[0], vmax=window[1], aspect='auto', interpolation='hanning')
    for name, mask in panel.masks.items():
        draw_outline(axes, mask, name)
    rows, columns = panel.ct.shape
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.set_axis_off()
    bar = 50 / panel.width
    black_border = [withStroke(linewidth=3, foreground='black')]
    style = {'color': 'white', 'path_effects': black_border, 'transform': axes.transAxes}
    axes.text(0.015, 0.5, panel.left_side, fontsize=9, va='center', **style)
    axes.plot([0.97 - bar, 0.97], [0.03, 0.03], lw=2, solid_capstyle='butt', **style)
    axes.text(0.97 - bar / 2, 0.045, '5 cm', fontsize=8, ha='center', va='bottom', **style)


def draw_outline(axes: Axes, mask: np.ndarray, name: str) -> None:
    """Draw the outline of a mask (rows, columns) in the style of its name; an empty mask has none."""
    if not mask.any():
        return
    padded = np.pad(mask, 1)  # closes the outline of a mask that touches the border
    x, y = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
    axes.contour(x, y, padded, [0.5], colors=COLOURS[name], linestyles=[DASHES[name]], linewidths=LINE_WIDTHS[name])


def draw_legend(figure: Figure, names: list[str]) -> None:
    """Draw the legend of the outlines below the rows."""
    handles = [
        Line2D([], [], color=COLOURS[name], lw=LINE_WIDTHS[name] + 0.4, ls=DASHES[name], label=name) for name in names
    ]
    figure.legend(
        handles=handles,
        loc='lower center',
        ncols=max(1, len(handles)),
        labelcolor='white',
        frameon=False,
        fontsize=11,
        handlelength=3,
        borderaxespad=0.3,
    )
