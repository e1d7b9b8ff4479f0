"""The figure of a training: its lines, ticks and texts, compared with numpy and a calculation by hand."""

import re
import time

import numpy as np
import pytest

from tests.utilities.viewing.figure_data import find_line, texts_of, write_loss_csv
from utilities.base.errors import InputError
from utilities.viewing.figure_files import encode_png
from utilities.viewing.training_figure import MAX_POINTS, draw_loss_curve, find_best_epoch


def test_strong_lines_are_running_means_and_pale_lines_the_single_steps(tmp_path):
    table = write_loss_csv(tmp_path / 'loss.csv', 10, 10)
    axes = draw_loss_curve(tmp_path / 'loss.csv').axes[0]
    strong = find_line(axes, 'head 4')
    np.testing.assert_array_equal(strong.get_xdata(), table['step'])
    values = list(table['loss4'])
    np.testing.assert_allclose(
        strong.get_ydata(), [values[0]] + [(a + b) / 2 for a, b in zip(values, values[1:])], rtol=1e-9
    )  # 100 / 50
    np.testing.assert_allclose(find_line(axes, 'weighted sum').get_ydata()[0], table['total'][0])
    assert any(np.array_equal(item.get_ydata(), table['loss1']) and item.get_alpha() < 0.5 for item in axes.lines)


def test_the_best_epoch_is_that_of_the_lowest_mean_loss(tmp_path):
    losses = [0.5, 0.5, 0.1, 0.1, 0.3, 0.02]
    write_loss_csv(tmp_path / 'loss.csv', 1, 6, epoch=[1, 1, 2, 2, 3, 3], loss4=losses)
    mark = find_line(draw_loss_curve(tmp_path / 'loss.csv').axes[0], 'best epoch')
    assert mark.get_label() == 'best epoch 2: mean loss of head 4 0.1000' and list(mark.get_xdata()) == [4, 4]


def test_an_unfinished_epoch_is_not_the_best(tmp_path):
    table = write_loss_csv(tmp_path / 'loss.csv', 1, 5, epoch=[1, 1, 2, 2, 3], loss4=[0.5, 0.5, 0.2, 0.2, 0.1])
    assert find_best_epoch(table) == (2, 0.2)


def test_with_validation_the_best_epoch_is_that_of_the_highest_dice(tmp_path):
    validation = [np.nan, 0.7, np.nan, 0.9, np.nan, 0.8]
    write_loss_csv(tmp_path / 'loss.csv', 3, 2, validation_dice=validation)
    losses, validated, rate = draw_loss_curve(tmp_path / 'loss.csv').axes
    assert find_line(losses, 'best epoch').get_label() == 'best epoch 2: validation Dice 0.9000'
    assert list(find_line(validated, 'validation_dice').get_xdata()) == [2, 4, 6]
    star = next(item for item in validated.lines if item.get_marker() == '*')
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([4], [0.9])


def test_an_empty_validation_column_counts_as_no_validation(tmp_path):
    write_loss_csv(tmp_path / 'loss.csv', 3, 2, validation_dice=np.nan, gpu_mb=np.nan, samples=2)
    assert len(draw_loss_curve(tmp_path / 'loss.csv').axes) == 2


def test_the_epochs_stand_above_their_last_steps_and_the_learning_rate_below(tmp_path):
    write_loss_csv(tmp_path / 'loss.csv', 20, 5, learning_rate=np.repeat([1e-4, 1e-5], 50))
    figure = draw_loss_curve(tmp_path / 'loss.csv')
    encode_png(figure)
    top = figure.axes[0].child_axes[0]
    epochs = {int(label.get_text()): at for at, label in zip(top.get_xticks(), top.get_xticklabels())}
    assert len(epochs) >= 4 and all(at == 5 * epoch for epoch, at in epochs.items())
    rate = figure.axes[-1]
    assert rate.get_yscale() == 'log' and [label.get_text() for label in rate.get_yticklabels()] == ['1e-05', '0.0001']
    assert set(rate.lines[-1].get_ydata()) == {1e-4, 1e-5}


@pytest.mark.parametrize('epochs, steps', [(1, 1), (1, 2), (5, 3)])
def test_short_runs_are_drawn(tmp_path, epochs, steps):
    write_loss_csv(tmp_path / 'loss.csv', epochs, steps)
    assert len(encode_png(draw_loss_curve(tmp_path / 'loss.csv'))) > 10_000


def test_a_thousand_epochs_are_drawn_as_bands_within_seconds(tmp_path):
    table = write_loss_csv(tmp_path / 'loss.csv', 1000, 111)
    noise = np.random.default_rng(0).uniform(0, 1, len(table))
    table.assign(loss4=noise).to_csv(tmp_path / 'loss.csv', index=False)
    start = time.perf_counter()
    figure = draw_loss_curve(tmp_path / 'loss.csv')
    encode_png(figure)
    assert time.perf_counter() - start < 5  # a second on an idle machine
    losses = figure.axes[0]
    assert all(len(item.get_xdata()) <= MAX_POINTS for item in losses.lines)
    assert find_line(losses, 'head 4').get_xdata()[-1] == 111_000
    band = losses.collections[3].get_paths()[0].vertices[:, 1]
    assert np.median(band[band < 0.5]) == pytest.approx(0.1, abs=0.01) and np.median(band[band > 0.5]) == pytest.approx(
        0.9, abs=0.01
    )
    np.testing.assert_allclose(find_line(losses, 'head 4').get_ydata()[-1], noise[-2220:].mean())


def test_a_training_without_a_step_says_so(tmp_path):
    write_loss_csv(tmp_path / 'loss.csv', 0, 1)
    assert texts_of(draw_loss_curve(tmp_path / 'loss.csv')) == ['no step yet']


@pytest.mark.parametrize(
    'content, wanted',
    [
        ('', 'wanted a table'),
        ('a\n1,2\n1,2,3\n', 'wanted a table'),
        ('epoch,step\n1,1\n', 'found no loss1'),
        ('epoch,step,loss1,loss2,loss3,loss4,total,learning_rate\n1,1,1,1,1,high,1,1\n', "loss4, got 'high'"),
    ],
)
def test_a_damaged_table_raises_an_error_that_names_the_problem(tmp_path, content, wanted):
    (tmp_path / 'loss.csv').write_text(content)
    with pytest.raises(InputError, match=re.escape(wanted)):
        draw_loss_curve(tmp_path / 'loss.csv')
