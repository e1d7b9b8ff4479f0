"""visdom's front end from the npm registry, whole and as pinned; its server: quiet, for this machine alone, plots kept, no internet."""

import asyncio
import base64
import hashlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urljoin

import pytest
from visdom import Visdom
from visdom.server import build

from tests.conftest import ROOT
from tests.torture.servers import free_port
from tools import visdom_front_end
from utilities.base.errors import InputError
from utilities.viewing import visdom_front_end as front_end
from utilities.viewing import visdom_server

OFFLINE = ['unshare', '--net', '--map-root-user', '--user'] if os.geteuid() else ['unshare', '--net']
installed = front_end.is_complete(front_end.find_static_folder())
needs_front_end = pytest.mark.skipif(not installed, reason="visdom's front end is not there: make setup had no network")


# ---------------------------------------------------------------------------- the front end
class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Registry:
    """Two packages as the npm registry has them, their list, and the client's two ways to them."""

    files = {
        'one@1.0': {'dist/one.js': 'js/one.js', 'one.css': 'css/one.css'},
        'two-b@2.0': {'two.woff': 'fonts/two.woff'},
    }

    def __init__(self, folder, monkeypatch):
        self.folder, self.static = folder, folder / 'static'
        self.packages = {}
        for package, files in self.files.items():
            self.add(package, {f'package/{member}': f'{package} {member}'.encode() for member in files})
        monkeypatch.setattr(front_end, 'PACKAGE_LIST', folder / 'list.json')
        self.monkeypatch = monkeypatch

    def add(self, package, members):
        """An archive of these members (name in it -> bytes, or the target of a link), and its line in the list."""
        name, version = package.split('@')
        archive = self.folder / f'{name}/-/{name}-{version}.tgz'
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, 'w:gz') as tar:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                if isinstance(content, str):
                    info.type, info.linkname, content = tarfile.SYMTYPE, content, b''
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        self.packages[package] = {'integrity': f'sha512-{digest}', 'files': self.files[package]}
        (self.folder / 'list.json').write_text(json.dumps(self.packages))
        return archive

    def by(self, way):
        """Where the client finds it: 'npm' on the PATH, 'web' without one, 'broken' = npm has no network, 'cut' = neither has."""
        npm = self.folder / 'bin/npm'
        npm.parent.mkdir(exist_ok=True)
        npm.unlink(missing_ok=True)
        self.monkeypatch.setenv('PATH', str(npm.parent))
        self.monkeypatch.setattr(front_end, 'REGISTRY', 'http://127.0.0.1:1')
        if way == 'npm':
            npm.write_text(
                f'#!{sys.executable}\nimport shutil, sys\nassert sys.argv[1] == "pack"\n'
                'for package in (a for a in sys.argv[2:] if a[0] != "-"):\n    name, version = package.split("@")\n'
                f'    shutil.copy(f"{self.folder}/{{name}}/-/{{name}}-{{version}}.tgz", ".")\n'
            )
        elif way == 'broken':
            npm.write_text(
                f'#!{sys.executable}\nimport sys\n'
                'sys.exit("npm error code EAI_AGAIN\\nnpm error request to X failed\\nnpm error y")'
            )
        elif way == 'web':
            web = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=self.folder))
            threading.Thread(target=web.serve_forever, daemon=True).start()
            self.monkeypatch.setattr(front_end, 'REGISTRY', f'http://127.0.0.1:{web.server_port}')
        if npm.exists():
            npm.chmod(0o755)

    def whole(self):
        """Whether the folder holds just what the list names, and what says so."""
        there = {
            str(path.relative_to(self.static)): path.read_bytes() for path in self.static.rglob('*') if path.is_file()
        }
        return there == {
            'version.built': b'0.2.4',
            **{
                place: f'{package} {member}'.encode()
                for package, files in self.files.items()
                for member, place in files.items()
            },
        }


@pytest.fixture
def registry(tmp_path, monkeypatch):
    return Registry(tmp_path, monkeypatch)


