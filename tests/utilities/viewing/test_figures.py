"""Figures: what their lines, texts and pixels tell, beside a pencil, numpy and the standard library; and which ones a run gets."""

import json
import re
import statistics
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from scripts import draw_figures
from utilities.base.errors import InputError
from utilities.viewing.case_figures import (
    COLOURS,
    Panel,
    draw_case,
    draw_panel,
    draw_segmentations,
    draw_worst_slices,
)
from utilities.viewing.case_volumes import CaseVolumes
from utilities.viewing.figure_files import NothingToDraw, encode_png, save_figure
from utilities.viewing.table_figures import draw_bland_altman, draw_box_plots
from utilities.viewing.training_figure import MAX_POINTS, draw_loss_curve, find_best_epoch
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

WINDOW = -200, 200


def curve(path, epochs, steps, **columns):
    """A loss.csv of `steps` steps an epoch; loss1 to loss4 are 4 to 1 times a falling value."""
    step = np.arange(1, epochs * steps + 1)
    value = 1 / step
    table = pandas.DataFrame(
        {
            'epoch': (step - 1) // steps + 1,
            'step': step,
            **{f'loss{i}': (5 - i) * value for i in (1, 2, 3, 4)},
            'total': 4 * value,
            'alpha': 0.33,
            'learning_rate': 1e-4,
            **columns,
            'seconds': step * 1.0,
        }
    )
    table.to_csv(path, index=False)
    return table


def line(axes, label):
    return next(each for each in axes.lines if each.get_label().startswith(label))


def texts(figure):
    return [text.get_text() for text in figure.texts]


def a_case(shape=(30, 40, 50), spacing=(2.0, 2.0, 3.0), seed=0):
    """A case whose masks are boxes some voxels apart."""
    ct = np.random.default_rng(seed).integers(-200, 200, shape).astype(np.int16)
    masks = {name: np.zeros(shape, np.uint8) for name in ('label', 'prediction', 'CRF')}
    for shift, mask in enumerate(masks.values()):
        mask[10:20, 12 + shift : 25, 15 : 30 + shift] = 1
    return CaseVolumes(f'volume-{seed}', ct, masks, Geometry(spacing))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# ---------------------------------------------------------------------------- training


def test_the_strong_lines_are_running_means_and_the_faint_ones_the_steps(tmp_path):
    table = curve(tmp_path / 'loss.csv', 10, 10)
    axes = draw_loss_curve(tmp_path / 'loss.csv').axes[0]
    strong = line(axes, 'head 4')
    np.testing.assert_array_equal(strong.get_xdata(), table['step'])
    values = list(table['loss4'])
    np.testing.assert_allclose(
        strong.get_ydata(), [values[0]] + [(a + b) / 2 for a, b in zip(values, values[1:])], rtol=1e-9
    )  # 100 / 50
    np.testing.assert_allclose(line(axes, 'weighted sum').get_ydata()[0], table['total'][0])
    assert any(np.array_equal(each.get_ydata(), table['loss1']) and each.get_alpha() < 0.5 for each in axes.lines)


def test_the_best_epoch_is_that_of_the_lowest_mean_loss(tmp_path):
    losses = [0.5, 0.5, 0.1, 0.1, 0.3, 0.02]
    curve(tmp_path / 'loss.csv', 1, 6, epoch=[1, 1, 2, 2, 3, 3], loss4=losses)
    mark = line(draw_loss_curve(tmp_path / 'loss.csv').axes[0], 'best epoch')
    assert mark.get_label() == 'best epoch 2: mean loss of head 4 0.1000' and list(mark.get_xdata()) == [4, 4]


def test_an_epoch_stopped_on_its_way_is_not_the_best(tmp_path):
    table = curve(tmp_path / 'loss.csv', 1, 5, epoch=[1, 1, 2, 2, 3], loss4=[0.5, 0.5, 0.2, 0.2, 0.1])
    assert find_best_epoch(table) == (2, 0.2)


