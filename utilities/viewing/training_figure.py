"""Draw the losses of a training."""

from pathlib import Path

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utilities.base.errors import InputError
from utilities.training.curve import LOSSES
from utilities.viewing.figure_files import DPI

NAMES = ('head 1 (coarsest)', 'head 2', 'head 3', 'head 4 (output)', 'weighted sum')  # of LOSSES
COLOURS = ('#CC79A7', '#56B4E9', '#E69F00', '#0072B2', '0.35')  # of LOSSES
VALIDATION_COLOUR, BEST_COLOUR = '#009E73', '#D55E00'
TICK_STEPS = [1, 2, 5, 10]  # distances of ticks, times a power of ten
MAX_POINTS = 1500  # with more steps, a band replaces the lines of single steps
RUNNING_MEANS = 50  # a running mean covers 1 / RUNNING_MEANS of all steps
MAX_MARKED_VALIDATIONS = 60  # with more validations, the line has no markers


def draw_loss_curve(path: Path | str) -> Figure:
    """Draw the losses of a loss.csv over steps and epochs, the validation Dice if there is one, and the learning rate.

    Pale lines are single steps; with more than MAX_POINTS steps, a pale band from the 10th to the 90th percentile
    replaces them. Strong lines are running means. The best epoch has the highest validation Dice or, without
    validation, the lowest mean loss of the output head. A table without rows gives a figure with the text 'no step
    yet'. Raises InputError if a column is missing or holds text.
    """
    table = read_losses(path)
    if table.empty:
        figure = Figure((9, 2), DPI)
        figure.text(0.5, 0.5, 'no step yet', ha='center', va='center', fontsize=14)
        return figure
    validated = table[table['validation_dice'].notna()] if 'validation_dice' in table else table[:0]
    heights = [4, 1.7, 1] if len(validated) else [4, 1]
    figure = Figure((9, 1.1 * sum(heights)), DPI, layout='constrained')
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    draw_losses(panels[0], table)
    epoch, value = find_best_epoch(table)
    last_step = table.loc[table['epoch'] == epoch, 'step'].max()
    criterion = 'validation Dice' if len(validated) else 'mean loss of head 4'
    label = f'best epoch {epoch}: {criterion} {value:.4f}'
    for axes in panels:
        axes.axvline(last_step, color='0.4', lw=1.2, ls=(0, (4, 3)), label=label)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=3, fontsize=9, frameon=False)
    if len(validated):
        draw_validation(panels[1], validated)
        panels[1].plot(last_step, value, color=BEST_COLOUR, marker='*', ms=12, ls='none')
    draw_learning_rate(panels[-1], table)
    figure.align_ylabels()
    return figure


def read_losses(path: Path | str) -> pandas.DataFrame:
    """Read a loss.csv. Raises InputError if it lacks a column that is drawn, or holds text in one."""
    wanted = ['epoch', 'step', *LOSSES, 'learning_rate']
    try:
        table = pandas.read_csv(path)
    except ValueError as error:
        raise InputError(f'{path}: wanted a table, got {error}') from None
    missing = [column for column in wanted if column not in table]
    if missing:
        raise InputError(f'{path}: wanted the columns {", ".join(wanted)}, found no {", ".join(missing)}')
    drawn = table.filter([*wanted, 'validation_dice'])
    text_columns = [column for column in drawn if drawn[column].dtype.kind not in 'if']
    if len(table) and text_columns:
        first = text_columns[0]
        raise InputError(f'{path}: wanted numbers in the column {first}, got {table[first].iloc[0]!r:.40}')
    return table


