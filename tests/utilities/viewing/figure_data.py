"""Small cases and loss curves that several tests of figures share."""

import numpy as np
import pandas

from utilities.viewing.case_volumes import CaseVolumes
from utilities.volumes.geometry import Geometry

WINDOW = -200, 200  # HU


def write_loss_csv(path, epochs, steps, **columns):
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


def find_line(axes, label):
    return next(item for item in axes.lines if item.get_label().startswith(label))


def texts_of(figure):
    return [text.get_text() for text in figure.texts]


def make_case(shape=(30, 40, 50), spacing=(2.0, 2.0, 3.0), seed=0):
    """A case whose masks are boxes some voxels apart."""
    ct = np.random.default_rng(seed).integers(-200, 200, shape).astype(np.int16)
    masks = {name: np.zeros(shape, np.uint8) for name in ('label', 'prediction', 'CRF')}
    for shift, mask in enumerate(masks.values()):
        mask[10:20, 12 + shift : 25, 15 : 30 + shift] = 1
    return CaseVolumes(f'volume-{seed}', ct, masks, Geometry(spacing))


def dice_of(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def make_table(**columns):
    """A table as in result.csv of the cases volume-0.nii, volume-1.nii ..."""
    names = [f'volume-{i}.nii' for i in range(len(columns['volume_ml']))]
    return pandas.DataFrame(columns, index=pandas.Index(names, name='case'))
