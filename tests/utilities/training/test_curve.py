"""The rows of loss.csv."""

import math
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from utilities.base.errors import InputError
from utilities.training.curve import COLUMNS, Curve, read_rows


def add_step(curve, step, loss=0.5, epoch=1):
    curve.add(torch.full((5,), loss), ['volume-7', 'volume-8'], epoch=epoch, step=step, alpha=0.3, learning_rate=1e-4)


def steps_in(path):
    return [line.split(',')[1] for line in path.read_text().split()]


def test_a_row_holds_what_was_added(tmp_path):
    curve = Curve(tmp_path / 'loss.csv')
    curve.add(torch.arange(5.0), ['volume-7', 'volume-8'], epoch=2, step=9, alpha=0.3, learning_rate=1e-4)
    assert curve.rows == []
    curve.record()
    curve.set_validation_dice(0.75)
    row = curve.newest()
    assert [row[name] for name in ('loss1', 'loss2', 'loss3', 'loss4', 'total')] == [0, 1, 2, 3, 4]
    assert (row['epoch'], row['step'], row['samples'], row['validation_dice']) == (2, 9, 2, 0.75)
    curve.write_csv()
    header, line = (tmp_path / 'loss.csv').read_text().splitlines()
    assert header == (
        'epoch,step,loss1,loss2,loss3,loss4,total,alpha,learning_rate,samples,validation_dice,gpu_mb,seconds'
    )
    assert line.startswith('2,9,0,1,2,3,4,0.3,0.0001,2,0.75,,')  # The memory of a GPU was not measured.


def test_the_mean_loss_of_an_epoch_counts_its_own_rows(tmp_path):
    curve = Curve(tmp_path / 'loss.csv')
    for step in range(1, 6):
        add_step(curve, step, loss=1 / step, epoch=1 + step // 3)
    curve.record()
    assert curve.mean_loss(2) == pytest.approx((1 / 3 + 1 / 4 + 1 / 5) / 3)


def test_a_resumed_curve_continues_the_rows(tmp_path):
    whole, first = Curve(tmp_path / 'whole.csv'), Curve(tmp_path / 'first.csv')
    for step in range(1, 6):
        add_step(whole, step, loss=1 / step, epoch=1 + step // 3)
    for step in range(1, 4):
        add_step(first, step, loss=1 / step, epoch=1 + step // 3)
    whole.record()
    first.record()
    resumed = Curve(tmp_path / 'resumed.csv', torch.tensor(first.rows, dtype=torch.float64).tolist())
    for step in (4, 5):
        add_step(resumed, step, loss=1 / step, epoch=1 + step // 3)
    resumed.record()
    assert resumed.newest()['seconds'] >= first.newest()['seconds'] and resumed.mean_loss(2) == whole.mean_loss(2)
    resumed.write_csv()
    whole.write_csv()
    expected, got = (
        [line.rpartition(',')[0] for line in (tmp_path / name).read_text().split()]
        for name in ('whole.csv', 'resumed.csv')
    )
    assert expected == got and len(got) == 6


@pytest.mark.parametrize('loss', [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_cases(tmp_path, loss):
    curve = Curve(tmp_path / 'loss.csv')
    add_step(curve, 1)
    add_step(curve, 2, loss)
    add_step(curve, 3)
    with pytest.raises(InputError, match='step 2: the loss of volume-7, volume-8 is .*lower learning_rate'):
        curve.record()
    assert steps_in(tmp_path / 'loss.csv') == ['step', '1']


def test_rows_are_read_back(tmp_path):
    curve = Curve(tmp_path / 'loss.csv')
    add_step(curve, 1)
    curve.record()
    curve.write_csv()
    (row,) = read_rows(tmp_path / 'loss.csv')
    assert row[:-1] == pytest.approx(curve.rows[0][:-1], nan_ok=True)
    (tmp_path / 'loss.csv').write_text('epoch,step,loss4,seconds\n1,1,0.5,2\n')  # a table of an earlier version
    (row,) = read_rows(tmp_path / 'loss.csv')
    assert dict(zip(COLUMNS, row))['loss4'] == 0.5 and math.isnan(dict(zip(COLUMNS, row))['alpha'])


@pytest.mark.parametrize('content', ['epoch,step\n1,1\n', 'epoch,step,loss4,seconds\n1,1,x,2\n', ''])
def test_another_table_is_refused(tmp_path, content):
    (tmp_path / 'loss.csv').write_text(content)
    with pytest.raises(InputError, match='loss.csv: wanted a table with epoch, step.*set module_dir'):
        read_rows(tmp_path / 'loss.csv')
    with pytest.raises(InputError, match='none.csv: wanted the table of a training, found none'):
        read_rows(tmp_path / 'none.csv')


def test_the_curve_needs_neither_matplotlib_nor_visdom():
    code = (
        'import sys, utilities.training.curve, utilities.training.training_state\n'
        'assert not {"matplotlib", "visdom"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
