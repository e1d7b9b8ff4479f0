"""The front end of visdom's server (JavaScript, style sheets, fonts): fetch it, so that the server starts without internet."""

import base64
import hashlib
import importlib.util
import json
import shutil
import subprocess
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError, one_line

LIST = Path(__file__).with_suffix('.json')
REGISTRY = 'https://registry.npmjs.org'


def install(static=None):
    """Complete visdom's folder `static`; returns False if it was, and then asks no network.

    Each file appears whole or not at all, and version.built, by which visdom knows that all is there, last.
    Raises InputError where a package is out of reach or its archive is not the one of the list, and OSError as files do.
    """
    static = static or find_static_folder()
    if is_complete(static):
        return False
    packages = json.loads(LIST.read_text())
    with tempfile.TemporaryDirectory() as folder:
        fetch(packages, folder)
        for package, entry in packages.items():
            unpack(package, Path(folder) / f'{package.replace("@", "-")}.tgz', static, **entry)
    with atomic_write(static / 'version.built') as part:
        part.write_text(version('visdom'))
    return True


def find_static_folder():
    return Path(importlib.util.find_spec('visdom').origin).parent / 'static'


def is_complete(static):
    """Whether all files are there, and visdom knows."""
    built = static / 'version.built'
    places = [place for entry in json.loads(LIST.read_text()).values() for place in entry['files'].values()]
    return (
        built.exists()
        and built.read_text().strip() == version('visdom')
        and all((static / place).exists() for place in places)
    )


def fetch(packages, folder):
    """NAME-VERSION.tgz of each NAME@VERSION into a folder: by npm, which knows a closed network's mirrors and proxies, or plainly."""
    if npm := shutil.which('npm'):
        # npm's own two more tries take minutes where there is no network
        command = [
            npm,
            'pack',
            '--ignore-scripts',
            '--loglevel=error',
            '--prefer-offline',
            '--fetch-retries=1',
            '--fetch-retry-mintimeout=1000',
            '--fetch-timeout=60000',
            *packages,
        ]
        packed = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace'
        )
        if packed.returncode:
            said = [line.removeprefix('npm error ') for line in packed.stderr.splitlines()]
            why = next(
                (line for line in said if not line.startswith(('code ', 'syscall ', 'errno '))),
                f'status {packed.returncode}',
            )
            raise InputError(f"visdom's front end: npm pack: {one_line(why)}")
        return
    for package in packages:
        name, _, number = package.rpartition('@')
        address = f'{REGISTRY}/{name}/-/{name}-{number}.tgz'
        try:
            with urlopen(address, timeout=30) as answer:
                (Path(folder) / f'{name}-{number}.tgz').write_bytes(answer.read())
        except OSError as error:
            raise InputError(f"visdom's front end: {address}: {one_line(error)}") from None


def unpack(package, archive, static, integrity, files):
    """Write a package's `files` (in its archive -> below `static`), if the archive is the wanted one; nothing else in it is looked at."""
    data = archive.read_bytes()
    found = f'sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}'
    if found != integrity:
        raise InputError(f'{package}: wanted the archive {integrity:.20}..., got {found:.20}... ({len(data)} bytes)')
    with tarfile.open(archive, 'r|gz') as members:
        for member in members:
            place = files.get(member.name.removeprefix('package/'))
            if place and member.isfile():
                with atomic_write(static / place) as part:
                    part.write_bytes(members.extractfile(member).read())
