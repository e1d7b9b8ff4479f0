"""The log of a run: on the terminal as it is, and with the time in a file beside the results.

log.info goes to standard output, log.warning and log.error to standard error. log.debug goes to the file, and to
standard error if that is no terminal, where no progress bar can be shown. Scripts call set_up_log(); without it,
records are handled as Python's logging does by default.
"""

import logging
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from utilities.base.errors import one_line

log = logging.getLogger('liver')
MAX_WAITING_RECORDS = 1000  # records kept in memory until the log file is known


class TerminalHandler(logging.Handler):
    """Print records without breaking the progress bars. `prefix` stands before every record."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = ''

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.DEBUG and sys.stderr.isatty():
            return
        stream = sys.stdout if record.levelno == logging.INFO else sys.stderr
        tqdm.write(self.prefix + record.getMessage(), file=stream)


class FileHandler(logging.Handler):
    """Append records to a file; keep them in memory until the file is opened.

    A disk that is full ends the writing of the log, not the run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter('%(asctime)s %(levelname)-7s %(message)s'))
        self.waiting = []  # None as soon as the file was opened
        self.file = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.waiting is not None:
            self.waiting = [*self.waiting[-MAX_WAITING_RECORDS:], record]
        elif self.file:
            try:
                self.file.write(self.format(record) + '\n')
            except OSError:
                self.file = None

    def open(self, path: Path | str) -> None:
        """Start writing to a file: first the command of this run, then all waiting records."""
        command = one_line(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
        records = [logging.makeLogRecord({'msg': command, 'levelname': 'START'}), *(self.waiting or [])]
        self.waiting = None
        try:
            self.file = open(path, 'a', encoding='utf-8', errors='backslashreplace', buffering=1)
        except OSError as error:
            log.warning(f'warning: {path}: {error.strerror}; going on without this log')
        for record in records:
            self.emit(record)


terminal_handler, file_handler = TerminalHandler(), FileHandler()
thread_records = threading.local()  # `captured`: the records of a thread that is inside capture_log()


def set_up_log() -> None:
    """Send the log to the terminal, and to the file that log_to_file() names later."""
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(terminal_handler)
    log.addHandler(file_handler)


def log_to_file(path: Path | str) -> None:
    """Append all records of this run, earlier ones too, to a file in an existing folder.

    A file that cannot be written is a warning.
    """
    if file_handler in log.handlers:
        file_handler.open(path)


def log_warnings_only(rank: int) -> None:
    """Print only warnings and errors of this process, with its rank, and no progress bar.

    For the ranks that are not the main process.
    """
    terminal_handler.prefix = f'rank {rank}: '
    terminal_handler.setLevel(logging.WARNING)
    log.removeHandler(file_handler)


@contextmanager
def capture_log() -> Iterator[list[tuple[int, str]]]:
    """Collect the records of this thread as (level, text) in the list that is yielded, instead of writing them.

    The log of other threads is written as before. The captured records can be sent to another process, which logs them.
    """
    log.setLevel(logging.DEBUG)
    log.addFilter(capture_record)  # Adding it again has no effect.
    thread_records.captured = []
    try:
        yield thread_records.captured
    finally:
        del thread_records.captured


def capture_record(record: logging.LogRecord) -> bool:
    """Return whether a record is to be written now: False, after storing it, if its thread is inside capture_log()."""
    captured = getattr(thread_records, 'captured', None)
    if captured is None:
        return True
    captured.append((record.levelno, record.getMessage()))
    return False


def progress_bar(total: int, stage: str, unit: str, done: int = 0) -> tqdm:
    """Return a tqdm bar with the remaining time, which shows nothing if standard error is no terminal.

    Args:
        total: the number of units.
        stage: the text before the bar.
        unit: what is counted, 'case' or 'step'.
        done: the units that are finished already.
    """
    return tqdm(
        total=total,
        initial=done,
        desc=stage,
        unit=unit,
        file=sys.stderr,
        disable=True if terminal_handler.prefix else None,  # None: tqdm looks whether the file is a terminal
        dynamic_ncols=True,
    )