def test_with_validation_the_best_epoch_is_that_of_the_highest_dice(tmp_path):
    validation = [np.nan, 0.7, np.nan, 0.9, np.nan, 0.8]
    curve(tmp_path / 'loss.csv', 3, 2, validation_dice=validation)
    losses, validated, rate = draw_loss_curve(tmp_path / 'loss.csv').axes
    assert line(losses, 'best epoch').get_label() == 'best epoch 2: validation Dice 0.9000'
    assert list(line(validated, 'validation_dice').get_xdata()) == [2, 4, 6]
    star = next(each for each in validated.lines if each.get_marker() == '*')
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([4], [0.9])


def test_an_empty_column_of_validation_is_none(tmp_path):
    curve(tmp_path / 'loss.csv', 3, 2, validation_dice=np.nan, gpu_mb=np.nan, samples=2)
    assert len(draw_loss_curve(tmp_path / 'loss.csv').axes) == 2


def test_the_epochs_stand_above_their_last_steps_and_the_learning_rate_below(tmp_path):
    curve(tmp_path / 'loss.csv', 20, 5, learning_rate=np.repeat([1e-4, 1e-5], 50))
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
    curve(tmp_path / 'loss.csv', epochs, steps)
    assert len(encode_png(draw_loss_curve(tmp_path / 'loss.csv'))) > 10_000


def test_a_thousand_epochs_are_drawn_as_bands_in_a_moment(tmp_path):
    table = curve(tmp_path / 'loss.csv', 1000, 111)
    noise = np.random.default_rng(0).uniform(0, 1, len(table))
    table.assign(loss4=noise).to_csv(tmp_path / 'loss.csv', index=False)
    start = time.perf_counter()
    figure = draw_loss_curve(tmp_path / 'loss.csv')
    encode_png(figure)
    assert time.perf_counter() - start < 5  # a second on an idle machine
    losses = figure.axes[0]
    assert all(len(each.get_xdata()) <= MAX_POINTS for each in losses.lines)
    assert line(losses, 'head 4').get_xdata()[-1] == 111_000
    band = losses.collections[3].get_paths()[0].vertices[:, 1]
    assert np.median(band[band < 0.5]) == pytest.approx(0.1, abs=0.01) and np.median(band[band > 0.5]) == pytest.approx(
        0.9, abs=0.01
    )
    np.testing.assert_allclose(line(losses, 'head 4').get_ydata()[-1], noise[-2220:].mean())


def test_a_training_without_a_step_says_so(tmp_path):
    curve(tmp_path / 'loss.csv', 0, 1)
    assert texts(draw_loss_curve(tmp_path / 'loss.csv')) == ['no step yet']


