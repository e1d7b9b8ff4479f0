"""Bland-Altman and box plots, compared with a calculation by hand and the standard library."""

import statistics

import numpy as np
import pytest

from tests.utilities.viewing.figure_data import make_table
from utilities.viewing.figure_files import NothingToDraw, encode_png
from utilities.viewing.table_figures import draw_bland_altman, draw_box_plots


def test_limits_of_agreement_agree_with_a_calculation_by_hand():
    """Differences 10, 20, 60: mean 30, standard deviation of the sample sqrt(1400 / 2) = 26.4575, x 1.96 = 51.857."""
    figure = draw_bland_altman(
        {'val.py': make_table(volume_ml=[110.0, 220.0, 360.0], label_volume_ml=[100.0, 200.0, 300.0])}
    )
    axes = figure.axes[0]
    levels = sorted(item.get_ydata()[0] for item in axes.lines[1:])
    assert levels == pytest.approx([30 - 51.857, 0, 30, 30 + 51.857], abs=1e-3)
    assert axes.get_title() == 'val.py, 3 cases\nmean +30.0 mL\nlimits -21.9 to +81.9 mL'
    assert list(axes.lines[0].get_xdata()) == [105, 210, 330] and list(axes.lines[0].get_ydata()) == [10, 20, 60]
    assert {text.get_text() for text in axes.texts} == {'volume-0.nii', 'volume-1.nii', 'volume-2.nii'}


def test_cases_at_the_same_point_share_a_text():
    figure = draw_bland_altman(
        {'val.py': make_table(volume_ml=[110.0, 110.0, 220.0], label_volume_ml=[100.0, 100.0, 200.0])}
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ['volume-0.nii\nvolume-1.nii', 'volume-2.nii']


def test_of_many_cases_those_outside_the_limits_are_named():
    difference = np.array([1.0, -1, 2, -2, 1, -1, 0, 2, -2, 50])
    figure = draw_bland_altman({'val.py': make_table(volume_ml=1000 + difference, label_volume_ml=np.full(10, 1000.0))})
    assert statistics.mean(difference) + 1.96 * statistics.stdev(difference) < 50
    assert [text.get_text() for text in figure.axes[0].texts] == ['volume-9.nii']


def test_one_case_has_no_limits_and_a_case_without_label_no_point():
    figure = draw_bland_altman(
        {
            'val.py': make_table(volume_ml=[110.0, 220.0], label_volume_ml=[100.0, np.nan]),
            'CRF': make_table(volume_ml=[105.0, 220.0], label_volume_ml=[100.0, np.nan]),
        }
    )
    assert [axes.get_title() for axes in figure.axes] == ['val.py, 1 case\nmean +10.0 mL', 'CRF, 1 case\nmean +5.0 mL']
    assert len(encode_png(figure)) > 1000


def test_tables_without_labels_raise_an_error():
    for tables in (
        {},
        {'val.py': make_table(volume_ml=[1.0])},
        {'val.py': make_table(volume_ml=[1.0], label_volume_ml=[np.nan], dice=[np.nan])},
    ):
        with pytest.raises(NothingToDraw):
            draw_bland_altman(tables)
        with pytest.raises(NothingToDraw):
            draw_box_plots(tables)


def test_boxes_leave_out_and_count_infinite_values_and_lines_join_the_cases():
    before = make_table(volume_ml=[1.0] * 4, dice=[0.5, 0.7, 0.9, 0.0], assd=[4.0, 3.0, 1.0, np.inf])
    after = make_table(volume_ml=[1.0] * 4, dice=[0.6, 0.8, 0.95, 0.4], assd=[3.0, 2.5, 0.5, 9.0]).iloc[::-1]
    figure = draw_box_plots({'val.py': before, 'CRF': after})
    assert len(encode_png(figure)) > 1000
    overlap, distance = figure.axes
    assert [label.get_text() for label in distance.get_xticklabels()] == [
        'val.py\nn = 3\nmedian 3.000\n1 infinite, not shown',
        'CRF\nn = 4\nmedian 2.750',
    ]
    assert [label.get_text() for label in overlap.get_xticklabels()] == [
        'val.py\nn = 4\nmedian 0.600',
        'CRF\nn = 4\nmedian 0.700',
    ]
    joined = sorted(tuple(item.get_ydata()) for item in overlap.lines if item.get_marker() == 'o')
    assert joined == [(0.0, 0.4), (0.5, 0.6), (0.7, 0.8), (0.9, 0.95)]
    assert [3.0, 3.0] in [list(item.get_ydata()) for item in distance.lines]  # the median of those that are finite


def test_boxes_of_one_case_and_of_no_finite_value_are_drawn():
    figure = draw_box_plots({'val.py': make_table(volume_ml=[1.0], dice=[0.0], assd=[np.inf])})
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ['val.py\nn = 0\n1 infinite, not shown']
    assert len(encode_png(figure)) > 1000
