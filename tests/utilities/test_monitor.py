"""The curve: into loss.csv and the figure always, into visdom where one answers."""
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from utilities.errors import InputError
from utilities.monitor import Monitor


class Server(BaseHTTPRequestHandler):
    """As much of visdom's server as its client needs to plot a line."""
    events = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])) or b'{}')
        Server.events.append((self.path, body))
        answer = b'false' if self.path.endswith('win_exists') else body.get('win', 'window').encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def add(monitor, step, loss=0.5):
    monitor.add({'epoch': 1, 'step': step, 'alpha': 0.3, 'learning_rate': 1e-4, 'seconds': 0.5}, torch.full((5,), loss))


@pytest.fixture
def server():
    Server.events.clear()
    http = HTTPServer(('127.0.0.1', 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


def test_a_line_per_loss_and_a_server_that_goes_away(server, tmp_path, capsys):
    monitor = Monitor(tmp_path, 'http://127.0.0.1', server.server_port)
    add(monitor, 1)
    assert not any('x' in json.dumps(body.get('data', '')) for _, body in Server.events)
    add(monitor, 2)
    assert [row['step'] for row in monitor.record()] == [1, 2] and not monitor.record()
    windows = {body['win'] for _, body in Server.events if 'data' in body}
    assert windows == {'loss1', 'loss2', 'loss3', 'loss4', 'total'}
    server.shutdown()
    server.server_close()
    for step in (3, 4):
        add(monitor, step)
        monitor.record()
    assert capsys.readouterr().out.count('no longer answers') == 1
    monitor.flush(last=True)
    assert [line.split(',')[1] for line in (tmp_path / 'loss.csv').read_text().split()] == ['step', '1', '2', '3', '4']
    assert (tmp_path / 'loss_curve.png').stat().st_size > 1000


def test_goes_on_behind_the_steps_that_are_kept(tmp_path):
    monitor = Monitor(tmp_path, '', 8097)
    for step in range(1, 6):
        add(monitor, step)
    monitor.record()
    monitor.flush()
    Monitor(tmp_path, '', 8097, steps=3).flush()
    assert len((tmp_path / 'loss.csv').read_text().split()) == 1 + 3


@pytest.mark.parametrize('loss', [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(tmp_path, loss):
    monitor = Monitor(tmp_path, '', 8097)
    add(monitor, 1)
    add(monitor, 2, loss)
    add(monitor, 3)
    with pytest.raises(InputError, match='step 2: the loss is .*lower learning_rate'):
        monitor.record()
    monitor.flush()
    assert [line.split(',')[1] for line in (tmp_path / 'loss.csv').read_text().split()] == ['step', '1']


def test_no_server_is_one_warning(tmp_path, capsys):
    assert Monitor(tmp_path, 'http://localhost', 1).visdom is None  # nothing listens on port 1
    assert capsys.readouterr().err.count('warning: no visdom server') == 1