@pytest.mark.parametrize(
    'content, wanted',
    [
        ('', 'wanted a table'),
        ('a\n1,2\n1,2,3\n', 'wanted a table'),
        ('epoch,step\n1,1\n', 'found no loss1'),
        ('epoch,step,loss1,loss2,loss3,loss4,total,learning_rate\n1,1,1,1,1,high,1,1\n', "loss4, got 'high'"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path, content, wanted):
    (tmp_path / 'loss.csv').write_text(content)
    with pytest.raises(InputError, match=re.escape(wanted)):
        draw_loss_curve(tmp_path / 'loss.csv')


# ---------------------------------------------------------------------------- masks on their CT


def outline(axes, name):
    """Vertices (x, y) of the outline of a mask."""
    drawn = [each for each in axes.collections if to_hex(each.get_edgecolor()[0]).upper() == COLOURS[name]]
    return np.concatenate([path.vertices for each in drawn for path in each.get_paths()]) if drawn else None


def drawn(ct, mask):
    axes = Figure().add_subplot()
    draw_panel(axes, Panel('', '', ct, {'label': mask}, 100, 100), WINDOW)
    return axes


def test_the_outline_of_one_pixel_lies_around_its_centre():
    mask = np.zeros((7, 9), bool)
    mask[2, 5] = True
    vertices = outline(drawn(np.zeros((7, 9)), mask), 'label')
    assert sorted(set(map(tuple, vertices))) == [(4.5, 2), (5, 1.5), (5, 2.5), (5.5, 2)]


def test_the_outline_of_a_rectangle_runs_along_its_edge():
    mask = np.zeros((9, 12), bool)
    mask[2:6, 3:10] = True
    vertices = outline(drawn(np.zeros((9, 12)), mask), 'label')
    assert (vertices.min(0) == (2.5, 1.5)).all() and (vertices.max(0) == (9.5, 5.5)).all()
    on_edge = np.isin(vertices[:, 0], (2.5, 9.5)) | np.isin(vertices[:, 1], (1.5, 5.5))
    assert on_edge.all()


def test_the_outline_of_a_mask_at_the_border_is_closed():
    vertices = outline(drawn(np.zeros((4, 5)), np.ones((4, 5), bool)), 'label')
    assert (
        (vertices.min(0) == -0.5).all()
        and (vertices.max(0) == (4.5, 3.5)).all()
        and (vertices[0] == vertices[-1]).all()
    )


def test_the_outline_stands_on_the_voxel_in_all_three_planes():
    """The one bright voxel, off the middle in every direction, is found again in each picture at the centre of its outline."""
    ct, mask = np.full((40, 50, 60), -200, np.int16), np.zeros((40, 50, 60), np.uint8)
    ct[9, 31, 17] = 200
    mask[9, 31, 17] = 1
    figure = draw_segmentations([CaseVolumes('case', ct, {'label': mask}, Geometry((4.0, 5.0, 3.0)))], WINDOW)
    assert len(figure.axes) == 3
    for axes in figure.axes:
        picture = np.asarray(axes.images[0].get_array())
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        assert picture[row, column] == 200
        vertices = outline(axes, 'label')
        assert ((vertices.min(0) + vertices.max(0)) / 2 == (column, row)).all()
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # row 0 on top


def test_planes_are_those_of_most_liver_cropped_to_20_mm_around_it_head_up():
    case = a_case()
    ct, masks = case.ct, case.masks
    masks = {'label': np.zeros_like(masks['label']), 'prediction': masks['prediction']}
    masks['prediction'][17, 12:28, 14:31] = 1  # the largest in all three directions
    figure = draw_segmentations([replace(case, masks=masks)], WINDOW)
    inside = np.argwhere(masks['prediction'])
    low, high = np.maximum(inside.min(0) - [7, 10, 10], 0), inside.max(0) + [7, 10, 10] + 1  # 20 mm / 3 mm and 2 mm
    box = ct[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    counts = [[np.count_nonzero(masks['prediction'].take(i, axis)) for i in range(ct.shape[axis])] for axis in range(3)]
    z, y, x = (max(range(len(count)), key=count.__getitem__) - first for count, first in zip(counts, low))
    for axes, wanted in zip(figure.axes, (box[z], box[::-1, y], box[::-1, :, x])):
        np.testing.assert_array_equal(axes.images[0].get_array(), wanted)


def test_pixels_keep_their_proportions_and_all_planes_have_one_scale():
    spacing = (0.7, 0.8, 5.0)
    figure = draw_segmentations([a_case((60, 200, 220), spacing)], WINDOW)
    scales = []
    for axes, (height, width) in zip(figure.axes, ((0.8, 0.7), (5.0, 0.7), (5.0, 0.8))):
        rows, columns = axes.images[0].get_array().shape
        box = axes.get_window_extent()
        scales += [box.width / (columns * width), box.height / (rows * height)]
    assert min(scales) == pytest.approx(max(scales), rel=1e-6) and scales[0] > 1


def test_the_dice_in_the_corner_is_that_of_the_whole_masks():
    case = a_case()
    masks = case.masks
    figure = draw_segmentations([case], WINDOW)
    prediction, crf = (dice(masks['label'], masks[name]) for name in ('prediction', 'CRF'))
    assert f'Dice: prediction {prediction:.3f}, CRF {crf:.3f}' in texts(figure) and prediction != crf


def test_what_is_missing_is_not_told():
    case = a_case()
    masks = case.masks
    figure = draw_segmentations([replace(case, masks={'prediction': masks['prediction']})], WINDOW)
    assert not any('Dice' in text for text in texts(figure))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['prediction']
    assert outline(figure.axes[0], 'label') is None


def test_empty_masks_show_the_middle_of_the_whole_ct():
    case = a_case()
    ct, masks = case.ct, case.masks
    figure = draw_segmentations([replace(case, masks={name: mask * 0 for name, mask in masks.items()})], WINDOW)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), ct[15])
    assert 'Dice: prediction 1.000, CRF 1.000' in texts(figure)


def test_outlines_differ_in_grey_too():
    styles = [str(each.get_linestyle()) for each in draw_segmentations([a_case()], WINDOW).axes[0].collections]
    assert len(set(styles)) == 3


def test_any_name_is_a_title():
    title = 'volume-1 $\\frac{$ \n' + 'x' * 200
    case = a_case()
    figure = draw_segmentations([replace(case, title=title)], WINDOW)
    assert texts(figure)[0].startswith('volume-1 $\\frac{$ \\nxx') and len(texts(figure)[0]) == 70
    assert len(encode_png(figure)) > 1000


def test_one_case_is_held_at_a_time():
    alive = []

    def make(seed):
        case = a_case(seed=seed)
        alive.append(weakref.ref(case.ct))
        return case

    def cases():
        for seed in range(3):
            assert not any(each() is not None for each in alive)
            yield make(seed)

    draw_segmentations(cases(), WINDOW)
    draw_worst_slices(cases(), WINDOW)


def test_worst_slices_are_those_that_differ_most_some_mm_apart():
    shape, geometry = (40, 30, 32), Geometry((2.0, 3.0, 5.0))
    ct, label = np.zeros(shape, np.int16), np.zeros(shape, np.uint8)
    label[5:35, 5:20, 5:20] = 1
    prediction = label.copy()
    prediction[10, 5:10, 5:20] = 0  # 75 voxels of 6 mm2
    prediction[12, 5:9, 5:20] = 0  # 60, but 10 mm from the one before
    prediction[13, 5:8, 5:20] = 0  # 45, 15 mm
    prediction[30, 5:7, 5:20] = 0  # 30
    prediction[33, 5:6, 5:20] = 0  # 15, one too many
    figure = draw_worst_slices(
        [
            CaseVolumes('equal', ct, {'label': label, 'prediction': label}, geometry),
            CaseVolumes('case', ct, {'label': label, 'prediction': prediction}, geometry),
        ],
        WINDOW,
    )
    wanted = [
        f'slice {z + 1} of 40: {voxels * 0.06:.1f} cm² differ\nDice: prediction {2 * (225 - voxels) / (450 - voxels):.3f}'
        for z, voxels in ((10, 75), (13, 45), (30, 30))
    ]
    assert texts(figure) == ['case', f'Dice: prediction {dice(label, prediction):.3f}', *wanted]
    assert len(figure.axes) == 3


def test_nothing_to_draw_is_told():
    case = a_case()
    masks = case.masks
    with pytest.raises(NothingToDraw):
        draw_segmentations([], WINDOW)
    for shown in ({'prediction': masks['prediction']}, {'label': masks['label'], 'prediction': masks['label']}):
        with pytest.raises(NothingToDraw, match='no case has a label'):
            draw_worst_slices([replace(case, masks=shown)], WINDOW)


@pytest.mark.parametrize('width', [333, 640, 900, 1201])
def test_a_case_picture_has_the_width_asked_for(width):
    picture = draw_case(a_case(), WINDOW, width=width)
    assert picture.dtype == np.uint8 and picture.shape[1:] == (width, 3) and 0.2 * width < len(picture) < width


def test_a_case_picture_is_black_with_the_colours_of_its_outlines():
    picture = draw_case(a_case(), WINDOW)
    assert (picture[0] == 0).all()
    for colour in COLOURS.values():
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(picture.astype(int) - wanted).sum(-1) < 30).any(), colour


