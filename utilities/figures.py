"""Figures: the loss curve, and the segmentation on the CT."""
import matplotlib
import numpy as np
import pandas

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from utilities.volume import whole_file

# Okabe and Ito's colours, which colour-blind readers tell apart
COLOURS = {'label': '#009E73', 'prediction': '#E69F00', 'CRF': '#56B4E9'}
LOSS_COLOURS = ('#CC79A7', '#56B4E9', '#E69F00', '#0072B2')
HEADS = ('head 1 (coarsest)', 'head 2', 'head 3', 'head 4 (output)')


def draw_loss_curve(csv, png):
    """The four losses of a loss.csv over steps, faint, and their running mean over a fiftieth of the run."""
    table = pandas.read_csv(csv)
    if table.empty:
        return
    figure, axes = plt.subplots(figsize=(9, 4.5), layout='constrained')
    window = max(1, len(table) // 50)
    for i, (name, colour) in enumerate(zip(HEADS, LOSS_COLOURS)):
        values = table[f'loss{i + 1}']
        axes.plot(table['step'], values, color=colour, alpha=0.2, lw=0.8)
        axes.plot(table['step'], values.rolling(window, min_periods=1).mean(), color=colour, lw=2 if i == 3 else 1.4, label=name)
    axes.set(xlabel='step', ylabel='loss', xlim=(0, table['step'].max()), ylim=(0, None),
             title=f'Training loss, {table["epoch"].max()} epochs')
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False)
    save(figure, png)


def draw_segmentation(cases, png, window):
    """Rows: cases; columns: the axial, coronal and sagittal slice with most liver.

    cases: list of (title, ct, masks, spacing): arrays (z, y, x) in the patient's view, masks a dict of COLOURS' names, spacing (x, y, z) mm.
    """
    figure, grid = plt.subplots(len(cases), 3, figsize=(12, 4 * len(cases)), squeeze=False, layout='constrained', facecolor='black')
    for row, (title, ct, masks, spacing) in zip(grid, cases):
        main_mask = next((m for m in masks.values() if m.any()), np.ones_like(ct, bool))
        x, y, z = spacing
        for axis, (axes, name, height, width) in enumerate(zip(row, ('axial', 'coronal', 'sagittal'), (y, z, z), (x, x, y))):
            others = tuple(a for a in range(3) if a != axis)
            index = int(np.count_nonzero(main_mask, others).argmax())
            flip = slice(None, None, -1) if axis else slice(None)  # head up
            axes.imshow(ct.take(index, axis)[flip], cmap='gray', vmin=window[0], vmax=window[1], aspect=height / width)
            for mask_name, mask in masks.items():
                plane = mask.take(index, axis)[flip]
                if plane.any():
                    axes.contour(plane, [0.5], colors=COLOURS[mask_name], linewidths=1.3)
            axes.set_title(f'{title}, {name}' if axis == 0 else name, color='white', fontsize=11)
            axes.set_axis_off()
    handles = [plt.Line2D([], [], color=COLOURS[name], lw=2, label=name) for name in cases[0][2]]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), labelcolor='white', frameon=False, fontsize=12)
    save(figure, png)


def save(figure, png):
    with whole_file(png) as part:
        figure.savefig(part, dpi=100, format='png')
    plt.close(figure)