@pytest.mark.parametrize('way', ['npm', 'web'])
def test_installed_once_and_then_without_network(registry, way):
    registry.by(way)
    assert front_end.install(registry.static) and registry.whole()
    registry.by('cut')
    assert not front_end.install(registry.static) and registry.whole()


@pytest.mark.parametrize('lost', ['js/one.js', 'fonts/two.woff', 'version.built'])
def test_half_installed_is_completed(registry, lost):
    registry.by('npm')
    front_end.install(registry.static)
    (registry.static / lost).unlink()
    assert front_end.install(registry.static) and registry.whole()


def test_another_version_of_visdom_gets_its_own(registry):
    registry.by('npm')
    front_end.install(registry.static)
    (registry.static / 'version.built').write_text('0.2.3')
    (registry.static / 'js/one.js').write_text('old')
    assert front_end.install(registry.static) and registry.whole()


@pytest.mark.parametrize('way', ['npm', 'web'])
def test_a_damaged_archive_is_refused(registry, way):
    registry.by(way)
    archive = registry.folder / 'two-b/-/two-b-2.0.tgz'
    data = bytearray(archive.read_bytes())
    data[9] ^= 1  # which system made it: gzip reads on
    archive.write_bytes(data)
    with pytest.raises(InputError, match=r'^two-b@2.0: wanted the archive sha512-\S+, got sha512-'):
        front_end.install(registry.static)
    assert not (registry.static / 'fonts/two.woff').exists() and not (registry.static / 'version.built').exists()
    assert not list(registry.static.rglob('.part-*'))


def test_nothing_but_listed_files_is_unpacked(registry):
    registry.by('npm')
    registry.add(
        'two-b@2.0',
        {'../../escaped': b'x', '/../escaped': b'x', 'package/two.woff': '/etc/passwd', 'package/more.js': b'x'},
    )
    front_end.install(registry.static)
    assert {path.name for path in registry.static.rglob('*') if path.is_file()} == {
        'one.js',
        'one.css',
        'version.built',
    }
    assert not list(registry.folder.rglob('*escaped')) and not front_end.is_complete(registry.static)


@pytest.mark.parametrize('way', ['broken', 'cut'])
def test_no_network_is_one_line(registry, monkeypatch, way):
    registry.by(way)
    monkeypatch.setattr(front_end, 'find_static_folder', lambda: registry.static)
    with pytest.raises(InputError) as refused:
        visdom_front_end.main(None)
    why = {'broken': 'npm pack: request to X failed;', 'cut': 'http://127.0.0.1:1/one/-/one-1.0.tgz: .*refused'}[way]
    line = str(refused.value)
    assert (
        re.match(f"visdom's front end: {why}", line)
        and 'run python tools/visdom_front_end.py again' in line
        and '\n' not in line
    )
    assert not registry.static.exists()


def test_the_list_holds_what_visdom_itself_would_download(tmp_path, monkeypatch):
    asked = []

    class Opener:
        def open(self, wanted):
            asked.append(wanted.full_url)
            return io.BytesIO(b'x')

    monkeypatch.setattr(build.request, 'build_opener', lambda _: Opener())
    monkeypatch.setattr(build.request, 'install_opener', lambda _: None)
    monkeypatch.setattr('requests.get', lambda _: SimpleNamespace(content=b'x'))
    build.download_scripts(install_dir=str(tmp_path))
    wanted = {
        str(path.relative_to(tmp_path / 'static')).partition('#')[0] for path in tmp_path.rglob('*') if path.is_file()
    }
    packages = json.loads(front_end.PACKAGE_LIST.read_text())
    assert {place for entry in packages.values() for place in entry['files'].values()} == wanted - {'version.built'}
    ours = {f'https://unpkg.com/{package}/{member}' for package, entry in packages.items() for member in entry['files']}
    theirs = {url.partition('#')[0] for url in asked if url.startswith('https://unpkg.com/')} - {
        'https://unpkg.com/classnames@2.2.5'
    }
    assert theirs <= ours and 'classnames@2.2.5' in packages and len(theirs) > 10
    versions = dict(package.split('@') for package in packages)
    assert f'https://cdn.plot.ly/plotly-{versions["plotly.js-dist-min"]}.min.js' in asked
    assert (
        f'js/mathjax/{versions["mathjax"]}/MathJax.js' in packages[f'mathjax@{versions["mathjax"]}']['files'].values()
    )


