"""Draw what a data set looks like: slice spacing, HU of the liver, slices with liver, size of the liver in them."""

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from utilities.viewing.figure_files import DPI

HU_EDGES = np.arange(-1000, 1001, 10)  # edges of the bins of the histogram of HU
SPACING_EDGES = np.arange(-0.125, 100, 0.25)  # mm; the bars are centred at 0, 0.25, 0.5 ...
SHARE_EDGES = np.arange(0, 1.02, 0.01)
BAR_COLOUR, MARK_COLOUR, PALE_COLOUR = '#0072B2', '#D55E00', '0.85'


def count_hu(values: np.ndarray) -> np.ndarray:
    """Count HU in the bins of HU_EDGES, int64; values beyond the edges count in the outermost bins."""
    return np.histogram(np.clip(values, HU_EDGES[0], HU_EDGES[-1]), HU_EDGES)[0]


def draw_dataset(table: pandas.DataFrame, hu_counts: np.ndarray, window: tuple[float, float]) -> Figure:
    """Draw four panels about the cases of a data set.

    Args:
        table: a row for each case with its numbers of slices, liver_slices, pixels (of the slices with liver), liver
            (voxels) and inside (of these voxels, those in the window), and spacing_z in mm.
        hu_counts: liver voxels of all cases in the bins of `count_hu`.
        window: lowest and highest HU of the intensity window.
    """
    figure = Figure((9, 7), DPI, layout='constrained')
    figure.get_layout_engine().set(hspace=0.06, wspace=0.06)
    (spacing, hu), (slices, share) = figure.subplots(2, 2)
    mean_spacing = table['spacing_z'].mean()
    draw_histogram(spacing, table['spacing_z'], SPACING_EDGES, mean_spacing, 'mean')
    spacing.set(title=f'Distance of the slices: mean {mean_spacing:.2f} mm', xlabel='mm')
    draw_hu(hu, hu_counts, window)
    hu.set(title=f'HU of the liver: {describe_share(table["inside"], table["liver"])} in the window', xlabel='HU')
    draw_slices(slices, table)
    slices.set(title=f'Slices: {describe_share(table["liver_slices"], table["slices"])} hold liver')
    shares = table['liver'] / table['pixels'].where(table['pixels'] > 0)
    share_of_all = table['liver'].sum() / max(1, table['pixels'].sum())
    draw_histogram(share, shares.dropna(), SHARE_EDGES, share_of_all, 'all cases together')
    share.set(title=f'Pixels of these slices: {describe_share(table["liver"], table["pixels"])} are liver')
    share.set(xlabel='liver pixels in the slices with liver')
    share.xaxis.set_major_formatter(PercentFormatter(1))
    for axes in (spacing, hu, slices, share):
        axes.spines[['top', 'right']].set_visible(False)
    return figure


def describe_share(part: pandas.Series, whole: pandas.Series) -> str:
    """Return the sum of one column as a percentage of another's, such as '12.34%'; 'none' if that sum is 0."""
    return f'{part.sum() / whole.sum():.2%}' if whole.sum() else 'none'


def draw_histogram(axes: Axes, values: pandas.Series, edges: np.ndarray, mark: float, mark_name: str) -> None:
    """Draw a histogram of one value of each case, and a dashed line at the value `mark`."""
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, fill=True, color=BAR_COLOUR)
    axes.axvline(mark, color=MARK_COLOUR, lw=1.5, ls=(0, (5, 3)), label=mark_name)
    filled = np.flatnonzero(counts)
    last_edge = filled[-1] + 2 if len(filled) else 1
    axes.set(ylabel='cases', xlim=(0, edges[last_edge]))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    leave_room_for_legend(axes)


def draw_hu(axes: Axes, counts: np.ndarray, window: tuple[float, float]) -> None:
    """Draw the histogram of the HU of the liver over the intensity window."""
    lower, upper = window
    axes.axvspan(lower, upper, ymax=0.83, color=PALE_COLOUR, zorder=0, label=f'window, {lower:g} to {upper:g} HU')
    axes.stairs(counts / max(1, counts.sum()), HU_EDGES, fill=True, color=BAR_COLOUR, label='liver')
    margin = (upper - lower) / 2
    axes.set(ylabel='liver voxels per 10 HU', xlim=(lower - margin, upper + margin))
    leave_room_for_legend(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def draw_slices(axes: Axes, table: pandas.DataFrame) -> None:
    """Draw the slices of each case with and without liver, the shortest case first."""
    table = table.sort_values('slices')
    edges = np.arange(len(table) + 1) + 0.5
    axes.stairs(table['slices'], edges, fill=True, color=PALE_COLOUR, label='without liver')
    axes.stairs(table['liver_slices'], edges, fill=True, color=BAR_COLOUR, label='with liver')
    axes.set(xlabel='cases, the shortest first', ylabel='slices', xlim=(edges[0], edges[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    leave_room_for_legend(axes)


def leave_room_for_legend(axes: Axes) -> None:
    """Draw the legend above the bars."""
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
    axes.legend(loc='upper left', ncols=2, framealpha=1, edgecolor='none')
