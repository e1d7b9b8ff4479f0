"""Draw what the tables of val.py and the CRF tell."""

import numpy as np
import pandas
from matplotlib.figure import Figure

from utilities.base.errors import one_line
from utilities.viewing.case_figures import COLOURS
from utilities.viewing.figure_files import DPI, NothingToDraw

TABLE_COLOURS = (COLOURS['prediction'], COLOURS['CRF'], '#CC79A7', '#0072B2')
SPREAD = {'dice': 'Dice', 'assd': 'ASSD, mm'}  # columns of the box plots, and their names
LIMITS = 1.96  # standard deviations on both sides of the mean that hold 95% of normal differences
NAMED = 5  # cases that all get their names; of more those outside the limits of agreement


# ---------------------------------------------------------------------------- tables


def draw_bland_altman(tables):
    """Volumes against the labels', a panel a table: differences over means, mL, with their mean and limits of agreement.

    tables: {name: DataFrame as in result.csv}; the limits are mean +- LIMITS standard deviations of the sample (Bland and Altman 1986) and
    need two cases. Cases without label are left out. Raises NothingToDraw where no table has a case with a label.
    """
    volumes = {
        name: table.dropna(subset=['volume_ml', 'label_volume_ml'])
        for name, table in tables.items()
        if 'label_volume_ml' in table
    }
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
            axes.annotate(
                one_line(case),
                (means[case], differences[case]),
                (0, -15 if below else 8),
                textcoords='offset points',
                fontsize=8,
                color='0.3',
                ha='center',
                parse_math=False,
            )
        axes.axhline(0, color='0.8', lw=1, zorder=0)
        axes.set(xlabel='mean of both volumes, mL')
        axes.set_title(f'{name}, {len(table)} case{"s" * (len(table) != 1)}\n{text}', fontsize=10)
        axes.margins(x=0.25, y=0.15)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel('volume - volume of the label, mL')
    return figure


def draw_box_plots(tables):
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
        drawn = axes.boxplot(
            [finite[name].dropna() for name in scored],
            positions=places,
            widths=0.5,
            showfliers=False,
            patch_artist=True,
            medianprops={'color': 'black', 'lw': 1.5},
        )
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
    lines = [
        f'n = {len(finite)}',
        f'median {finite.median():.3f}' * bool(len(finite)),
        f'{infinite} infinite, not shown' * bool(infinite),
    ]
    return '\n'.join(filter(None, lines))
