"""Plots, pictures and texts in visdom, from a thread of their own: a server that hangs, dies or comes back never holds the work up."""

import html
import logging
import os
import re
import socket
import threading
from pathlib import Path
from urllib.parse import urlparse

import numpy as np

from utilities.base.errors import one_line
from utilities.base.log import log

RETRY = 30  # seconds until a server that did not answer is tried again
PATIENCE = 5  # seconds that `close` waits for a server that takes nothing
PAUSE = 5  # seconds between two rounds of sending: each takes some hundredths of one from the work
MARGIN = {
    'l': 60,
    'r': 20,
    't': 30,
    'b': 55,
}  # without a title: the buttons lie over it, and it is in the window's bar as well
PICTURES = 24  # newest pictures kept for a server that returns


class Board(threading.Thread):
    """Windows of one visdom environment, named after the folder of the results: the last two parts of its path.

    A server that comes late, or comes back, gets all of them again. Without one, `told` is logged as a warning, once; '' is silent.
    """

    def __init__(self, folder, server, port, told=''):
        super().__init__(daemon=True)
        self.environment = re.sub(
            r'[^\w-]', '_', '-'.join(Path(folder).resolve().parts[-2:]).lstrip('/'), flags=re.ASCII
        )
        self.server, self.port, self.told = server, port, told
        self.windows, self.lock, self.news = {}, threading.Lock(), threading.Event()
        self.ended, self.visdom, self.sent = threading.Event(), None, 0
        self.start()

    def line(self, name, x, values, log_scale=False, **options):
        """Add a point, or one for each line of the window: `values` a list."""
        scale = {'type': 'log', 'exponentformat': 'power', 'dtick': 1} if log_scale else {}
        options['layoutopts'] = {'plotly': {'title': {'text': ''}, 'margin': MARGIN, 'yaxis': scale}}
        with self.lock:
            self.windows.setdefault(name, Lines(name, options)).points.append((x, *values))
        self.news.set()

    def picture(self, name, draw, caption):
        """Show what draw() returns, uint8 (rows, columns, 3); it is called in this thread, once a server is there."""
        with self.lock:
            self.windows[name] = Picture(name, draw, caption)
            pictures = [name for name, window in self.windows.items() if isinstance(window, Picture)]
            for old in pictures[:-PICTURES]:
                if self.windows[old].done:
                    del self.windows[old]
        self.news.set()

    def text(self, name, body, **options):
        """Show HTML."""
        with self.lock:
            self.windows[name] = Text(name, body, options)
        self.news.set()

    def close(self):
        """Wait while the server still takes what is left."""
        self.ended.set()
        self.news.set()
        sent = -1
        while self.is_alive() and self.sent != sent:
            sent = self.sent
            self.join(PATIENCE)

    def run(self):
        while True:
            try:
                self.visdom = connect(self.server, self.port, self.environment)
                log.debug(f'visdom: {self.server}:{self.port}/env/{self.environment}')
                self.follow()
                return
            except Exception as error:  # visdom wraps what its client meets in several types
                self.visdom = None
                for window in self.all():
                    window.done = 0
                if self.told:
                    log.warning(
                        f'warning: no visdom server answers at {self.server}:{self.port} ({type(error).__name__}): {self.told}'
                    )
                    self.told = ''
                if self.ended.wait(RETRY):
                    return

    def follow(self):
        """Send what comes, the last of it after `close` too."""
        while True:
            last = self.ended.is_set()
            for window in self.all():
                if window.send(self.visdom, self.environment):
                    self.sent += 1
            if last:
                return
            self.ended.wait(PAUSE)
            self.news.wait()
            self.news.clear()

    def all(self):
        with self.lock:
            return list(self.windows.values())


class Lines:
    """Points (x, y of each line), of which the first `done` are shown."""

    def __init__(self, name, options):
        self.name, self.options, self.points, self.done = name, options, [], 0

    def send(self, visdom, environment):
        points = self.points[self.done :]
        if not points:
            return False
        x, y = np.split(np.array(points, float), [1], 1)  # (points, 1), (points, lines)
        x, y = (x[:, 0], y[:, 0]) if y.shape[1] == 1 else (np.broadcast_to(x, y.shape), y)
        update = 'append' if self.done else None
        if visdom.line(y, x, win=self.name, env=environment, update=update, opts=self.options) == 'win does not exist':
            raise ConnectionError('the server was started anew')
        self.done += len(points)
        return True


class Picture:
    def __init__(self, name, draw, caption):
        self.name, self.draw, self.caption, self.array, self.done = name, draw, caption, None, 0

    def send(self, visdom, environment):
        if self.done:
            return False
        if self.draw:
            try:
                self.array = self.draw()
            except Exception as error:  # a case whose file is gone, say
                log.warning(one_line(f'warning: {self.caption}: no picture: {error}'))
            self.draw = None  # and with it what it holds
        if self.array is not None:
            rows, columns = self.array.shape[:2]
            visdom.image(
                self.array.transpose(2, 0, 1),
                win=self.name,
                env=environment,
                opts={'title': self.caption, 'width': columns + 20, 'height': rows + 50},
            )
        self.done = 1
        return True


class Text:
    def __init__(self, name, body, options):
        self.name, self.body, self.options, self.done = name, body, options, 0

    def send(self, visdom, environment):
        if self.done:
            return False
        visdom.text(self.body, win=self.name, env=environment, opts=self.options)
        self.done = 1
        return True


def table(rows, head=()):
    """HTML of rows of cells, which are escaped."""

    def line(cells, tag):
        return (
            '<tr>'
            + ''.join(
                f'<{tag} style="text-align:left;padding:1px 12px 1px 0">{html.escape(one_line(cell))}</{tag}>'
                for cell in cells
            )
            + '</tr>'
        )

    lines = [*([line(head, 'th')] if head else []), *(line(row, 'td') for row in rows)]
    return f'<div style="padding:6px 10px"><table>{"".join(lines)}</table></div>'


def show_parameters(board, parameters):
    board.text('parameters', table(parameters.items()), title='parameters', width=420, height=380)


def connect(server, port, environment):
    """visdom's client. Raises whatever hinders it."""
    address = urlparse(server if '://' in server else f'http://{server}')
    for proxy in ('no_proxy', 'NO_PROXY'):  # a closed network's proxy knows no server of this machine
        os.environ[proxy] = ','.join(filter(None, (os.environ.get(proxy), address.hostname)))
    socket.create_connection((address.hostname, port), timeout=2).close()
    from visdom import Visdom

    logging.getLogger('visdom').setLevel(logging.ERROR)  # it warns of what is meant so
    return Visdom(
        f'{address.scheme}://{address.hostname}',
        port=port,
        env=environment,
        use_incoming_socket=False,
        raise_exceptions=True,
    )
