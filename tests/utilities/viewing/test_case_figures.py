"""Outlines on slices of a CT: where they lie, which slices are shown, and what the texts say."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.utilities.viewing.figure_data import WINDOW, dice_of, make_case, texts_of
from utilities.viewing.case_figures import (
    COLOURS,
    Panel,
    draw_case,
    draw_panel,
    draw_segmentations,
    draw_worst_slices,
)
from utilities.viewing.case_volumes import CaseVolumes
from utilities.viewing.figure_files import NothingToDraw, encode_png
from utilities.volumes.geometry import Geometry


def find_outline(axes, name):
    """Vertices (x, y) of the outline of a mask."""
    drawn = [item for item in axes.collections if to_hex(item.get_edgecolor()[0]).upper() == COLOURS[name]]
    return np.concatenate([path.vertices for item in drawn for path in item.get_paths()]) if drawn else None


def draw_slice(ct, mask):
    axes = Figure().add_subplot()
    draw_panel(axes, Panel('', '', ct, {'label': mask}, 100, 100), WINDOW)
    return axes


def test_the_outline_of_one_pixel_lies_around_its_centre():
    mask = np.zeros((7, 9), bool)
    mask[2, 5] = True
    vertices = find_outline(draw_slice(np.zeros((7, 9)), mask), 'label')
    assert sorted(set(map(tuple, vertices))) == [(4.5, 2), (5, 1.5), (5, 2.5), (5.5, 2)]


def test_the_outline_of_a_rectangle_runs_along_its_edge():
    mask = np.zeros((9, 12), bool)
    mask[2:6, 3:10] = True
    vertices = find_outline(draw_slice(np.zeros((9, 12)), mask), 'label')
    assert (vertices.min(0) == (2.5, 1.5)).all() and (vertices.max(0) == (9.5, 5.5)).all()
    on_edge = np.isin(vertices[:, 0], (2.5, 9.5)) | np.isin(vertices[:, 1], (1.5, 5.5))
    assert on_edge.all()


def test_the_outline_of_a_mask_at_the_border_is_closed():
    vertices = find_outline(draw_slice(np.zeros((4, 5)), np.ones((4, 5), bool)), 'label')
    assert (
        (vertices.min(0) == -0.5).all()
        and (vertices.max(0) == (4.5, 3.5)).all()
        and (vertices[0] == vertices[-1]).all()
    )


def test_the_outline_surrounds_the_voxel_in_all_three_planes():
    """The brightest pixel of each plane, off the middle in every direction, is the centre of the outline."""
    ct, mask = np.full((40, 50, 60), -200, np.int16), np.zeros((40, 50, 60), np.uint8)
    ct[9, 31, 17] = 200
    mask[9, 31, 17] = 1
    figure = draw_segmentations([CaseVolumes('case', ct, {'label': mask}, Geometry((4.0, 5.0, 3.0)))], WINDOW)
    assert len(figure.axes) == 3
    for axes in figure.axes:
        picture = np.asarray(axes.images[0].get_array())
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        assert picture[row, column] == 200
        vertices = find_outline(axes, 'label')
        assert ((vertices.min(0) + vertices.max(0)) / 2 == (column, row)).all()
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # row 0 on top


def test_planes_are_those_of_most_liver_cropped_to_20_mm_around_it_head_up():
    case = make_case()
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
    figure = draw_segmentations([make_case((60, 200, 220), spacing)], WINDOW)
    scales = []
    for axes, (height, width) in zip(figure.axes, ((0.8, 0.7), (5.0, 0.7), (5.0, 0.8))):
        rows, columns = axes.images[0].get_array().shape
        box = axes.get_window_extent()
        scales += [box.width / (columns * width), box.height / (rows * height)]
    assert min(scales) == pytest.approx(max(scales), rel=1e-6) and scales[0] > 1


def test_the_dice_in_the_corner_belongs_to_the_whole_masks():
    case = make_case()
    masks = case.masks
    figure = draw_segmentations([case], WINDOW)
    prediction, crf = (dice_of(masks['label'], masks[name]) for name in ('prediction', 'CRF'))
    assert f'Dice: prediction {prediction:.3f}, CRF {crf:.3f}' in texts_of(figure) and prediction != crf


def test_without_label_there_is_no_dice_and_no_outline_of_it():
    case = make_case()
    masks = case.masks
    figure = draw_segmentations([replace(case, masks={'prediction': masks['prediction']})], WINDOW)
    assert not any('Dice' in text for text in texts_of(figure))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['prediction']
    assert find_outline(figure.axes[0], 'label') is None


def test_empty_masks_show_the_middle_of_the_whole_ct():
    case = make_case()
    ct, masks = case.ct, case.masks
    figure = draw_segmentations([replace(case, masks={name: mask * 0 for name, mask in masks.items()})], WINDOW)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), ct[15])
    assert 'Dice: prediction 1.000, CRF 1.000' in texts_of(figure)


def test_outlines_differ_by_their_dashes_too():
    styles = [str(item.get_linestyle()) for item in draw_segmentations([make_case()], WINDOW).axes[0].collections]
    assert len(set(styles)) == 3


def test_any_name_of_a_case_can_be_a_title():
    title = 'volume-1 $\\frac{$ \n' + 'x' * 200
    case = make_case()
    figure = draw_segmentations([replace(case, title=title)], WINDOW)
    assert texts_of(figure)[0].startswith('volume-1 $\\frac{$ \\nxx') and len(texts_of(figure)[0]) == 70
    assert len(encode_png(figure)) > 1000


def test_only_one_case_is_in_memory_at_a_time():
    alive = []

    def make(seed):
        case = make_case(seed=seed)
        alive.append(weakref.ref(case.ct))
        return case

    def cases():
        for seed in range(3):
            assert not any(item() is not None for item in alive)
            yield make(seed)

    draw_segmentations(cases(), WINDOW)
    draw_worst_slices(cases(), WINDOW)


def test_worst_slices_differ_most_and_lie_15_mm_apart():
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
        f'slice {z + 1} of 40: {voxels * 0.06:.1f} cm² differ\n'
        f'Dice: prediction {2 * (225 - voxels) / (450 - voxels):.3f}'
        for z, voxels in ((10, 75), (13, 45), (30, 30))
    ]
    assert texts_of(figure) == ['case', f'Dice: prediction {dice_of(label, prediction):.3f}', *wanted]
    assert len(figure.axes) == 3


def test_nothing_to_draw_raises_an_error():
    case = make_case()
    masks = case.masks
    with pytest.raises(NothingToDraw):
        draw_segmentations([], WINDOW)
    for shown in ({'prediction': masks['prediction']}, {'label': masks['label'], 'prediction': masks['label']}):
        with pytest.raises(NothingToDraw, match='no case has a label'):
            draw_worst_slices([replace(case, masks=shown)], WINDOW)


@pytest.mark.parametrize('width', [333, 640, 900, 1201])
def test_a_case_picture_has_the_width_asked_for(width):
    picture = draw_case(make_case(), WINDOW, width=width)
    assert picture.dtype == np.uint8 and picture.shape[1:] == (width, 3) and 0.2 * width < len(picture) < width


def test_a_case_picture_is_black_with_the_colours_of_its_outlines():
    picture = draw_case(make_case(), WINDOW)
    assert (picture[0] == 0).all()
    for colour in COLOURS.values():
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(picture.astype(int) - wanted).sum(-1) < 30).any(), colour
