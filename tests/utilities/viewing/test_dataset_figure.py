"""The figure of a data set: its bars, marks and titles, counted by hand."""

import numpy as np
import pandas
import pytest
from matplotlib.patches import StepPatch

from utilities.viewing.dataset_figure import HU_EDGES, count_hu, draw_dataset
from utilities.viewing.figure_files import encode_png

WINDOW = -200, 200


def bars(axes):
    """Return the bars of a histogram as (left edge, right edge, height), without the empty ones."""
    found = []
    for patch in axes.patches:
        if isinstance(patch, StepPatch):
            heights, edges, _ = patch.get_data()
            found.append([tuple(bar) for bar in zip(edges[:-1], edges[1:], heights) if bar[2]])
    return found


def case_row(slices, liver_slices, liver, inside, spacing_z):
    return {
        'slices': slices,
        'liver_slices': liver_slices,
        'pixels': 100 * liver_slices,
        'liver': liver,
        'inside': inside,
        'spacing_z': spacing_z,
    }


@pytest.fixture
def panels():
    """Two cases: 10 slices, 2 with liver of 8 and 7 pixels; 4 slices, all with liver of 5 pixels of 100."""
    table = pandas.DataFrame([case_row(10, 2, 15, 15, 2.5), case_row(4, 4, 20, 13, 1.0)])
    hu_counts = count_hu(np.repeat([-300, 0, 5, 105], [7, 8, 10, 10]))
    figure = draw_dataset(table, hu_counts, WINDOW)
    assert len(encode_png(figure)) > 10_000
    return figure.axes


def test_hu_are_counted_in_bins_of_10_and_outliers_in_the_outermost():
    counts = count_hu(np.array([-5000, -1000, -1, 0, 9, 10, 999, 1000, 30_000], np.int16))
    assert {int(HU_EDGES[k]): int(counts[k]) for k in np.flatnonzero(counts)} == {
        -1000: 2,
        -10: 1,
        0: 2,
        10: 1,
        990: 3,
    }
    assert not count_hu(np.empty(0, np.int16)).any()


def test_spacing_is_counted_by_case_with_its_mean(panels):
    assert bars(panels[0]) == [[(0.875, 1.125, 1), (2.375, 2.625, 1)]]
    assert panels[0].lines[0].get_xdata()[0] == 1.75 and '1.75 mm' in panels[0].get_title()


def test_hu_are_shares_of_the_liver_voxels_with_the_window_marked(panels):
    (shares,) = bars(panels[1])
    assert [(left, right) for left, right, _ in shares] == [(-300, -290), (0, 10), (100, 110)]
    assert [height for *_, height in shares] == pytest.approx([7 / 35, 18 / 35, 10 / 35])
    span = panels[1].patches[0]
    assert (span.get_x(), span.get_width()) == (-200, 400)
    assert '80.00% in the window' in panels[1].get_title()  # 28 of 35
    assert panels[1].get_xlim() == (-400, 400)


def test_slices_with_and_without_liver_are_shown_case_by_case_the_shortest_first(panels):
    all_slices, liver_slices = bars(panels[2])
    assert all_slices == [(0.5, 1.5, 4), (1.5, 2.5, 10)] and liver_slices == [(0.5, 1.5, 4), (1.5, 2.5, 2)]
    assert '42.86%' in panels[2].get_title()  # 6 of 14


def test_the_share_of_liver_pixels_is_counted_by_case_with_that_of_all(panels):
    (shares,) = bars(panels[3])
    assert [left for left, *_ in shares] == pytest.approx([0.05, 0.07]) and [height for *_, height in shares] == [1, 1]
    assert panels[3].lines[0].get_xdata()[0] == pytest.approx(35 / 600) and '5.83%' in panels[3].get_title()


def test_a_data_set_without_liver_is_drawn():
    figure = draw_dataset(pandas.DataFrame([case_row(10, 0, 0, 0, 1.0)]), count_hu(np.empty(0)), WINDOW)
    assert 'none' in figure.axes[1].get_title() and len(encode_png(figure)) > 10_000
