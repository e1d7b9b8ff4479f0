"""Figures of a training, of masks on their CT and of the tables of a run.

All are matplotlib Figures without pyplot, so that they may be drawn in any thread; `save` and `png` turn them into files and bytes.
"""

from collections import namedtuple
from itertools import starmap

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from utilities.base.errors import one_line
from utilities.evaluation.calculate_metrics import count_voxels, overlap_metrics
from utilities.image.bounding_box import bounding_box, count_per_slice
from utilities.viewing.figure_files import DPI, NothingToDraw

COLOURS = {'label': '#009E73', 'prediction': '#E69F00', 'CRF': '#56B4E9'}
STYLES = {
    'label': {'linestyles': 'solid', 'linewidths': 1.6},
    'prediction': {'linestyles': [(0, (5, 2))], 'linewidths': 1.4},
    'CRF': {'linestyles': [(0, (1, 1.2))], 'linewidths': 2},
}
MARGIN = 20  # mm around the masks
APART = 15  # mm at least between two of the worst slices
SLICES = 3  # worst slices of a case
WIDTH, TALLEST, GAP = 900, 340, 10  # pixels: of a figure, of its planes at most, between them
TITLE, LINE, LEGEND = 28, 17, 30  # pixels in height: of a row's title, of a line of its planes' captions, of the legend

Panel = namedtuple(
    'Panel', 'caption left ct masks height width'
)  # a plane, its size in mm, and the side of the body at its left
Row = namedtuple('Row', 'title note panels')


# ---------------------------------------------------------------------------- masks on their CT


def case_picture(title, ct, masks, spacing, window, width=WIDTH):
    """One case as in `segmentation`: uint8 (rows, `width` columns, 3), to be shown elsewhere."""
    figure = segmentation([(title, ct, masks, spacing)], window)
    figure.dpi = (width + 0.01) / WIDTH * DPI
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def segmentation(cases, window):
    """A row a case: the axial, coronal and sagittal slice with most liver, cropped to the masks and MARGIN, at one scale.

    cases: any iterable of (title, ct, masks, spacing): arrays (z, y, x) in the patient's view, masks a dict with keys of COLOURS (each
    may be missing or empty), non-zero is liver, spacing (x, y, z) in mm; only the planes are kept, so a generator holds one case at a
    time. window: lowest and highest HU shown. Most liver: of the first mask that is not empty; all empty: the middle of the whole CT.
    With a label, each row tells the Dice of the whole masks. Raises NothingToDraw without a case.
    """
    return draw(list(starmap(three_planes, cases)), window, 'no case to show')


def worst_slices(cases, window):
    """A row a case: up to SLICES axial slices, APART mm or more from each other, where prediction and label differ most, worst first.

    cases, window: as in `segmentation`. Without prediction the CRF is compared; a case without label or without a difference has no row.
    Slices are counted from 1 at the feet. Raises NothingToDraw where no case has a difference.
    """
    return draw(
        [row for row in starmap(worst_row, cases) if row.panels],
        window,
        'no case has a label that its mask differs from',
    )