@needs_front_end
def test_installed_for_this_python():
    for entry in json.loads(front_end.PACKAGE_LIST.read_text()).values():
        for place in entry['files'].values():
            assert (front_end.find_static_folder() / place).stat().st_size > 500, place


# ---------------------------------------------------------------------------- the server
@pytest.fixture
def start(tmp_path):
    """start(port) -> a server whose home is tmp_path, once it says where to open it; start(port, *command) runs it by a command."""
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


def ask_for_the_page(port):
    """Ask for the page, and all scripts and style sheets that it names, as a browser does."""
    status, page = get(port, '/')
    named = re.findall(r'<(?:script|link)[^>]* (?:src|href)=["\']?([^"\' >]+)', page.decode())
    named = [urljoin('/', name) for name in named if name != 'favicon.png']  # which visdom lacks
    assert status == 200 and len(named) == 19, named
    for name in named:
        assert get(port, name)[0] == 200, name


def client(port, environment):
    return Visdom('http://127.0.0.1', port=port, env=environment, use_incoming_socket=False, raise_exceptions=True)


def shown(port, environment, window='loss'):
    return json.loads(client(port, environment).get_window_data(window))['content']['data'][0]


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


@needs_front_end
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_page_then_a_signal_that_ends_it_with_one_line(start, tmp_path, number):
    port = free_port()
    server = start(port)
    ask_for_the_page(port)
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
    pass_with_the_network_cut(__file__, 'page_then', 2, tmp_path)


@needs_front_end
def test_a_taken_port_is_one_line(tmp_path, script, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        refused = script('scripts/visdom_server.py', visdom_port=port)
    assert refused.returncode == 1 and refused.stdout == ''
    assert refused.stderr == (
        f'error: port {port}: Address already in use; end what uses it (another visdom?), or set visdom_port\n'
    )


@needs_front_end
def test_a_home_that_cannot_be_written_is_one_line(tmp_path, script, monkeypatch):
    (tmp_path / '.visdom').write_text('a file')
    monkeypatch.setenv('HOME', str(tmp_path))
    refused = script('scripts/visdom_server.py', visdom_port=free_port())
    assert refused.returncode == 1 and refused.stderr == f'error: {tmp_path}/.visdom/view: Not a directory\n'


@needs_front_end
def test_plots_are_there_after_a_restart(start, tmp_path):
    """Also those of an environment that nobody opened in between."""
    port = free_port()
    server = start(port)
    for environment in ('demo-module', 'demo-crf'):
        client(port, environment).line([0.5, 0.25, 0.125], [1, 2, 3], win='loss')
    for _ in range(2):
        server.terminate()
        server.communicate(timeout=20)
        server = start(port)
        ask_for_the_page(port)
        assert shown(port, 'demo-module')['y'] == [0.5, 0.25, 0.125] and shown(port, 'demo-module')['x'] == [1, 2, 3]
    assert shown(port, 'demo-crf')['y'] == [0.5, 0.25, 0.125]
    assert not list(tmp_path.rglob('.part-*'))


@needs_front_end
def test_plots_are_saved_while_it_runs(tmp_path, monkeypatch, capfd):
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
                    lambda: (tmp_path / 'loss.json').exists() and f'{value}]' in (tmp_path / 'loss.json').read_text()
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
def test_without_the_registry_visdoms_own_way_is_tried(registry, monkeypatch, capfd, own):
    """What it prints is not shown; if it fails as well, one line tells which folder to copy."""
    registry.by('cut')

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