# ---------------------------------------------------------------------------- tables


def table(**columns):
    return pandas.DataFrame(
        columns, index=pandas.Index([f'volume-{i}.nii' for i in range(len(columns['volume_ml']))], name='case')
    )


def test_limits_of_agreement_with_a_pencil():
    """Differences 10, 20, 60: mean 30, standard deviation of the sample sqrt(1400 / 2) = 26.4575, x 1.96 = 51.857."""
    figure = draw_bland_altman(
        {'val.py': table(volume_ml=[110.0, 220.0, 360.0], label_volume_ml=[100.0, 200.0, 300.0])}
    )
    axes = figure.axes[0]
    levels = sorted(each.get_ydata()[0] for each in axes.lines[1:])
    assert levels == pytest.approx([30 - 51.857, 0, 30, 30 + 51.857], abs=1e-3)
    assert axes.get_title() == 'val.py, 3 cases\nmean +30.0 mL\nlimits -21.9 to +81.9 mL'
    assert list(axes.lines[0].get_xdata()) == [105, 210, 330] and list(axes.lines[0].get_ydata()) == [10, 20, 60]
    assert {text.get_text() for text in axes.texts} == {'volume-0.nii', 'volume-1.nii', 'volume-2.nii'}


def test_cases_at_the_same_point_share_a_text():
    figure = draw_bland_altman(
        {'val.py': table(volume_ml=[110.0, 110.0, 220.0], label_volume_ml=[100.0, 100.0, 200.0])}
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ['volume-0.nii\nvolume-1.nii', 'volume-2.nii']


def test_of_many_cases_those_outside_the_limits_are_named():
    difference = np.array([1.0, -1, 2, -2, 1, -1, 0, 2, -2, 50])
    figure = draw_bland_altman({'val.py': table(volume_ml=1000 + difference, label_volume_ml=np.full(10, 1000.0))})
    assert statistics.mean(difference) + 1.96 * statistics.stdev(difference) < 50
    assert [text.get_text() for text in figure.axes[0].texts] == ['volume-9.nii']


def test_one_case_has_no_limits_and_a_case_without_label_no_point():
    figure = draw_bland_altman(
        {
            'val.py': table(volume_ml=[110.0, 220.0], label_volume_ml=[100.0, np.nan]),
            'CRF': table(volume_ml=[105.0, 220.0], label_volume_ml=[100.0, np.nan]),
        }
    )
    assert [axes.get_title() for axes in figure.axes] == ['val.py, 1 case\nmean +10.0 mL', 'CRF, 1 case\nmean +5.0 mL']
    assert len(encode_png(figure)) > 1000


def test_tables_without_labels_are_told():
    for tables in (
        {},
        {'val.py': table(volume_ml=[1.0])},
        {'val.py': table(volume_ml=[1.0], label_volume_ml=[np.nan], dice=[np.nan])},
    ):
        with pytest.raises(NothingToDraw):
            draw_bland_altman(tables)
        with pytest.raises(NothingToDraw):
            draw_box_plots(tables)


def test_boxes_leave_out_and_count_what_is_infinite_and_join_the_cases():
    before = table(volume_ml=[1.0] * 4, dice=[0.5, 0.7, 0.9, 0.0], assd=[4.0, 3.0, 1.0, np.inf])
    after = table(volume_ml=[1.0] * 4, dice=[0.6, 0.8, 0.95, 0.4], assd=[3.0, 2.5, 0.5, 9.0]).iloc[::-1]
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
    joined = sorted(tuple(each.get_ydata()) for each in overlap.lines if each.get_marker() == 'o')
    assert joined == [(0.0, 0.4), (0.5, 0.6), (0.7, 0.8), (0.9, 0.95)]
    assert [3.0, 3.0] in [list(each.get_ydata()) for each in distance.lines]  # the median of those that are finite


def test_boxes_of_one_case_and_of_none_finite_are_drawn():
    figure = draw_box_plots({'val.py': table(volume_ml=[1.0], dice=[0.0], assd=[np.inf])})
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ['val.py\nn = 0\n1 infinite, not shown']
    assert len(encode_png(figure)) > 1000


# ---------------------------------------------------------------------------- threads, files, the script


def test_figures_drawn_in_two_threads_are_the_same(tmp_path):
    curve(tmp_path / 'loss.csv', 20, 5)

    def pictures(seed):
        return (
            encode_png(draw_segmentations([a_case(seed=seed)], WINDOW)),
            encode_png(draw_loss_curve(tmp_path / 'loss.csv')),
            draw_case(a_case(), WINDOW).tobytes(),
        )

    alone = [pictures(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(pictures, range(4))) == alone


def test_no_figure_is_left_in_pyplot(tmp_path):
    import matplotlib.pyplot

    save_figure(draw_segmentations([a_case()], WINDOW), tmp_path / 'a.png')
    save_figure(draw_box_plots({'val.py': table(volume_ml=[1.0], dice=[0.5], assd=[1.0])}), tmp_path / 'b.png')
    assert matplotlib.pyplot.get_fignums() == []
    assert (tmp_path / 'a.png').read_bytes()[1:4] == b'PNG' and sorted(p.name for p in tmp_path.iterdir()) == [
        'a.png',
        'b.png',
    ]


@pytest.fixture
def a_run(tmp_path):
    """Cases 1 to 5 in the default places, predicted with ever more slices missing, and refined; 5 has no label."""
    scores = {}
    for number in range(1, 6):
        case = a_case(seed=number)
        ct, masks, geometry = case.ct, case.masks, case.geometry
        masks['prediction'] = masks['label'].copy()
        masks['prediction'][: 10 + number] = 0
        scores[number] = dice(masks['label'], masks['prediction'])
        write_volume(tmp_path / f'data/test/CT/volume-{number}.nii', ct, geometry)
        if number < 5:
            write_volume(tmp_path / f'data/test/seg/segmentation-{number}.nii', masks['label'], geometry)
        write_volume(tmp_path / f'pred/pred-{number}.nii.gz', masks['prediction'], geometry)
        write_volume(tmp_path / f'crf/crf-{number}.nii', masks['CRF'], geometry)
    rows = pandas.DataFrame(
        {
            'case': [f'volume-{n}.nii' for n in scores],
            'dice': [*list(scores.values())[:4], np.nan],
            'assd': [1.0, 2.0, 3.0, np.inf, np.nan],
            'volume_ml': 100.0,
            'label_volume_ml': [90.0, 80, 95, 99, np.nan],
        }
    )
    rows.to_csv(tmp_path / 'pred/result.csv', index=False)
    rows.to_csv(tmp_path / 'crf/result-post-processing.csv', index=False)
    (tmp_path / 'module').mkdir()
    curve(tmp_path / 'module/loss.csv', 2, 2)
    return tmp_path


FIGURES = {'loss_curve.png', 'segmentation-result.png', 'worst-slices.png', 'bland-altman.png', 'box-plots.png'}


def settings(folder):
    return SimpleNamespace(
        test_ct_path=folder / 'data/test/CT',
        test_seg_path=folder / 'data/test/seg',
        pred_path=folder / 'pred',
        crf_path=folder / 'crf',
        spacing_override={},
        lower=-200,
        upper=200,
        grid_tolerance=0.1,
    )


def test_the_script_draws_all_of_a_run(a_run, script):
    done = script('scripts/draw_figures.py')
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (a_run / 'img').iterdir()} == FIGURES
    assert done.stdout.count('written: ') == 5 and 'not drawn' not in done.stdout


def test_the_cases_shown_are_the_best_the_median_and_the_worst(a_run):
    assert [(one.case.name, title) for one, title in draw_figures.choose_typical_cases(settings(a_run))] == [
        ('volume-1', 'volume-1  best of 4'),
        ('volume-3', 'volume-3  median of 4'),
        ('volume-4', 'volume-4  worst of 4'),
    ]
    assert [one.case.name for one, _ in draw_figures.choose_worst_cases(settings(a_run))] == [
        'volume-4',
        'volume-3',
        'volume-2',
    ]
    (a_run / 'pred/result.csv').unlink()
    assert [title for _, title in draw_figures.choose_typical_cases(settings(a_run))] == [
        'volume-1',
        'volume-2',
        'volume-3',
    ]


def test_the_script_reads_one_case_at_a_time(a_run):
    """What the generator has given away it does not hold on to."""
    failures = {}
    cases = draw_figures.read_cases(draw_figures.choose_typical_cases(settings(a_run)), settings(a_run), failures)
    ct = weakref.ref(next(cases).ct)
    assert ct() is None and not failures


def test_a_training_alone_gets_its_curve_and_a_line_for_each_other_figure(a_run, script):
    done = script('scripts/draw_figures.py', test_ct_path='nowhere', pred_path='nowhere', crf_path='nowhere')
    assert done.returncode == 0 and {p.name for p in (a_run / 'img').iterdir()} == {'loss_curve.png'}
    assert [row for row in done.stdout.splitlines() if row.startswith('not drawn: segmentation-result.png')] == [
        'not drawn: segmentation-result.png: nowhere: no such folder; set test_ct_path'
    ]
    assert done.stdout.count('not drawn: ') == 4


def test_masks_without_labels_are_shown(a_run, script):
    done = script('scripts/draw_figures.py', module_dir='nowhere', test_seg_path='nowhere', crf_path='nowhere')
    assert done.returncode == 0 and 'segmentation-result.png' in {p.name for p in (a_run / 'img').iterdir()}
    assert 'not drawn: worst-slices.png: nowhere: no labels of the predicted cases; set test_seg_path' in done.stdout
    assert 'not drawn: loss_curve.png: no nowhere/loss.csv; run python train_ds.py' in done.stdout


@pytest.mark.parametrize('dimensions', [2, 3])
def test_the_crf_is_called_2d_or_3d(a_run, dimensions):
    (a_run / 'crf/manifest').mkdir()
    record = {'settings': {'dimensions': dimensions}, 'inputs': [], 'files': {}, 'row': None}
    (a_run / 'crf/manifest/crf-1.json').write_text(json.dumps(record))
    assert list(draw_figures.read_tables(settings(a_run))) == ['val.py', f'{dimensions}D CRF']
    (case,) = draw_figures.read_cases(draw_figures.choose_worst_cases(settings(a_run))[:1], settings(a_run), {})
    figure = draw_segmentations([case], WINDOW)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ['label', 'prediction', f'{dimensions}D CRF'] and f'{dimensions}D CRF' in texts(figure)[1]


def test_nothing_at_all_is_a_failure(tmp_path, script):
    done = script('scripts/draw_figures.py')
    assert done.returncode == 1 and done.stdout.count('not drawn: ') == 5 and 'Traceback' not in done.stderr


def test_a_damaged_case_is_told_and_the_others_are_drawn(a_run, script):
    (a_run / 'pred/pred-4.nii.gz').write_bytes(b'nothing')
    write_volume(a_run / 'crf/crf-3.nii', np.zeros((5, 5, 5), np.uint8), Geometry((2.0, 2.0, 3.0)))
    (a_run / 'crf/result-post-processing.csv').write_text('case,dice\nvolume-1.nii,good\n')
    done = script('scripts/draw_figures.py')
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert {p.name for p in (a_run / 'img').iterdir()} == FIGURES - {'bland-altman.png', 'box-plots.png'}
    failed = dict(row.split(': ')[1:3] for row in done.stdout.splitlines() if row.startswith('failed: '))
    assert failed == {
        'volume-3': 'crf/crf-3.nii',
        'volume-4': 'pred/pred-4.nii.gz',
        'bland-altman.png': 'crf/result-post-processing.csv',
        'box-plots.png': 'crf/result-post-processing.csv',
    }
