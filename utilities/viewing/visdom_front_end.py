"""Install the front end of visdom's server (JavaScript, style sheets, fonts): with it, the server needs no internet."""

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

# {NAME@VERSION: {'integrity': hash of the archive, 'files': {path in the archive: path below visdom's folder static}}}
PACKAGE_LIST = Path(__file__).with_suffix('.json')
REGISTRY = 'https://registry.npmjs.org'


def install(static: Path | None = None) -> bool:
    """Download the missing files of visdom's folder `static`; return False, without network, if none is missing.

    Each file appears whole or not at all. The last one is version.built, by which visdom recognises a complete folder.
    Raises InputError if a package cannot be downloaded or has another hash than in the list, and OSError.
    """
    static = static or find_static_folder()
    if is_complete(static):
        return False
    packages = json.loads(PACKAGE_LIST.read_text())
    with tempfile.TemporaryDirectory() as folder:
        if npm := shutil.which('npm'):
            download_by_npm(npm, list(packages), folder)
        else:
            download_archives(list(packages), folder)
        for package, entry in packages.items():
            unpack(package, Path(folder) / f'{package.replace("@", "-")}.tgz', static, **entry)
    with atomic_write(static / 'version.built') as part:
        part.write_text(version('visdom'))
    return True


def find_static_folder() -> Path:
    """Return the folder in which the installed visdom looks for its front end."""
    return Path(importlib.util.find_spec('visdom').origin).parent / 'static'


def is_complete(static: Path) -> bool:
    """Return whether all files of the list exist, and version.built names the installed visdom."""
    built = static / 'version.built'
    if not built.exists() or built.read_text().strip() != version('visdom'):
        return False
    packages = json.loads(PACKAGE_LIST.read_text()).values()
    return all((static / path).exists() for entry in packages for path in entry['files'].values())


def download_by_npm(npm: str, packages: list[str], folder: str) -> None:
    """Download NAME-VERSION.tgz for each NAME@VERSION into a folder by npm, which knows a closed network's mirrors.

    Raises InputError with npm's own reason.
    """
    command = [
        npm,
        'pack',
        '--ignore-scripts',
        '--loglevel=error',
        '--prefer-offline',
        '--fetch-retries=1',  # the default of two retries takes minutes where there is no network
        '--fetch-retry-mintimeout=1000',
        '--fetch-timeout=60000',
        *packages,
    ]
    finished = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace'
    )
    if finished.returncode:
        lines = [line.removeprefix('npm error ') for line in finished.stderr.splitlines()]
        reasons = [line for line in lines if not line.startswith(('code ', 'syscall ', 'errno '))]
        reason = reasons[0] if reasons else f'status {finished.returncode}'
        raise InputError(f"visdom's front end: npm pack: {one_line(reason)}")


def download_archives(packages: list[str], folder: str) -> None:
    """Download NAME-VERSION.tgz for each NAME@VERSION into a folder from REGISTRY. Raises InputError."""
    for package in packages:
        name, _, number = package.rpartition('@')
        address = f'{REGISTRY}/{name}/-/{name}-{number}.tgz'
        try:
            with urlopen(address, timeout=30) as answer:
                (Path(folder) / f'{name}-{number}.tgz').write_bytes(answer.read())
        except OSError as error:
            raise InputError(f"visdom's front end: {address}: {one_line(error)}") from None


def unpack(package: str, archive: Path, static: Path, integrity: str, files: dict[str, str]) -> None:
    """Write the listed files of a package and nothing else from its archive.

    Args:
        package: NAME@VERSION, for error messages.
        archive: the .tgz file.
        static: visdom's folder.
        integrity: the hash that the archive must have, as npm writes it.
        files: {path in the archive: path below `static`}.

    Raises:
        InputError: the archive has another hash.
    """
    data = archive.read_bytes()
    found = f'sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}'
    if found != integrity:
        raise InputError(f'{package}: wanted the archive {integrity:.20}..., got {found:.20}... ({len(data)} bytes)')
    with tarfile.open(archive, 'r|gz') as members:
        for member in members:
            path = files.get(member.name.removeprefix('package/'))
            if path and member.isfile():
                with atomic_write(static / path) as part:
                    part.write_bytes(members.extractfile(member).read())
