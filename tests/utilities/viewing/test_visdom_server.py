"""visdom's server listens on this machine only, needs no internet, and keeps its plots."""

import asyncio
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urljoin

import pytest
from visdom import Visdom

from tests.conftest import ROOT
from tests.torture.servers import free_port
from tests.utilities.viewing.npm_registry import needs_front_end
from utilities.base.errors import InputError
from utilities.viewing import visdom_front_end as front_end
from utilities.viewing import visdom_server

OFFLINE = ['unshare', '--net', '--map-root-user', '--user'] if os.geteuid() else ['unshare', '--net']


@pytest.fixture
def start(tmp_path):
    """start(port) returns a running server whose home is tmp_path; start(port, *command) starts it by a command."""
    processes = []

    def run(port, *command):
        process = subprocess.Popen(
            [*command, sys.executable, str(ROOT / 'scripts/visdom_server.py'), f'--visdom_port={port}'],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, 'HOME': str(tmp_path)},
        )
        processes.append(process)
        assert process.stdout.readline() == f'visdom: open http://localhost:{port}; to end it: Ctrl-C\n', (
            process.stderr.read()
        )
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def get(port, path):
    """Status and body; past any proxy."""
    client = http.client.HTTPConnection('127.0.0.1', port, timeout=20)
    client.request('GET', path)
    answer = client.getresponse()
    return answer.status, answer.read()


def request_page(port):
    """Request the page and all scripts and style sheets that it names, as a browser does."""
    status, page = get(port, '/')
    named = re.findall(r'<(?:script|link)[^>]* (?:src|href)=["\']?([^"\' >]+)', page.decode())
    named = [urljoin('/', name) for name in named if name != 'favicon.png']  # which visdom lacks
    assert status == 200 and len(named) == 19, named
    for name in named:
        assert get(port, name)[0] == 200, name


def client(port, environment):
    return Visdom('http://127.0.0.1', port=port, env=environment, use_incoming_socket=False, raise_exceptions=True)


def read_plot(port, environment, window='loss'):
    return json.loads(client(port, environment).get_window_data(window))['content']['data'][0]


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


@needs_front_end
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_until_a_signal_ends_it_with_one_line(start, tmp_path, number):
    port = free_port()
    server = start(port)
    request_page(port)
    listening = [
        line.split()[1]
        for table in ('tcp', 'tcp6')
        for line in Path(f'/proc/net/{table}').read_text().splitlines()[1:]
        if line.split()[3] == '0A'
    ]
    assert [address for address in listening if address.endswith(f':{port:04X}')] == [
        f'0100007F:{port:04X}'
    ]  # 127.0.0.1 alone
    server.send_signal(number)
    out, err = server.communicate(timeout=20)
    assert server.returncode == 128 + number and out == ''
    assert err == f'stopped by {number.name}; the plots are kept in {tmp_path}/.visdom\n'


