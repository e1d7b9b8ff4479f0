"""Figures of a training, of masks on their CT and of the tables of a run.

All are matplotlib Figures without pyplot, so that they may be drawn in any thread; `save` and `png` turn them into files and bytes.
"""
import io
from collections import namedtuple
from itertools import starmap

import numpy as np
import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numba import njit

from utilities.calculate_metrics import count_voxels, overlap_metrics
from utilities.errors import InputError, one_line
from utilities.volume import whole_file

# Okabe and Ito's colours, which colour-blind readers tell apart; the line styles are for readers in grey
COLOURS = {'label': '#009E73', 'prediction': '#E69F00', 'CRF': '#56B4E9'}
STYLES = {'label': {'linestyles': 'solid', 'linewidths': 1.6}, 'prediction': {'linestyles': [(0, (5, 2))], 'linewidths': 1.4},
          'CRF': {'linestyles': [(0, (1, 1.2))], 'linewidths': 2}}
LOSSES = ['loss1', 'loss2', 'loss3', 'loss4', 'total']
LOSS_COLOURS = ('#CC79A7', '#56B4E9', '#E69F00', '#0072B2', '0.35')
TABLE_COLOURS = (COLOURS['prediction'], COLOURS['CRF'], '#CC79A7', '#0072B2')
HEADS = ('head 1 (coarsest)', 'head 2', 'head 3', 'head 4 (output)')
SPREAD = {'dice': 'Dice', 'assd': 'ASSD, mm'}  # columns of the box plots, and their names

DPI = 100
STEPS = [1, 2, 5, 10]  # between ticks
MOST_POINTS = 1500  # steps drawn one by one; more are drawn as a band
LIMITS = 1.96  # standard deviations on both sides of the mean that hold 95% of normal differences
MARGIN = 20  # mm around the masks
APART = 15  # mm at least between two of the worst slices
SLICES = 3  # worst slices of a case
NAMED = 5  # cases that all get their names; of more those outside the limits of agreement
WIDTH, TALLEST, GAP = 900, 340, 10  # pixels: of a figure, of its planes at most, between them
TITLE, LINE, LEGEND = 28, 17, 30  # pixels in height: of a row's title, of a line of its planes' captions, of the legend

Panel = namedtuple('Panel', 'caption left ct masks height width')  # a plane, its size in mm, and the side of the body at its left
Row = namedtuple('Row', 'title note panels')


class NothingToDraw(InputError):
    """What a figure shows is not there."""


def save(figure, path):
    """Write a figure as a PNG file, whole or not at all."""
    with whole_file(path) as part:
        part.write_bytes(png(figure))


def png(figure, dpi=DPI):
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format='png')
    return buffer.getvalue()


def read_table(path, columns, numbers):
    """A csv as DataFrame. Raises InputError unless it holds these columns, and numbers in those of `numbers` that it holds."""
    try:
        table = pandas.read_csv(path)
    except ValueError as error:
        raise InputError(f'{path}: wanted a table, got {error}') from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f'{path}: wanted the columns {", ".join(columns)}, found no {", ".join(missing)}')
    text = [column for column in numbers if column in table and table[column].dtype.kind not in 'if']
    if len(table) and text:
        raise InputError(f'{path}: wanted numbers in the column {text[0]}, got {table[text[0]].iloc[0]!r:.40}')
    return table


# ---------------------------------------------------------------------------- training

