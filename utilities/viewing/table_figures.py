"""Draw the scores in the tables of val.py and the CRF."""

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utilities.base.errors import one_line
from utilities.viewing.case_figures import COLOURS
from utilities.viewing.figure_files import DPI, NothingToDraw

TABLE_COLOURS = (COLOURS['prediction'], COLOURS['CRF'])
BOX_PLOTS = {'dice': 'Dice', 'assd': 'ASSD, mm'}  # columns of the box plots, and their titles
LIMITS_FACTOR = 1.96  # standard deviations on both sides of the mean that hold 95% of normal differences
MAX_NAME_LENGTH = 20  # characters of a name that are written
MAX_NAMED = 5  # with more cases, only those outside the limits of agreement are named


def draw_bland_altman(tables: dict[str, pandas.DataFrame]) -> Figure:
    """Draw the differences between the volumes of masks and labels over their means, in mL, a panel for each table.

    The limits of agreement are the mean +- LIMITS_FACTOR standard deviations of the sample (Bland and Altman 1986) and
    need two cases. Cases without a label are left out.

    Args:
        tables: {name: table as in result.csv}, two at most.

    Raises:
        NothingToDraw: no table has a case with a label.
    """
    volumes = {}
    for name, table in tables.items():
        if 'label_volume_ml' in table:
            volumes[name] = table.dropna(subset=['volume_ml', 'label_volume_ml'])
    volumes = {name: table for name, table in volumes.items() if len(table)}
    if not volumes:
        raise NothingToDraw('no table holds volumes of labels')
    figure = Figure((9, 4.6), DPI, layout='constrained')
    panels = figure.subplots(1, len(volumes), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, table), colour in zip(panels, volumes.items(), TABLE_COLOURS):
        draw_differences(axes, name, table, colour)
    panels[0].set_ylabel('volume - volume of the label, mL')
    return figure


def draw_differences(axes: Axes, name: str, table: pandas.DataFrame, colour: str) -> None:
    """Draw one panel of the Bland-Altman plot."""
    differences = table['volume_ml'] - table['label_volume_ml']
    means = (table['volume_ml'] + table['label_volume_ml']) / 2
    axes.plot(means, differences, color=colour, mec='black', marker='o', ls='none', ms=7, alpha=0.8)
    mean, half_range = differences.mean(), LIMITS_FACTOR * differences.std()
    title = f'{name}, {len(table)} {"case" if len(table) == 1 else "cases"}\nmean {mean:+.1f} mL'
    axes.axhline(mean, color='black', lw=1.3)
    if len(table) > 1:
        title += f'\nlimits {mean - half_range:+.1f} to {mean + half_range:+.1f} mL'
        for limit in (mean - half_range, mean + half_range):
            axes.axhline(limit, color='#D55E00', lw=1.3, ls=(0, (5, 3)))
    is_named = (differences - mean).abs() > half_range if len(table) > MAX_NAMED else differences.notna()
    name_cases(axes, means[is_named], differences[is_named])
    axes.axhline(0, color='0.8', lw=1, zorder=0)
    axes.set(xlabel='mean of both volumes, mL')
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.25, y=0.15)
    axes.spines[['top', 'right']].set_visible(False)


def name_cases(axes: Axes, means: pandas.Series, differences: pandas.Series) -> None:
    """Write the names of cases at their points, below a point whose nearest neighbour along x lies higher.

    Points that coincide share one text.
    """
    names_at = {}
    for case in means.index:
        point = (round(means[case], 1), round(differences[case], 1))
        names_at.setdefault(point, []).append(f'{one_line(case):.{MAX_NAME_LENGTH}}')
    for point, names in names_at.items():
        distances = [(abs(other[0] - point[0]), other) for other in names_at if other != point]
        _, neighbour = min(distances, default=(0, point))
        is_below = point[1] < neighbour[1]
        text = axes.annotate(
            '\n'.join(names),
            point,
            (0, -8 if is_below else 8),
            textcoords='offset points',
            fontsize=8,
            color='0.3',
            ha='center',
            va='top' if is_below else 'bottom',
            parse_math=False,
        )
        text.set_in_layout(False)  # else a name that extends beyond the axes makes the panels narrower


def draw_box_plots(tables: dict[str, pandas.DataFrame]) -> Figure:
    """Draw box plots of Dice and ASSD, one box per table; each case is a dot, and a line joins the dots of one case.

    Infinite distances, those of empty masks, are left out and counted below the box.

    Args:
        tables: {name: table as in result.csv}; a case has the same index in each.

    Raises:
        NothingToDraw: no table has a score.
    """
    scored = {name: table[table['dice'].notna()] for name, table in tables.items() if 'dice' in table}
    scored = {name: table for name, table in scored.items() if len(table)}
    if not scored:
        raise NothingToDraw('no table holds scores')
    figure = Figure((9, 4.6), DPI, layout='constrained')
    for axes, (column, title) in zip(figure.subplots(1, len(BOX_PLOTS)), BOX_PLOTS.items()):
        draw_boxes(axes, pandas.DataFrame({name: table[column] for name, table in scored.items()}))
        axes.set_title(title)
    return figure


def draw_boxes(axes: Axes, values: pandas.DataFrame) -> None:
    """Draw one metric: a row of `values` is a case, a column is a table."""
    finite = values.where(np.isfinite(values))
    positions = np.arange(values.shape[1])
    boxes = axes.boxplot(
        [finite[name].dropna() for name in values],
        positions=positions,
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        medianprops={'color': 'black', 'lw': 1.5},
    )
    for patch, colour in zip(boxes['boxes'], TABLE_COLOURS):
        patch.set(facecolor=colour, alpha=0.45)
    axes.plot(positions, finite.T, color='0.3', lw=0.7, marker='o', ms=4, alpha=0.7)
    axes.set_xticks(positions, [f'{name}\n{describe_box(values[name])}' for name in values])
    axes.set_xlim(-0.6, len(positions) - 0.4)
    axes.grid(axis='y', alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)


def describe_box(values: pandas.Series) -> str:
    """Return the text below a box: the number of its cases, their median, and how many infinite values are left out."""
    finite, infinite_count = values[np.isfinite(values)], int(np.isinf(values).sum())
    lines = [f'n = {len(finite)}']
    if len(finite):
        lines.append(f'median {finite.median():.3f}')
    if infinite_count:
        lines.append(f'{infinite_count} infinite, not shown')
    return '\n'.join(lines)