def three_planes(title, ct, masks, spacing):
    counts = [count_per_slice(mask) for mask in masks.values()]
    box = z, y, x = box_of(counts, ct.shape, spacing)
    main = next((each for each in counts if each[0].any()), None)
    spot = [int(along.argmax()) for along in main] if main else [n // 2 for n in ct.shape]
    up = slice(None, None, -1)  # head up
    planes = (
        ('axial', 'R', np.s_[spot[0], y, x], np.s_[:, :], spacing[1], spacing[0]),
        ('coronal', 'R', np.s_[z, spot[1], x], up, spacing[2], spacing[0]),
        ('sagittal', 'A', np.s_[z, y, spot[2]], up, spacing[2], spacing[1]),
    )
    return Row(
        title,
        dice_text(masks, box),
        [plane(name, left, ct, masks, where, turn, height, width) for name, left, where, turn, height, width in planes],
    )


def worst_row(title, ct, masks, spacing):
    compared = masks.get('prediction', masks.get('CRF'))
    if 'label' not in masks or compared is None:
        return Row(title, '', [])
    box = _, y, x = box_of([count_per_slice(mask) for mask in masks.values()], ct.shape, spacing)
    differ = np.array([np.count_nonzero((a != 0) != (b != 0)) for a, b in zip(masks['label'], compared)])
    panels, left = [], differ.copy()
    while len(panels) < SLICES and left.any():
        z = int(left.argmax())
        left[np.abs(np.arange(len(left)) - z) * spacing[2] < APART] = 0
        area = differ[z] * spacing[0] * spacing[1] / 100
        caption = f'slice {z + 1} of {len(ct)}: {area:.1f} cm² differ\n{dice_text(masks, np.s_[z : z + 1, y, x])}'
        panels.append(plane(caption, 'R', ct, masks, np.s_[z, y, x], np.s_[:, :], spacing[1], spacing[0]))
    return Row(title, dice_text(masks, box), panels)


def plane(caption, left, ct, masks, where, turn, height, width):
    """The Panel of one plane; height, width: mm of a pixel. Copied, so that the volume need not stay."""
    cut = ct[where][turn].copy()
    return Panel(
        caption,
        left,
        cut,
        {name: (mask[where] != 0)[turn] for name, mask in masks.items()},
        height * cut.shape[0],
        width * cut.shape[1],
    )


def dice_text(masks, box):
    """Dice of each mask to the label in a box; '' without label."""
    if 'label' not in masks:
        return ''
    dice = {
        name: overlap_metrics(*count_voxels(masks['label'][box], mask[box]))['dice']
        for name, mask in masks.items()
        if name != 'label'
    }
    return 'Dice: ' + ', '.join(f'{name} {value:.3f}' for name, value in dice.items()) if dice else ''


def box_of(counts, shape, spacing):
    """Slices (z, y, x) of the box around all masks, from their counts per slice, grown by MARGIN; all empty: the whole volume."""
    totals = [np.sum(along_axis, 0) for along_axis in zip(*counts)] or [np.zeros(size) for size in shape]
    return bounding_box(totals, [round(MARGIN / step) for step in spacing[::-1]])


def draw(rows, window, why_none):
    """Rows of planes with their outlines, white on black, a legend below. Each row fills the width at a scale of its own."""
    if not rows:
        raise NothingToDraw(why_none)
    scales, heights = [], []
    for row in rows:
        widest, highest = sum(panel.width for panel in row.panels), max(panel.height for panel in row.panels)
        scales.append(min((WIDTH - GAP * (len(row.panels) + 1)) / widest, TALLEST / highest))
        heights.append(TITLE + caption_height(row) + scales[-1] * highest + GAP)
    total = sum(heights) + LEGEND
    figure = Figure((WIDTH / DPI, total / DPI), DPI, facecolor='black')
    top = total
    for row, scale, height in zip(rows, scales, heights):
        middle = (top - TITLE / 2) / total
        figure.text(
            GAP / WIDTH, middle, f'{one_line(row.title):.70}', color='white', fontsize=12, va='center', parse_math=False
        )
        figure.text(1 - GAP / WIDTH, middle, row.note, color='white', fontsize=11, va='center', ha='right')
        left, start = GAP, top - TITLE - caption_height(row)
        for panel in row.panels:
            across, high = scale * panel.width, scale * panel.height
            figure.text(left / WIDTH, (top - TITLE) / total, panel.caption, color='white', fontsize=9, va='top')
            draw_panel(
                figure.add_axes((left / WIDTH, (start - high) / total, across / WIDTH, high / total)), panel, window
            )
            left += across + GAP
        top -= height
    names = [name for name in COLOURS if any(name in row.panels[0].masks for row in rows)]
    handles = [
        Line2D([], [], color=COLOURS[name], lw=STYLES[name]['linewidths'] + 0.4, ls=line_style(name), label=name)
        for name in names
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
    return figure


def caption_height(row):
    return LINE * (1 + row.panels[0].caption.count('\n'))


def line_style(name):
    style = STYLES[name]['linestyles']
    return style if isinstance(style, str) else style[0]


def draw_panel(axes, panel, window):
    """A plane and its outlines; the pixel of row r and column c has its centre at (c, r)."""
    axes.imshow(panel.ct, cmap='gray', vmin=window[0], vmax=window[1], aspect='auto', interpolation='hanning')
    for name, mask in panel.masks.items():
        if mask.any():  # framed by background, so that the outline of what touches the border is closed
            axes.contour(
                np.arange(-1, mask.shape[1] + 1),
                np.arange(-1, mask.shape[0] + 1),
                np.pad(mask, 1),
                [0.5],
                colors=COLOURS[name],
                **STYLES[name],
            )
    rows, columns = panel.ct.shape
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.set_axis_off()
    bar = 50 / panel.width
    style = {
        'color': 'white',
        'path_effects': [withStroke(linewidth=3, foreground='black')],
        'transform': axes.transAxes,
    }
    axes.text(0.015, 0.5, panel.left, fontsize=9, va='center', **style)
    axes.plot([0.97 - bar, 0.97], [0.03, 0.03], lw=2, solid_capstyle='butt', **style)
    axes.text(0.97 - bar / 2, 0.045, '5 cm', fontsize=8, ha='center', va='bottom', **style)