def loss_curve(csv):
    """The losses of a loss.csv over steps and epochs, with validation Dice where there is one, and the learning rate.

    Faint: the steps, or of more than MOST_POINTS the band that holds the middle 80% of them; strong: running means over a fiftieth of the
    run. The best epoch has the highest validation Dice, or, without validation, the lowest mean loss of the output head. A table without
    rows gives a figure that says so.
    """
    columns = ['epoch', 'step', *LOSSES, 'learning_rate']
    table = read_table(csv, columns, [*columns, 'validation_dice'])
    if table.empty:
        figure = Figure((9, 2), DPI)
        figure.text(0.5, 0.5, 'no step yet', ha='center', va='center', fontsize=14)
        return figure
    validated = table[table['validation_dice'].notna()] if 'validation_dice' in table else table[:0]
    heights = [4, 1.7, 1] if len(validated) else [4, 1]
    figure = Figure((9, 1.1 * sum(heights)), DPI, layout='constrained')
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    draw_losses(panels[0], table)
    epoch, value = best_epoch(table)
    end = table.loc[table['epoch'] == epoch, 'step'].max()
    what = 'validation Dice' if len(validated) else 'mean loss of head 4'
    for axes in panels:
        axes.axvline(end, color='0.4', lw=1.2, ls=(0, (4, 3)), label=f'best epoch {epoch}: {what} {value:.4f}')
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].legend(loc='upper right', ncols=2, fontsize=9, framealpha=1, edgecolor='none')
    if len(validated):
        panels[1].plot('step', 'validation_dice', data=validated, color='#009E73', marker='o', ms=4 if len(validated) < 60 else 0)
        panels[1].plot(end, value, color='#D55E00', marker='*', ms=12, ls='none')
        panels[1].set_ylabel('validation\nDice')
    panels[-1].plot(table['step'], table['learning_rate'], color='0.2', lw=1.5, drawstyle='steps-post',
                    marker='o' if len(table) == 1 else None)
    panels[-1].xaxis.set_major_locator(MaxNLocator(10, steps=STEPS, integer=True))
    panels[-1].xaxis.set_major_formatter('{x:,.0f}')
    rates = np.unique(table['learning_rate'])
    rates = rates if len(rates) <= 5 else rates[[0, -1]]
    panels[-1].set(yscale='log', ylim=(rates[0] / 2, rates[-1] * 2), ylabel='learning\nrate', xlabel='step')
    panels[-1].set_yticks(rates, [f'{rate:g}' for rate in rates])
    panels[-1].minorticks_off()
    figure.align_ylabels()
    return figure


