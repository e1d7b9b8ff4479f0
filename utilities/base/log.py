"""What a run says: on the terminal as it is, and in a file next to its results with the time. Progress bars on a terminal alone.

log.info goes to standard output, log.warning and log.error to standard error; log.debug is for the file, and for standard error where no
bar can be shown.
"""

import logging
import shlex
import sys
from pathlib import Path

from tqdm import tqdm

from utilities.base.errors import one_line

log = logging.getLogger('liver')
MAX_WAITING_RECORDS = 1000  # records that wait for a file


class Terminal(logging.Handler):
    """Lines that leave the bars whole."""

    def __init__(self):
        super().__init__()
        self.before = ''  # each line

    def emit(self, record):
        if record.levelno > logging.DEBUG or not sys.stderr.isatty():
            tqdm.write(
                self.before + record.getMessage(), file=sys.stdout if record.levelno == logging.INFO else sys.stderr
            )


class File(logging.Handler):
    """Waits for its file, then appends to it. A disk that is full costs the log, not the run."""

    def __init__(self):
        super().__init__()
        self.setFormatter(logging.Formatter('%(asctime)s %(levelname)-7s %(message)s'))
        self.waiting, self.file = [], None

    def emit(self, record):
        if self.waiting is not None:
            self.waiting = [*self.waiting[-MAX_WAITING_RECORDS:], record]
        elif self.file:
            try:
                self.file.write(self.format(record) + '\n')
            except OSError:
                self.file = None

    def open(self, path):
        command = one_line(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
        waiting, self.waiting = (
            [logging.makeLogRecord({'msg': command, 'levelname': 'START'}), *(self.waiting or [])],
            None,
        )
        try:
            self.file = open(path, 'a', encoding='utf-8', errors='backslashreplace', buffering=1)
        except OSError as error:
            log.warning(f'warning: {path}: {error.strerror}; going on without this log')
        for record in waiting:
            self.emit(record)


terminal, file = Terminal(), File()
log.setLevel(logging.DEBUG)
log.propagate = False
log.addHandler(terminal)
log.addHandler(file)


def log_to_file(path):
    """Append what was said so far, and from now on, to this file. Its folder exists; one that cannot be written is a warning."""
    if file in log.handlers:
        file.open(path)


def log_warnings_only(rank):
    """This process is another than the first of its run, and says nothing but what goes wrong, without bars and file."""
    terminal.before = f'rank {rank}: '
    terminal.setLevel(logging.WARNING)
    log.removeHandler(file)


def progress_bar(total, stage, unit, done=0):
    """A tqdm bar with the time left; none where standard error is no terminal, since a file holds no line that is written over."""
    return tqdm(
        total=total,
        initial=done,
        desc=stage,
        unit=unit,
        file=sys.stderr,
        disable=True if terminal.before else None,
        dynamic_ncols=True,
    )
