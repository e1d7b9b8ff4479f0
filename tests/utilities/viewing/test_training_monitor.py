"""The curve: into loss.csv and the figure always, into visdom whenever one answers."""

import math
import socket
import threading
import time
from http.server import ThreadingHTTPServer

import numpy as np
import pandas
import pytest
import torch

from tests.torture.stand_in import Handler
from utilities.base.errors import InputError
from utilities.training.curve import Curve
from utilities.viewing import training_monitor as monitoring
from utilities.viewing import visdom_client as boards
from utilities.viewing.training_monitor import Monitor


class Server(Handler):
    """One that tells what was sent to it."""

    protocol_version = 'HTTP/1.0'  # no connection outlives the server

    def received(self, body):
        self.server.events.append((self.path, body))


def serve(port=0):
    http = ThreadingHTTPServer(('127.0.0.1', port), Server)
    http.events = []
    threading.Thread(target=http.serve_forever, daemon=True).start()
    return http


def end(http):
    http.shutdown()
    http.server_close()


def points(http, window='loss'):
    """Lines of a window as sent: name -> {step: value}."""
    shown = {}
    for _, body in http.events:
        if body.get('win') == window:
            for line in body.get('data', []):
                shown.setdefault(line['name'], {}).update(zip(line['x'], line['y']))
    return shown


def steps_of(http):
    return set(points(http).get('loss4', {}))


def wait_for(condition):
    end_of_patience = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_of_patience
        time.sleep(0.02)


def add(monitor, step, loss=0.5, epoch=1):
    monitor.curve.add(
        torch.full((5,), loss), ['volume-7', 'volume-8'], epoch=epoch, step=step, alpha=0.3, learning_rate=1e-4
    )


def record(monitor):
    monitor.curve.record()
    monitor.show_new_rows()
    return monitor.curve.newest()


def close(monitor):
    monitor.curve.write_csv()
    monitor.close()


def monitor_in(folder, *arguments, rows=(), **options):
    return Monitor(Curve(folder / 'loss.csv', rows), *arguments, **options)


def steps(folder):
    return [line.split(',')[1] for line in (folder / 'loss.csv').read_text().split()]


def test_every_step_is_shown(tmp_path):
    server = serve()
    monitor = monitor_in(
        tmp_path / 'run 1/module', 'http://127.0.0.1', server.server_port, {'size': 16, 'module_dir': '<b>'}, 3
    )
    for step in (1, 2, 3):
        monitor.curve.add(
            torch.tensor([0.1, 0.2, 0.3, 0.4, 0.73]) * step,
            ['volume-7', 'volume-8'],
            epoch=1,
            step=step,
            alpha=0.3 / step,
            learning_rate=1e-4,
        )
        if step > 1:
            assert record(monitor)['step'] == step
    monitor.curve.set_validation_dice(0.75)
    monitor.show_validation_dice()
    close(monitor)
    assert {body['eid'] for _, body in server.events if 'eid' in body} == {'run_1-module'}
    lines = points(server)
    for number, name in enumerate(('loss1', 'loss2', 'loss3', 'loss4')):
        assert lines[name] == pytest.approx({step: 0.1 * (number + 1) * step for step in (1, 2, 3)})
    assert lines['weighted sum'] == pytest.approx({step: 0.73 * step for step in (1, 2, 3)})
    assert list(points(server, 'alpha').values()) == [pytest.approx({1: 0.3, 2: 0.15, 3: 0.1})]
    assert list(points(server, 'learning_rate').values()) == [pytest.approx({1: 1e-4, 2: 1e-4, 3: 1e-4})]
    assert list(points(server, 'validation_dice').values()) == [{3: 0.75}]
    table = pandas.read_csv(tmp_path / 'run 1/module/loss.csv')
    (seconds,) = points(server, 'seconds_per_step').values()
    assert list(seconds.values()) == pytest.approx(np.diff(table['seconds'], prepend=0), abs=1e-5)
    (rates,) = points(server, 'samples_per_second').values()
    assert rates == pytest.approx({step: 2 / value for step, value in seconds.items()})
    assert not points(server, 'gpu_mb') and table['gpu_mb'].isna().all()  # no GPU
    (text,) = [body['data'][0]['content'] for _, body in server.events if body.get('win') == 'parameters']
    assert '16' in text and '&lt;b&gt;' in text and '<b>' not in text
    assert steps(tmp_path / 'run 1/module') == ['step', '1', '2', '3']
    assert (tmp_path / 'run 1/module/loss_curve.png').stat().st_size > 1000
    end(server)