def draw_losses(axes, table):
    """The losses of a table over its steps, with the epochs on top."""
    rows = len(table)
    part = np.arange(rows) * min(rows, MOST_POINTS) // rows
    last = np.flatnonzero(np.diff(part, append=part[-1] + 1))
    steps = table['step'].to_numpy()[last]
    means = table[LOSSES].rolling(max(1, rows // 50), min_periods=1).mean()
    low, high = (table[LOSSES].groupby(part).quantile(q) for q in (0.1, 0.9))
    for column, name, colour in zip(LOSSES, (*HEADS, 'weighted sum'), LOSS_COLOURS):
        if column == 'total':
            pass
        elif rows > MOST_POINTS:
            axes.fill_between(steps, low[column], high[column], color=colour, alpha=0.15, lw=0)
        else:
            axes.plot(steps, table[column], color=colour, alpha=0.25, lw=0.8)
        axes.plot(steps, means[column].to_numpy()[last], color=colour, lw=2.2 if column == 'loss4' else 1.3, label=name,
                  marker='o' if rows == 1 else None)
    first, end = table['step'].iloc[0], table['step'].iloc[-1]
    axes.set(ylabel='loss', xlim=(first, end) if end > first else (first - 1, first + 1))
    if means.min().min() > 0 and means.max().max() > 20 * means.min().min():
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter('{x:g}')
    else:
        axes.set_ylim(0, None)
    ends = table.groupby('epoch')['step'].last()
    wanted = MaxNLocator(8, steps=STEPS, integer=True).tick_values(ends.index[0], ends.index[-1])
    ends = ends[ends.index.isin(wanted)]
    axes.secondary_xaxis('top', xlabel='epoch', functions=(lambda x: x, lambda x: x)).set_xticks(ends, ends.index)


def best_epoch(table):
    """(epoch, its value): the highest validation Dice or, without one, the lowest mean loss4 of the epochs that went to their end."""
    if 'validation_dice' in table and table['validation_dice'].notna().any():
        best = table.loc[table['validation_dice'].idxmax()]
        return int(best['epoch']), float(best['validation_dice'])
    losses = table.groupby('epoch')['loss4'].agg(['mean', 'size'])
    if len(losses) > 1 and losses['size'].iloc[-1] < losses['size'].iloc[-2]:
        losses = losses[:-1]  # stopped on its way
    return int(losses['mean'].idxmin()), float(losses['mean'].min())


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
    return draw([row for row in starmap(worst_row, cases) if row.panels], window, 'no case has a label that its mask differs from')


def three_planes(title, ct, masks, spacing):
    counts = [profiles(mask) for mask in masks.values()]
    box = z, y, x = box_of(counts, ct.shape, spacing)
    main = next((each for each in counts if each[0].any()), None)
    spot = [int(along.argmax()) for along in main] if main else [n // 2 for n in ct.shape]
    up = slice(None, None, -1)  # head up
    planes = (('axial', 'R', np.s_[spot[0], y, x], np.s_[:, :], spacing[1], spacing[0]),
              ('coronal', 'R', np.s_[z, spot[1], x], up, spacing[2], spacing[0]),
              ('sagittal', 'A', np.s_[z, y, spot[2]], up, spacing[2], spacing[1]))
    return Row(title, dice_text(masks, box), [plane(name, left, ct, masks, where, turn, height, width)
                                              for name, left, where, turn, height, width in planes])


def worst_row(title, ct, masks, spacing):
    compared = masks.get('prediction', masks.get('CRF'))
    if 'label' not in masks or compared is None:
        return Row(title, '', [])
    box = _, y, x = box_of([profiles(mask) for mask in masks.values()], ct.shape, spacing)
    differ = np.array([np.count_nonzero((a != 0) != (b != 0)) for a, b in zip(masks['label'], compared)])
    panels, left = [], differ.copy()
    while len(panels) < SLICES and left.any():
        z = int(left.argmax())
        left[np.abs(np.arange(len(left)) - z) * spacing[2] < APART] = 0
        area = differ[z] * spacing[0] * spacing[1] / 100
        caption = f'slice {z + 1} of {len(ct)}: {area:.1f} cm² differ\n{dice_text(masks, np.s_[z:z + 1, y, x])}'
        panels.append(plane(caption, 'R', ct, masks, np.s_[z, y, x], np.s_[:, :], spacing[1], spacing[0]))
    return Row(title, dice_text(masks, box), panels)


def plane(caption, left, ct, masks, where, turn, height, width):
    """The Panel of one plane; height, width: mm of a pixel. Copied, so that the volume need not stay."""
    cut = ct[where][turn].copy()
    return Panel(caption, left, cut, {name: (mask[where] != 0)[turn] for name, mask in masks.items()},
                 height * cut.shape[0], width * cut.shape[1])


def dice_text(masks, box):
    """Dice of each mask to the label in a box; '' without label."""
    if 'label' not in masks:
        return ''
    dice = {name: overlap_metrics(*count_voxels(masks['label'][box], mask[box]))['dice'] for name, mask in masks.items() if name != 'label'}
    return 'Dice: ' + ', '.join(f'{name} {value:.3f}' for name, value in dice.items()) if dice else ''


def box_of(counts, shape, spacing):
    """Slices (z, y, x) of the box around all masks, from their profiles, grown by MARGIN and cut at the border; all empty: everything."""
    box = []
    for along, size, step in zip(zip(*counts), shape, spacing[::-1]):
        held = np.flatnonzero(np.sum(along, 0))
        grow = round(MARGIN / step)
        box.append(slice(max(0, int(held[0]) - grow), min(size, int(held[-1]) + 1 + grow)) if len(held) else slice(0, size))
    return tuple(box or (slice(0, size) for size in shape))


@njit(cache=True, nogil=True)
def profiles(mask):
    """Marked voxels of every slice of a mask (z, y, x) across z, across y and across x."""
    across_z, across_y, across_x = (np.zeros(mask.shape[0], np.int64), np.zeros(mask.shape[1], np.int64),
                                    np.zeros(mask.shape[2], np.int64))
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            row, n = mask[z, y], np.int32(0)
            for x in range(len(row)):
                n += np.int32(row[x] != 0)
            if n:
                across_z[z] += n
                across_y[y] += n
                for x in range(len(row)):
                    across_x[x] += row[x] != 0
    return across_z, across_y, across_x


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
        figure.text(GAP / WIDTH, middle, f'{one_line(row.title):.70}', color='white', fontsize=12, va='center', parse_math=False)
        figure.text(1 - GAP / WIDTH, middle, row.note, color='white', fontsize=11, va='center', ha='right')
        left, start = GAP, top - TITLE - caption_height(row)
        for panel in row.panels:
            across, high = scale * panel.width, scale * panel.height
            figure.text(left / WIDTH, (top - TITLE) / total, panel.caption, color='white', fontsize=9, va='top')
            draw_panel(figure.add_axes((left / WIDTH, (start - high) / total, across / WIDTH, high / total)), panel, window)
            left += across + GAP
        top -= height
    names = [name for name in COLOURS if any(name in row.panels[0].masks for row in rows)]
    handles = [Line2D([], [], color=COLOURS[name], lw=STYLES[name]['linewidths'] + 0.4, ls=line_style(name), label=name) for name in names]
    figure.legend(handles=handles, loc='lower center', ncols=max(1, len(handles)), labelcolor='white', frameon=False, fontsize=11,
                  handlelength=3, borderaxespad=0.3)
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
            axes.contour(np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1), np.pad(mask, 1), [0.5],
                         colors=COLOURS[name], **STYLES[name])
    rows, columns = panel.ct.shape
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.set_axis_off()
    bar = 50 / panel.width
    style = {'color': 'white', 'path_effects': [withStroke(linewidth=3, foreground='black')], 'transform': axes.transAxes}
    axes.text(0.015, 0.5, panel.left, fontsize=9, va='center', **style)
    axes.plot([0.97 - bar, 0.97], [0.03, 0.03], lw=2, solid_capstyle='butt', **style)
    axes.text(0.97 - bar / 2, 0.045, '5 cm', fontsize=8, ha='center', va='bottom', **style)


# ---------------------------------------------------------------------------- tables

def bland_altman(tables):
    """Volumes against the labels', a panel a table: differences over means, mL, with their mean and limits of agreement.

    tables: {name: DataFrame as in result.csv}; the limits are mean +- LIMITS standard deviations of the sample (Bland and Altman 1986) and
    need two cases. Cases without label are left out. Raises NothingToDraw where no table has a case with a label.
    """
    volumes = {name: table.dropna(subset=['volume_ml', 'label_volume_ml']) for name, table in tables.items() if 'label_volume_ml' in table}
    volumes = {name: table for name, table in volumes.items() if len(table)}
    if not volumes:
        raise NothingToDraw('no table holds volumes of labels')
    figure = Figure((9, 4.6), DPI, layout='constrained')
    panels = figure.subplots(1, len(volumes), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, table), colour in zip(panels, volumes.items(), TABLE_COLOURS):
        differences = table['volume_ml'] - table['label_volume_ml']
        means = (table['volume_ml'] + table['label_volume_ml']) / 2
        axes.plot(means, differences, color=colour, mec='black', marker='o', ls='none', ms=7, alpha=0.8)
        mean, far = differences.mean(), LIMITS * differences.std()
        text = f'mean {mean:+.1f} mL'
        axes.axhline(mean, color='black', lw=1.3)
        if len(table) > 1:
            text += f'\nlimits {mean - far:+.1f} to {mean + far:+.1f} mL'
            for limit in (mean - far, mean + far):
                axes.axhline(limit, color='#D55E00', lw=1.3, ls=(0, (5, 3)))
        named = means if len(table) <= NAMED else means[(differences - mean).abs() > far]
        for case in named.index:
            nearest = (named.drop(case) - means[case]).abs().sort_values().index[:1]
            below = any(differences[case] < differences[other] for other in nearest)  # away from the name beside it
            axes.annotate(one_line(case), (means[case], differences[case]), (0, -15 if below else 8), textcoords='offset points',
                          fontsize=8, color='0.3', ha='center', parse_math=False)
        axes.axhline(0, color='0.8', lw=1, zorder=0)
        axes.set(xlabel='mean of both volumes, mL')
        axes.set_title(f'{name}, {len(table)} case{"s" * (len(table) != 1)}\n{text}', fontsize=10)
        axes.margins(x=0.25, y=0.15)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel('volume - volume of the label, mL')
    return figure


def boxes(tables):
    """Box plots of Dice and ASSD, a box a table, each case a dot, joined from table to table.

    tables: {name: DataFrame as in result.csv}, a case with the same index in each. Distances that are infinite (an empty mask) are left
    out and counted below. Raises NothingToDraw where no table has a score.
    """
    scored = {name: table[table['dice'].notna()] for name, table in tables.items() if 'dice' in table}
    scored = {name: table for name, table in scored.items() if len(table)}
    if not scored:
        raise NothingToDraw('no table holds scores')
    figure = Figure((9, 4.6), DPI, layout='constrained')
    places = np.arange(len(scored))
    for axes, (column, title) in zip(figure.subplots(1, len(SPREAD)), SPREAD.items()):
        values = pandas.DataFrame({name: table[column] for name, table in scored.items()})
        finite = values.where(np.isfinite(values))
        drawn = axes.boxplot([finite[name].dropna() for name in scored], positions=places, widths=0.5, showfliers=False, patch_artist=True,
                             medianprops={'color': 'black', 'lw': 1.5})
        for patch, colour in zip(drawn['boxes'], TABLE_COLOURS):
            patch.set(facecolor=colour, alpha=0.45)
        axes.plot(places, finite.T, color='0.3', lw=0.7, marker='o', ms=4, alpha=0.7)
        axes.set_xticks(places, [f'{name}\n{below_box(values[name])}' for name in scored])
        axes.set(title=title, xlim=(-0.6, len(scored) - 0.4))
        axes.grid(axis='y', alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    return figure


def below_box(values):
    """What stands below a box: its cases and their median, and what is left out of it."""
    finite, infinite = values[np.isfinite(values)], int(np.isinf(values).sum())
    lines = [f'n = {len(finite)}', f'median {finite.median():.3f}' * bool(len(finite)), f'{infinite} infinite, not shown' * bool(infinite)]
    return '\n'.join(filter(None, lines))
