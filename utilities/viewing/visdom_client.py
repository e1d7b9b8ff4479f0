"""Send plots, images and texts to a visdom server from a background thread.

A server that hangs, dies or comes back never delays the calling thread.
"""

import html
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np

from utilities.base.errors import one_line
from utilities.base.log import log

RETRY_INTERVAL = 30  # seconds between two attempts to reach the server
CLOSE_TIMEOUT = 5  # seconds without progress after which `close` stops waiting
SEND_INTERVAL = 5  # seconds between two rounds of sending; a round delays the training by some hundredths of a second
PLOT_MARGIN = {'l': 60, 'r': 20, 't': 30, 'b': 55}  # pixels; no title above, since the pane's bar already shows it
MAX_IMAGES = 24  # newest images that stay in memory for a server that comes back


class VisdomClient(threading.Thread):
    """Panes of one visdom environment, which is named after the last two parts of the folder's path.

    A server that starts late, or is restarted, gets all panes again.

    Args:
        folder: folder of the results that are shown.
        server: address of the server, such as 'http://localhost'.
        port: its port.
        consequence: last part of the warning, logged once, that no server answers; '' logs no warning.
    """

    def __init__(self, folder: Path | str, server: str, port: int, consequence: str = '') -> None:
        super().__init__(daemon=True)
        last_parts = '-'.join(Path(folder).resolve().parts[-2:]).lstrip('/')
        self.environment = re.sub(r'[^\w-]', '_', last_parts, flags=re.ASCII)
        self.server, self.port, self.consequence = server, port, consequence
        self.panes, self.lock = {}, threading.Lock()
        self.has_changes, self.is_closing = threading.Event(), threading.Event()
        self.visdom, self.rounds_sent = None, 0
        self.start()

    @property
    def is_connected(self) -> bool:
        """Whether a server answered the newest attempt to reach it."""
        return self.visdom is not None

    def add_point(self, name: str, x: float, values: Sequence[float], log_scale: bool = False, **options: Any) -> None:
        """Add a point to each line of a plot.

        Args:
            name: identifies the pane.
            x: position on the horizontal axis.
            values: one for each line of the plot.
            log_scale: whether the vertical axis is logarithmic.
            options: visdom's `opts`, such as title, xlabel, legend, width and height.
        """
        scale = {'type': 'log', 'exponentformat': 'power', 'dtick': 1} if log_scale else {}
        options['layoutopts'] = {'plotly': {'title': {'text': ''}, 'margin': PLOT_MARGIN, 'yaxis': scale}}
        with self.lock:
            self.panes.setdefault(name, PlotPane(name, options)).points.append((x, *values))
        self.has_changes.set()

    def show_image(self, name: str, draw: Callable[[], np.ndarray], title: str) -> None:
        """Show an image.

        Args:
            name: identifies the pane.
            draw: returns the image, uint8 (rows, columns, 3); called in the background thread once a server answers.
            title: shown in the pane's bar.
        """
        with self.lock:
            self.panes[name] = ImagePane(name, draw, title)
            images = [name for name, pane in self.panes.items() if isinstance(pane, ImagePane)]
            for old in images[:-MAX_IMAGES]:
                if self.panes[old].sent:
                    del self.panes[old]
        self.has_changes.set()

    def show_text(self, name: str, body: str, **options: Any) -> None:
        """Show HTML; options: visdom's `opts`."""
        with self.lock:
            self.panes[name] = TextPane(name, body, options)
        self.has_changes.set()

    def close(self) -> None:
        """Send the remaining changes; stop waiting once the server makes no progress for CLOSE_TIMEOUT seconds."""
        self.is_closing.set()
        self.has_changes.set()
        before = -1
        while self.is_alive() and self.rounds_sent != before:
            before = self.rounds_sent
            self.join(CLOSE_TIMEOUT)

    def run(self) -> None:
        """Connect, send, and connect again after an error, until the client is closed."""
        while True:
            try:
                self.visdom = connect(self.server, self.port, self.environment)
                log.debug(f'visdom: {self.server}:{self.port}/env/{self.environment}')
                self.send_changes()
                return
            except Exception as error:  # visdom raises errors of several types when it cannot reach the server
                self.visdom = None
                for pane in self.list_panes():
                    pane.sent = 0
                self.warn_once(error)
                if self.is_closing.wait(RETRY_INTERVAL):
                    return

    def send_changes(self) -> None:
        """Send every change of the panes until the client is closed; the last round follows `close`."""
        while True:
            is_last_round = self.is_closing.is_set()
            for pane in self.list_panes():
                if pane.send(self.visdom):
                    self.rounds_sent += 1
            if is_last_round:
                return
            self.is_closing.wait(SEND_INTERVAL)
            self.has_changes.wait()
            self.has_changes.clear()

    def list_panes(self) -> list['PlotPane | ImagePane | TextPane']:
        """Return a copy of the list of panes, since another thread may add panes while they are sent."""
        with self.lock:
            return list(self.panes.values())

    def warn_once(self, error: Exception) -> None:
        """Log that no server answers and the consequence, the first time only."""
        if self.consequence:
            log.warning(
                f'warning: no visdom server answers at {self.server}:{self.port} ({type(error).__name__}): '
                f'{self.consequence}'
            )
            self.consequence = ''