def test_of_a_long_run_each_nth_step_is_shown(tmp_path):
    server = serve()
    monitor = monitor_in(tmp_path, 'http://127.0.0.1', server.server_port, total_steps=3 * monitoring.MAX_POINTS)
    for step in range(1, 10):
        add(monitor, step)
    record(monitor)
    monitor.curve.set_validation_dice(0.5)
    monitor.show_validation_dice()
    close(monitor)
    assert steps_of(server) == {3, 6, 9} and list(points(server, 'validation_dice').values()) == [{9: 0.5}]
    assert len(steps(tmp_path)) == 10
    end(server)


def test_a_server_that_vanishes_and_returns_gets_the_whole_curve(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(boards, 'RETRY_INTERVAL', 0.05)
    monkeypatch.setattr(boards, 'SEND_INTERVAL', 0.05)
    server = serve()
    port = server.server_port
    monitor = monitor_in(tmp_path, '127.0.0.1', port)
    add(monitor, 1)
    record(monitor)
    wait_for(lambda: 1 in steps_of(server))
    end(server)
    for step in (2, 3):
        add(monitor, step)
        record(monitor)
        time.sleep(0.2)
    server = serve(port)
    add(monitor, 4)
    record(monitor)
    wait_for(lambda: steps_of(server) == {1, 2, 3, 4})
    close(monitor)
    assert capsys.readouterr().err.count('no visdom server answers') == 1
    assert steps(tmp_path) == ['step', '1', '2', '3', '4']
    end(server)


def test_a_server_that_never_answers_holds_nothing_up(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as deaf:
        start = time.monotonic()
        monitor = monitor_in(tmp_path, 'http://127.0.0.1', deaf.getsockname()[1])
        for step in range(1, 4):
            add(monitor, step)
            record(monitor)
        assert time.monotonic() - start < 2
        close(monitor)  # waits five seconds for it
    assert steps(tmp_path) == ['step', '1', '2', '3']


def test_no_server_is_one_warning(tmp_path, capsys):
    monitor = monitor_in(tmp_path, 'http://localhost', 1)  # nothing listens on port 1
    for step in (1, 2):
        add(monitor, step)
        record(monitor)
    close(monitor)
    assert capsys.readouterr().err.count('warning: no visdom server answers at http://localhost:1 ') == 1


def test_goes_on_behind_a_given_curve(tmp_path):
    whole, part = monitor_in(tmp_path / 'whole'), monitor_in(tmp_path / 'part')
    for monitor, numbers in ((whole, range(1, 6)), (part, range(1, 4))):
        for step in numbers:
            add(monitor, step, loss=1 / step, epoch=1 + step // 3)
        record(monitor)
    rest = monitor_in(tmp_path / 'rest', rows=torch.tensor(part.curve.rows, dtype=torch.float64).tolist())
    for step in (4, 5):
        add(rest, step, loss=1 / step, epoch=1 + step // 3)
    assert record(rest)['seconds'] >= part.curve.rows[-1][-1]
    rest.curve.write_csv(), whole.curve.write_csv()
    lines = [
        [line.rpartition(',')[0] for line in (tmp_path / name / 'loss.csv').read_text().split()]
        for name in ('whole', 'rest')
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 6
    assert rest.curve.mean_loss(2) == whole.curve.mean_loss(2) == pytest.approx((1 / 3 + 1 / 4 + 1 / 5) / 3)


@pytest.mark.parametrize('loss', [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_cases(tmp_path, loss):
    monitor = monitor_in(tmp_path)
    add(monitor, 1)
    add(monitor, 2, loss)
    add(monitor, 3)
    with pytest.raises(InputError, match='step 2: the loss of volume-7, volume-8 is .*lower learning_rate'):
        record(monitor)
    assert steps(tmp_path) == ['step', '1']
