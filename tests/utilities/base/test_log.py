"""What is said goes to the terminal and, with the time, into a file; no carriage return reaches a file."""

import errno
import io
import logging
import re
import sys

import pytest

from utilities.base import log as log_module
from utilities.base.log import FileHandler, log, log_to_file, progress_bar


@pytest.fixture
def fresh(monkeypatch):
    """A log file of this test's own, none that earlier tests opened or filled."""
    file = FileHandler()
    log.removeHandler(log_module.file_handler)
    log.addHandler(file)
    monkeypatch.setattr(log_module, 'file_handler', file)
    yield file
    log.removeHandler(file)
    log.addHandler(log_module.file_handler)


def test_streams_and_file(fresh, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['/somewhere/val.py', '--size=16', '--pred_path=a\nb'])
    log.info('before the folder is known')
    log_to_file(tmp_path / 'val.log')
    log.warning('warning: odd')
    log.error('error: Köln')
    log.debug('volume-1, 1 of 2')
    out, err = capsys.readouterr()
    assert out == 'before the folder is known\n'
    assert (
        err.splitlines()[0] == 'warning: odd' and err.splitlines()[-1] == 'volume-1, 1 of 2'
    )  # no terminal: no bar would show it
    lines = (tmp_path / 'val.log').read_text().splitlines()
    texts = [re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (\w+) +(.*)', line).groups() for line in lines]
    assert texts == [
        ('START', "val.py --size=16 '--pred_path=a\\nb'"),
        ('INFO', 'before the folder is known'),
        ('WARNING', 'warning: odd'),
        ('ERROR', 'error: Köln'),
        ('DEBUG', 'volume-1, 1 of 2'),
    ]


def test_a_second_run_appends(fresh, tmp_path):
    (tmp_path / 'val.log').write_text('of yesterday\n')
    log_to_file(tmp_path / 'val.log')
    log.info('of today')
    lines = (tmp_path / 'val.log').read_text().splitlines()
    assert lines[0] == 'of yesterday' and lines[-1].endswith('of today') and len(lines) == 3


def test_a_log_that_cannot_be_written_is_a_warning(fresh, tmp_path, capsys):
    (tmp_path / 'val.log').mkdir()
    log_to_file(tmp_path / 'val.log')
    log.info('goes on')
    out, err = capsys.readouterr()
    assert err.startswith('warning: ') and 'Is a directory' in err and 'goes on' in out


def test_a_full_disk_costs_the_log_alone(fresh, tmp_path, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, 'No space left on device')

    log_to_file(tmp_path / 'val.log')
    fresh.file = Full()
    log.info('first')
    log.info('second')
    assert capsys.readouterr() == ('first\nsecond\n', '')


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize('stream, bar_shown', [(io.StringIO, False), (Terminal, True)])
def test_bars_on_terminals_alone(stream, bar_shown, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', stream())
    with progress_bar(3, 'prediction', 'case', 1) as bar:
        bar.update()
        logging.getLogger('liver').debug('volume-1, 1 of 2')
    text = sys.stderr.getvalue()
    assert ('prediction' in text and '\r' in text) == bar_shown
    assert ('volume-1, 1 of 2' in text) != bar_shown
