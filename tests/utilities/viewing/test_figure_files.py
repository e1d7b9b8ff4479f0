"""Figures as PNG files, drawn in several threads."""

from concurrent.futures import ThreadPoolExecutor

from tests.utilities.viewing.figure_data import WINDOW, make_case, make_table, write_loss_csv
from utilities.viewing.case_figures import (
    draw_case,
    draw_segmentations,
)
from utilities.viewing.figure_files import encode_png, save_figure
from utilities.viewing.table_figures import draw_box_plots
from utilities.viewing.training_figure import draw_loss_curve


def test_figures_drawn_in_two_threads_are_the_same(tmp_path):
    write_loss_csv(tmp_path / 'loss.csv', 20, 5)

    def pictures(seed):
        return (
            encode_png(draw_segmentations([make_case(seed=seed)], WINDOW)),
            encode_png(draw_loss_curve(tmp_path / 'loss.csv')),
            draw_case(make_case(), WINDOW).tobytes(),
        )

    alone = [pictures(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(pictures, range(4))) == alone


def test_no_figure_is_left_in_pyplot(tmp_path):
    import matplotlib.pyplot

    save_figure(draw_segmentations([make_case()], WINDOW), tmp_path / 'a.png')
    save_figure(draw_box_plots({'val.py': make_table(volume_ml=[1.0], dice=[0.5], assd=[1.0])}), tmp_path / 'b.png')
    assert matplotlib.pyplot.get_fignums() == []
    assert (tmp_path / 'a.png').read_bytes()[1:4] == b'PNG' and sorted(p.name for p in tmp_path.iterdir()) == [
        'a.png',
        'b.png',
    ]
