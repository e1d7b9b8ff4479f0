"""The curve of a training is drawn always, and shown in visdom whenever a server answers."""

import socket
import threading
import time
from http.server import ThreadingHTTPServer

import numpy as np
import pandas
import pytest
import torch

from tests.torture.stand_in import Handler
from utilities.training.curve import Curve
from utilities.viewing import training_monitor, visdom_client
from utilities.viewing.training_monitor import Monitor


class RecordingHandler(Handler):
    """Answer like visdom and keep every request."""

    protocol_version = 'HTTP/1.0'  # so that no connection outlives the server

    def received(self, body):
        self.server.requests.append(body)


def start_server(port=0):
    server = ThreadingHTTPServer(('127.0.0.1', port), RecordingHandler)
    server.requests = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def stop_server(server):
    server.shutdown()
    server.server_close()


@pytest.fixture
def server():
    server = start_server()
    yield server
    stop_server(server)


def points(server, pane='loss'):
    """Return the points that a pane received: name of the line -> {step: value}."""
    lines = {}
    for body in server.requests:
        if body.get('win') == pane:
            for line in body.get('data', []):
                lines.setdefault(line['name'], {}).update(zip(line['x'], line['y']))
    return lines


def shown_steps(server):
    return set(points(server).get('loss4', {}))


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def make_monitor(folder, *arguments, **options):
    return Monitor(Curve(folder / 'loss.csv'), *arguments, **options)


def add_step(monitor, step, losses=(0.5, 0.5, 0.5, 0.5, 0.5), alpha=0.3):
    cases = ['volume-7', 'volume-8']
    monitor.curve.add(torch.tensor(losses), cases, epoch=1, step=step, alpha=alpha, learning_rate=1e-4)


def record_and_show(monitor):
    monitor.curve.record()
    monitor.show_new_rows()


def validate(monitor, dice):
    monitor.curve.set_validation_dice(dice)
    monitor.show_validation_dice()


def close(monitor):
    monitor.curve.write_csv()
    monitor.close()


def test_every_step_is_shown(tmp_path, server):
    folder = tmp_path / 'run 1/module'
    monitor = make_monitor(folder, 'http://127.0.0.1', server.server_port, {'size': 16, 'module_dir': '<b>'}, 3)
    losses = np.array([0.1, 0.2, 0.3, 0.4, 0.73], np.float32)
    for step in (1, 2, 3):
        add_step(monitor, step, losses * step, alpha=0.3 / step)
        if step > 1:
            record_and_show(monitor)
            assert monitor.curve.newest()['step'] == step
    validate(monitor, 0.75)
    close(monitor)
    assert {body['eid'] for body in server.requests if 'eid' in body} == {'run_1-module'}
    shown = points(server)
    for number, name in enumerate(('loss1', 'loss2', 'loss3', 'loss4')):
        assert shown[name] == pytest.approx({step: 0.1 * (number + 1) * step for step in (1, 2, 3)})
    assert shown['weighted sum'] == pytest.approx({step: 0.73 * step for step in (1, 2, 3)})
    assert list(points(server, 'alpha').values()) == [pytest.approx({1: 0.3, 2: 0.15, 3: 0.1})]
    assert list(points(server, 'learning_rate').values()) == [pytest.approx({1: 1e-4, 2: 1e-4, 3: 1e-4})]
    assert list(points(server, 'validation_dice').values()) == [{3: 0.75}]
    table = pandas.read_csv(folder / 'loss.csv')
    (seconds,) = points(server, 'seconds_per_step').values()
    assert list(seconds.values()) == pytest.approx(np.diff(table['seconds'], prepend=0), abs=1e-5)
    (rates,) = points(server, 'samples_per_second').values()
    assert rates == pytest.approx({step: 2 / value for step, value in seconds.items()})
    assert not points(server, 'gpu_mb') and table['gpu_mb'].isna().all()  # The losses are on the CPU.
    (text,) = [body['data'][0]['content'] for body in server.requests if body.get('win') == 'parameters']
    assert '16' in text and '&lt;b&gt;' in text and '<b>' not in text
    assert table['step'].tolist() == [1, 2, 3]
    assert (folder / 'loss_curve.png').stat().st_size > 1000


def test_of_a_long_training_every_nth_step_is_shown(tmp_path, server):
    total_steps = 3 * training_monitor.MAX_POINTS
    monitor = make_monitor(tmp_path, 'http://127.0.0.1', server.server_port, total_steps=total_steps)
    for step in range(1, 10):
        add_step(monitor, step)
    record_and_show(monitor)
    validate(monitor, 0.5)
    close(monitor)
    assert shown_steps(server) == {3, 6, 9} and list(points(server, 'validation_dice').values()) == [{9: 0.5}]
    assert len(pandas.read_csv(tmp_path / 'loss.csv')) == 9


def test_a_server_that_is_restarted_gets_the_whole_curve(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(visdom_client, 'RETRY_INTERVAL', 0.05)
    monkeypatch.setattr(visdom_client, 'SEND_INTERVAL', 0.05)
    server = start_server()
    port = server.server_port
    monitor = make_monitor(tmp_path, '127.0.0.1', port)
    add_step(monitor, 1)
    record_and_show(monitor)
    wait_until(lambda: 1 in shown_steps(server))
    stop_server(server)
    for step in (2, 3):
        add_step(monitor, step)
        record_and_show(monitor)
        time.sleep(0.2)
    server = start_server(port)
    add_step(monitor, 4)
    record_and_show(monitor)
    wait_until(lambda: shown_steps(server) == {1, 2, 3, 4})
    close(monitor)
    stop_server(server)
    assert capsys.readouterr().err.count('no visdom server answers') == 1
    assert pandas.read_csv(tmp_path / 'loss.csv')['step'].tolist() == [1, 2, 3, 4]


def test_a_server_that_never_answers_does_not_delay_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr(visdom_client, 'CLOSE_TIMEOUT', 0.5)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        start = time.monotonic()
        monitor = make_monitor(tmp_path, 'http://127.0.0.1', silent.getsockname()[1])
        for step in range(1, 4):
            add_step(monitor, step)
            record_and_show(monitor)
        assert time.monotonic() - start < 2
        close(monitor)
    assert pandas.read_csv(tmp_path / 'loss.csv')['step'].tolist() == [1, 2, 3]


def test_without_a_server_there_is_one_warning(tmp_path, capsys):
    monitor = make_monitor(tmp_path, 'http://localhost', 1)  # Nothing listens on port 1.
    for step in (1, 2):
        add_step(monitor, step)
        record_and_show(monitor)
    close(monitor)
    assert capsys.readouterr().err.count('warning: no visdom server answers at http://localhost:1 ') == 1
