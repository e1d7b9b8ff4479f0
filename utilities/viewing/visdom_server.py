"""visdom's server for this machine alone: its front end, its loop, and the saving of its environments."""

import asyncio
import contextlib
import io
import json
import logging
import signal
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from visdom.server.app import Application, tornado_settings
from visdom.server.build import download_scripts
from visdom.server.defaults import DEFAULT_ENV_PATH
from visdom.utils.server_utils import LazyEnvData

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError, one_line
from utilities.base.log import log
from utilities.viewing.visdom_front_end import find_static_folder, install, is_complete

FOLDER = Path(DEFAULT_ENV_PATH)
SAVE_EVERY = 60  # seconds
LARGEST = 2**30  # bytes of a request, as in visdom


def get_front_end():
    """Complete visdom's front end, by visdom's own download from several web sites where the npm registry is out of reach."""
    try:
        install()
    except (InputError, OSError) as error:
        try:
            urlopen(
                'https://unpkg.com/jquery@3.1.1/dist/jquery.min.js', timeout=10
            ).close()  # visdom itself would wait for ever
            with contextlib.redirect_stdout(io.StringIO()):
                download_scripts()
        except (OSError, HTTPException):
            pass
        if not is_complete(find_static_folder()):
            raise InputError(
                f'{one_line(error)}; without network: run make setup on a machine that has one, and copy its '
                f'{find_static_folder()} to the same place here'
            ) from None


async def serve(port):
    """Serve until a signal asks to end; returns its number."""
    for noisy in ('tornado.general', 'tornado.access'):  # style sheets and icons that are not there
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    tornado_settings['autoreload'] = False  # an edited file of this repository is no reason to start anew
    application = Application(port=port, env_path=DEFAULT_ENV_PATH)
    try:
        application.listen(port, address='127.0.0.1', max_buffer_size=LARGEST)
    except OSError as error:
        raise InputError(
            f'port {port}: {error.strerror}; end what uses it (another visdom?), or set visdom_port'
        ) from None
    signals, saved = asyncio.Queue(), {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    log.info(f'visdom: open http://localhost:{port}; to end it: Ctrl-C')
    while True:
        try:
            number = await asyncio.wait_for(signals.get(), SAVE_EVERY)
        except TimeoutError:
            number = None
        save(application.state, saved)
        if number:
            return number


def save(state, saved):
    """Write the environments of a server's `state` that changed since; `saved`: environment -> hash of the text last written."""
    for name, environment in state.items():
        if isinstance(environment, LazyEnvData):
            environment = environment._raw_dict
        if environment is None:  # a file that nobody asked for yet
            continue
        text = json.dumps(environment)
        if saved.get(name) != hash(text):
            try:
                with atomic_write(FOLDER / f'{name}.json') as part:
                    part.write_text(text)
                saved[name] = hash(text)
            except (OSError, ValueError) as error:  # ValueError: a name that no file can have
                log.warning(f'warning: the plots of {one_line(name)} are not saved: {one_line(error)}')