class PlotPane:
    """A plot of one or more lines. points: tuples (x, value of each line); the server has the first `sent` of them."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name, self.options, self.points, self.sent = name, options, [], 0

    def send(self, visdom: Any) -> bool:
        """Send the new points and return whether there were any. Raises ConnectionError if the server lost the pane."""
        points = self.points[self.sent :]
        if not points:
            return False
        x, y = np.split(np.array(points, float), [1], axis=1)  # (points, 1), (points, lines)
        x, y = (x[:, 0], y[:, 0]) if y.shape[1] == 1 else (np.broadcast_to(x, y.shape), y)
        update = 'append' if self.sent else None
        if visdom.line(y, x, win=self.name, update=update, opts=self.options) == 'win does not exist':
            raise ConnectionError('the server was restarted and has no panes')
        self.sent += len(points)
        return True


class ImagePane:
    """An image that is drawn before it is sent the first time. sent: 1 once the server has it, else 0."""

    def __init__(self, name: str, draw: Callable[[], np.ndarray], title: str) -> None:
        self.name, self.draw, self.title, self.image, self.sent = name, draw, title, None, 0

    def send(self, visdom: Any) -> bool:
        """Send the image if the server does not have it, and return whether it was sent."""
        if self.sent:
            return False
        if self.draw:
            try:
                self.image = self.draw()
            except Exception as error:  # for example, a file of the case was removed meanwhile
                log.warning(one_line(f'warning: {self.title}: no image in visdom: {error}'))
            self.draw = None  # frees the volumes that the function refers to
        if self.image is not None:
            rows, columns = self.image.shape[:2]
            options = {'title': self.title, 'width': columns + 20, 'height': rows + 50}
            visdom.image(self.image.transpose(2, 0, 1), win=self.name, opts=options)
        self.sent = 1
        return True


class TextPane:
    """HTML text. sent: 1 once the server has it, else 0."""

    def __init__(self, name: str, body: str, options: dict[str, Any]) -> None:
        self.name, self.body, self.options, self.sent = name, body, options, 0

    def send(self, visdom: Any) -> bool:
        """Send the text if the server does not have it, and return whether it was sent."""
        if self.sent:
            return False
        visdom.text(self.body, win=self.name, opts=self.options)
        self.sent = 1
        return True


def format_table(rows: Iterable[Iterable[Any]], header: Sequence[str] = ()) -> str:
    """Format rows of cells as an HTML table; the cells are escaped."""
    lines = [format_row(header, 'th')] if header else []
    lines += [format_row(row, 'td') for row in rows]
    return f'<div style="padding:6px 10px"><table>{"".join(lines)}</table></div>'


def format_row(cells: Iterable[Any], tag: str) -> str:
    """Format one row of an HTML table; tag: 'th' or 'td'."""
    opening = f'<{tag} style="text-align:left;padding:1px 12px 1px 0">'
    return '<tr>' + ''.join(f'{opening}{html.escape(one_line(cell))}</{tag}>' for cell in cells) + '</tr>'


def show_parameters(client: VisdomClient, parameters: dict[str, Any]) -> None:
    """Show the parameters of a run as a table."""
    client.show_text('parameters', format_table(parameters.items()), title='parameters', width=420, height=380)


def connect(server: str, port: int, environment: str) -> Any:
    """Return a client of the visdom package that sends its panes to `environment`.

    Raises OSError, or another error of the visdom package, if the server cannot be reached.
    """
    address = urlparse(server if '://' in server else f'http://{server}')
    for proxy in ('no_proxy', 'NO_PROXY'):  # the proxy of a closed network cannot reach a server on this machine
        os.environ[proxy] = ','.join(filter(None, (os.environ.get(proxy), address.hostname)))
    socket.create_connection((address.hostname, port), timeout=2).close()
    from visdom import Visdom

    logging.getLogger('visdom').setLevel(logging.ERROR)  # visdom warns that it receives no events, which we do not want
    return Visdom(
        f'{address.scheme}://{address.hostname}',
        port=port,
        env=environment,
        use_incoming_socket=False,
        raise_exceptions=True,
    )
