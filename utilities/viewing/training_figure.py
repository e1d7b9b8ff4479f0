"""Draw the losses of a training."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utilities.viewing.figure_files import DPI, read_table

LOSSES = ['loss1', 'loss2', 'loss3', 'loss4', 'total']
LOSS_COLOURS = ('#CC79A7', '#56B4E9', '#E69F00', '#0072B2', '0.35')
HEADS = ('head 1 (coarsest)', 'head 2', 'head 3', 'head 4 (output)')
STEPS = [1, 2, 5, 10]  # between ticks
MAX_POINTS = 1500  # steps drawn one by one; more are drawn as a band


# ---------------------------------------------------------------------------- training


def draw_loss_curve(csv):
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
        panels[1].plot(
            'step', 'validation_dice', data=validated, color='#009E73', marker='o', ms=4 if len(validated) < 60 else 0
        )
        panels[1].plot(end, value, color='#D55E00', marker='*', ms=12, ls='none')
        panels[1].set_ylabel('validation\nDice')
    panels[-1].plot(
        table['step'],
        table['learning_rate'],
        color='0.2',
        lw=1.5,
        drawstyle='steps-post',
        marker='o' if len(table) == 1 else None,
    )
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
    part = np.arange(rows) * min(rows, MAX_POINTS) // rows
    last = np.flatnonzero(np.diff(part, append=part[-1] + 1))
    steps = table['step'].to_numpy()[last]
    means = table[LOSSES].rolling(max(1, rows // 50), min_periods=1).mean()
    low, high = (table[LOSSES].groupby(part).quantile(q) for q in (0.1, 0.9))
    for column, name, colour in zip(LOSSES, (*HEADS, 'weighted sum'), LOSS_COLOURS):
        if column == 'total':
            pass
        elif rows > MAX_POINTS:
            axes.fill_between(steps, low[column], high[column], color=colour, alpha=0.15, lw=0)
        else:
            axes.plot(steps, table[column], color=colour, alpha=0.25, lw=0.8)
        axes.plot(
            steps,
            means[column].to_numpy()[last],
            color=colour,
            lw=2.2 if column == 'loss4' else 1.3,
            label=name,
            marker='o' if rows == 1 else None,
        )
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
