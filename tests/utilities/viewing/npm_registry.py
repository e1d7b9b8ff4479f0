"""A small npm registry, for the tests of visdom's front end."""

import base64
import hashlib
import io
import json
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from utilities.viewing import visdom_front_end as front_end


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Registry:
    """An npm registry with two packages, the list that names them, and an empty folder for the front end."""

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
        """Add a package to the registry and the list; members: {name: bytes, or the target of a symbolic link}."""
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

    def make_reachable_by(self, way):
        """Choose how the client can reach the registry.

        way: 'npm', a program on the PATH; 'web', by HTTP; 'broken', npm without network; 'cut', neither works.
        """
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
            web = ThreadingHTTPServer(('127.0.0.1', 0), partial(QuietHandler, directory=self.folder))
            threading.Thread(target=web.serve_forever, daemon=True).start()
            self.monkeypatch.setattr(front_end, 'REGISTRY', f'http://127.0.0.1:{web.server_port}')
        if npm.exists():
            npm.chmod(0o755)

    def is_installed(self):
        """Return whether the folder holds the files of the list and version.built, and nothing else."""
        found = {
            str(path.relative_to(self.static)): path.read_bytes() for path in self.static.rglob('*') if path.is_file()
        }
        return found == {
            'version.built': b'0.2.4',
            **{
                path: f'{package} {member}'.encode()
                for package, files in self.files.items()
                for member, path in files.items()
            },
        }


installed = front_end.is_complete(front_end.find_static_folder())
needs_front_end = pytest.mark.skipif(not installed, reason="visdom's front end is not there: make setup had no network")