def pass_with_the_network_cut(file, tests, number, tmp_path):
    """Run the `number` tests of a file whose names hold `tests` where loopback is the only network."""
    if subprocess.run([*OFFLINE, 'ip', 'link', 'set', 'lo', 'up'], capture_output=True).returncode:
        pytest.skip('wants the right to a network of its own')
    inside = subprocess.run(
        [
            *OFFLINE,
            'sh',
            '-c',
            f'ip link set lo up && exec {sys.executable} -m pytest -q -p no:cacheprovider '
            f'--basetemp={tmp_path}/inside {file} -k {tests}',
        ],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert inside.returncode == 0 and f'{number} passed' in inside.stdout, inside.stdout


@needs_front_end
def test_page_with_the_network_cut(tmp_path):
    pass_with_the_network_cut(__file__, 'page_is_served', 2, tmp_path)


@needs_front_end
def test_a_port_in_use_gives_a_one_line_error(tmp_path, script, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        refused = script('scripts/visdom_server.py', visdom_port=port)
    assert refused.returncode == 1 and refused.stdout == ''
    assert refused.stderr == (
        f'error: port {port}: Address already in use; end what uses it (another visdom?), or set visdom_port\n'
    )


@needs_front_end
def test_a_home_that_cannot_be_written_gives_a_one_line_error(tmp_path, script, monkeypatch):
    (tmp_path / '.visdom').write_text('a file')
    monkeypatch.setenv('HOME', str(tmp_path))
    refused = script('scripts/visdom_server.py', visdom_port=free_port())
    assert refused.returncode == 1 and refused.stderr == f'error: {tmp_path}/.visdom/view: Not a directory\n'


@needs_front_end
def test_plots_are_shown_again_after_a_restart(start, tmp_path):
    """Also those of an environment that nobody opened in between."""
    port = free_port()
    server = start(port)
    for environment in ('demo-module', 'demo-crf'):
        client(port, environment).line([0.5, 0.25, 0.125], [1, 2, 3], win='loss')
    for _ in range(2):
        server.terminate()
        server.communicate(timeout=20)
        server = start(port)
        request_page(port)
        assert read_plot(port, 'demo-module')['y'] == [0.5, 0.25, 0.125] and read_plot(port, 'demo-module')['x'] == [
            1,
            2,
            3,
        ]
    assert read_plot(port, 'demo-crf')['y'] == [0.5, 0.25, 0.125]
    assert not list(tmp_path.rglob('.part-*'))


@needs_front_end
def test_plots_are_saved_while_the_server_runs(tmp_path, monkeypatch, capfd):
    """Every SAVE_INTERVAL; one whose file cannot be written is a warning, and the others are saved."""
    monkeypatch.setattr(visdom_server, 'DEFAULT_ENV_PATH', f'{tmp_path}/')
    monkeypatch.setattr(visdom_server, 'FOLDER', tmp_path)
    monkeypatch.setattr(visdom_server, 'SAVE_INTERVAL', 0.1)
    port, found = free_port(), []

    def use():
        try:
            wait_for(lambda: not socket.socket().connect_ex(('127.0.0.1', port)))
            for environment in ('a' * 300, 'loss'):
                client(port, environment).line([0.5], [1], win='loss')
            for value in (0.25, 0.125):
                client(port, 'loss').line([value], [2], win='loss', update='append')
                wait_for(
                    lambda value=value: (
                        (tmp_path / 'loss.json').exists() and f'{value}]' in (tmp_path / 'loss.json').read_text()
                    )
                )
                found.append(
                    json.loads((tmp_path / 'loss.json').read_text())['jsons']['loss']['content']['data'][0]['y']
                )
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    user = threading.Thread(target=use)
    user.start()
    assert asyncio.run(visdom_server.serve(port)) == signal.SIGTERM
    user.join()
    assert found == [[0.5, 0.25], [0.5, 0.25, 0.125]]
    assert f'warning: the plots of {"a" * 300} are not saved: [Errno 36]' in capfd.readouterr().err


@pytest.mark.parametrize('own', ['works', 'leaves files out', 'fails', 'out of reach'])
def test_without_the_registry_visdoms_own_download_is_tried(registry, monkeypatch, capfd, own):
    """Its output is hidden; if it fails as well, one line names the folder to copy."""
    registry.make_reachable_by('cut')

    def download():
        print('Downloading scripts, this may take a little while')
        if own == 'fails':
            raise ConnectionError
        for files in registry.files.values():
            for place in list(files.values())[own == 'leaves files out' :]:
                (registry.static / place).parent.mkdir(parents=True, exist_ok=True)
                (registry.static / place).write_text('x')
        (registry.static / 'version.built').write_text('0.2.4')

    def open_page(address, timeout):
        if own == 'out of reach':
            raise TimeoutError
        return io.BytesIO()

    for module in (front_end, visdom_server):
        monkeypatch.setattr(module, 'find_static_folder', lambda: registry.static)
    monkeypatch.setattr(visdom_server, 'download_scripts', download)
    monkeypatch.setattr(visdom_server, 'urlopen', open_page)
    if own == 'works':
        visdom_server.install_front_end()
    else:
        with pytest.raises(
            InputError, match=f'refused.*; without network: run make setup on a machine.*copy its {registry.static}'
        ):
            visdom_server.install_front_end()
    assert capfd.readouterr().out == ''