def draw_losses(axes: Axes, table: pandas.DataFrame) -> None:
    """Draw the losses of a table over its steps, with the epochs on top."""
    count = len(table)
    groups = np.arange(count) * min(count, MAX_POINTS) // count  # number of the drawn point that each step belongs to
    last_rows = np.flatnonzero(np.diff(groups, append=groups[-1] + 1))
    steps = table['step'].to_numpy()[last_rows]
    means = table[list(LOSSES)].rolling(max(1, count // RUNNING_MEANS), min_periods=1).mean()
    low, high = (table[list(LOSSES)].groupby(groups).quantile(q) for q in (0.1, 0.9))
    for column, name, colour in zip(LOSSES, NAMES, COLOURS):
        if column != 'total' and count > MAX_POINTS:
            axes.fill_between(steps, low[column], high[column], color=colour, alpha=0.15, lw=0)
        elif column != 'total':
            axes.plot(steps, table[column], color=colour, alpha=0.25, lw=0.8)
        width = 2.2 if column == 'loss4' else 1.3
        marker = 'o' if count == 1 else None
        axes.plot(steps, means[column].to_numpy()[last_rows], color=colour, lw=width, label=name, marker=marker)
    first, last = table['step'].iloc[0], table['step'].iloc[-1]
    axes.set(ylabel='loss', xlim=(first, last) if last > first else (first - 1, first + 1))
    lowest, highest = means.min().min(), means.max().max()
    if lowest > 0 and highest > 20 * lowest:
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter('{x:g}')
    else:
        axes.set_ylim(0, None)
    draw_epochs(axes, table)


def draw_epochs(axes: Axes, table: pandas.DataFrame) -> None:
    """Draw an axis of epochs on top; the tick of an epoch stands above its last step."""
    last_steps = table.groupby('epoch')['step'].last()
    ticks = MaxNLocator(8, steps=TICK_STEPS, integer=True).tick_values(last_steps.index[0], last_steps.index[-1])
    last_steps = last_steps[last_steps.index.isin(ticks)]
    same_scale = (lambda x: x, lambda x: x)
    axes.secondary_xaxis('top', xlabel='epoch', functions=same_scale).set_xticks(last_steps, last_steps.index)


def draw_validation(axes: Axes, validated: pandas.DataFrame) -> None:
    """Draw the validation Dice of the rows that have one."""
    marker_size = 4 if len(validated) < MAX_MARKED_VALIDATIONS else 0
    axes.plot('step', 'validation_dice', data=validated, color=VALIDATION_COLOUR, marker='o', ms=marker_size)
    axes.set_ylabel('validation\nDice')


def draw_learning_rate(axes: Axes, table: pandas.DataFrame) -> None:
    """Draw the learning rate over the steps; the ticks are its values, or the lowest and highest of more than five."""
    marker = 'o' if len(table) == 1 else None
    axes.plot(table['step'], table['learning_rate'], color='0.2', lw=1.5, drawstyle='steps-post', marker=marker)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=TICK_STEPS, integer=True))
    axes.xaxis.set_major_formatter('{x:,.0f}')
    rates = np.unique(table['learning_rate'])
    if len(rates) > 5:
        rates = rates[[0, -1]]
    axes.set(yscale='log', ylim=(rates[0] / 2, rates[-1] * 2), ylabel='learning\nrate', xlabel='step')
    axes.set_yticks(rates, [f'{rate:g}' for rate in rates])
    axes.minorticks_off()


def find_best_epoch(table: pandas.DataFrame) -> tuple[int, float]:
    """Return the epoch of the highest validation Dice and this Dice.

    Without validation: the epoch of the lowest mean loss4 and this loss, leaving out an unfinished last epoch.
    """
    if 'validation_dice' in table and table['validation_dice'].notna().any():
        best = table.loc[table['validation_dice'].idxmax()]
        return int(best['epoch']), float(best['validation_dice'])
    losses = table.groupby('epoch')['loss4'].agg(['mean', 'size'])
    if len(losses) > 1 and losses['size'].iloc[-1] < losses['size'].iloc[-2]:
        losses = losses[:-1]
    return int(losses['mean'].idxmin()), float(losses['mean'].min())
