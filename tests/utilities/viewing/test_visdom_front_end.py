"""visdom's front end is installed completely from the npm registry, with the listed hashes, or not at all."""

import io
import json
import re
from types import SimpleNamespace

import pytest
from visdom.server import build

from tests.utilities.viewing.npm_registry import needs_front_end
from tools import visdom_front_end
from utilities.base.errors import InputError
from utilities.viewing import visdom_front_end as front_end


@pytest.mark.parametrize('way', ['npm', 'web'])
def test_installed_once_and_then_without_network(registry, way):
    registry.make_reachable_by(way)
    assert front_end.install(registry.static) and registry.is_installed()
    registry.make_reachable_by('cut')
    assert not front_end.install(registry.static) and registry.is_installed()


@pytest.mark.parametrize('lost', ['js/one.js', 'fonts/two.woff', 'version.built'])
def test_missing_files_are_completed(registry, lost):
    registry.make_reachable_by('npm')
    front_end.install(registry.static)
    (registry.static / lost).unlink()
    assert front_end.install(registry.static) and registry.is_installed()


def test_another_version_of_visdom_gets_its_own_files(registry):
    registry.make_reachable_by('npm')
    front_end.install(registry.static)
    (registry.static / 'version.built').write_text('0.2.3')
    (registry.static / 'js/one.js').write_text('old')
    assert front_end.install(registry.static) and registry.is_installed()


@pytest.mark.parametrize('way', ['npm', 'web'])
def test_a_damaged_archive_is_refused(registry, way):
    registry.make_reachable_by(way)
    archive = registry.folder / 'two-b/-/two-b-2.0.tgz'
    data = bytearray(archive.read_bytes())
    data[9] ^= 1  # which system made it: gzip reads on
    archive.write_bytes(data)
    with pytest.raises(InputError, match=r'^two-b@2.0: wanted the archive sha512-\S+, got sha512-'):
        front_end.install(registry.static)
    assert not (registry.static / 'fonts/two.woff').exists() and not (registry.static / 'version.built').exists()
    assert not list(registry.static.rglob('.part-*'))


def test_nothing_but_listed_files_is_unpacked(registry):
    registry.make_reachable_by('npm')
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
def test_without_network_there_is_a_one_line_error(registry, monkeypatch, way):
    registry.make_reachable_by(way)
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


def test_the_list_holds_the_files_that_visdom_itself_would_download(tmp_path, monkeypatch):
    requested = []

    class Opener:
        def open(self, wanted):
            requested.append(wanted.full_url)
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
    theirs = {url.partition('#')[0] for url in requested if url.startswith('https://unpkg.com/')} - {
        'https://unpkg.com/classnames@2.2.5'
    }
    assert theirs <= ours and 'classnames@2.2.5' in packages and len(theirs) > 10
    versions = dict(package.split('@') for package in packages)
    assert f'https://cdn.plot.ly/plotly-{versions["plotly.js-dist-min"]}.min.js' in requested
    assert (
        f'js/mathjax/{versions["mathjax"]}/MathJax.js' in packages[f'mathjax@{versions["mathjax"]}']['files'].values()
    )


@needs_front_end
def test_the_front_end_is_installed_for_this_python():
    for entry in json.loads(front_end.PACKAGE_LIST.read_text()).values():
        for place in entry['files'].values():
            assert (front_end.find_static_folder() / place).stat().st_size > 500, place
