"""Run visdom's server for this machine alone, and save its environments."""

import asyncio
import contextlib
import io
import json
import logging
import signal
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from visdom.server.app import Application, tornado_settings
from visdom.server.build import download_scripts
from visdom.server.defaults import DEFAULT_ENV_PATH
from visdom.utils.server_utils import LazyEnvData

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError, one_line
from utilities.base.log import log
from utilities.viewing.visdom_front_end import find_static_folder, install, is_complete

FOLDER = Path(DEFAULT_ENV_PATH)  # where visdom keeps its environments
SAVE_INTERVAL = 60  # seconds
MAX_REQUEST_BYTES = 2**30  # as in visdom itself
PROBE_ADDRESS = 'https://unpkg.com/jquery@3.1.1/dist/jquery.min.js'  # one of the files that visdom downloads itself


def install_front_end() -> None:
    """Install visdom's front end from the npm registry, or else by visdom's own download from other sites.

    Raises InputError if neither works.
    """
    try:
        install()
    except (InputError, OSError) as error:
        try:
            urlopen(PROBE_ADDRESS, timeout=10).close()  # visdom's download has no timeout
            with contextlib.redirect_stdout(io.StringIO()):
                download_scripts()
        except (OSError, HTTPException):
            pass
        if not is_complete(find_static_folder()):
            raise InputError(
                f'{one_line(error)}; without network: run make setup on a machine that has one, and copy its '
                f'{find_static_folder()} to the same place here'
            ) from None


async def serve(port: int) -> int:
    """Serve until a signal asks the server to end; return the number of the signal.

    Raises InputError if the port cannot be used.
    """
    for noisy in ('tornado.general', 'tornado.access'):  # they warn of style sheets and icons that visdom does not have
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    tornado_settings['autoreload'] = False  # else the server restarts whenever a file of this repository is edited
    application = Application(port=port, env_path=DEFAULT_ENV_PATH)
    try:
        application.listen(port, address='127.0.0.1', max_buffer_size=MAX_REQUEST_BYTES)
    except OSError as error:
        raise InputError(
            f'port {port}: {error.strerror}; end what uses it (another visdom?), or set visdom_port'
        ) from None
    signals, saved_hashes = asyncio.Queue(), {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    log.info(f'visdom: open http://localhost:{port}; to end it: Ctrl-C')
    while True:
        try:
            number = await asyncio.wait_for(signals.get(), SAVE_INTERVAL)
        except TimeoutError:
            number = None
        save_environments(application.state, saved_hashes)
        if number:
            return number


def save_environments(environments: dict[str, Any], saved_hashes: dict[str, int]) -> None:
    """Write the environments that changed since they were last written.

    Args:
        environments: {name: content}, as the server holds them.
        saved_hashes: {name: hash of the text that was last written}; updated.
    """
    for name, environment in environments.items():
        if isinstance(environment, LazyEnvData):
            environment = environment._raw_dict
        if environment is None:  # on disk, and not loaded since nobody opened it
            continue
        text = json.dumps(environment)
        if saved_hashes.get(name) != hash(text):
            try:
                with atomic_write(FOLDER / f'{name}.json') as part:
                    part.write_text(text)
                saved_hashes[name] = hash(text)
            except (OSError, ValueError) as error:  # ValueError: a name that no file can have
                log.warning(f'warning: the plots of {one_line(name)} are not saved: {one_line(error)}')
