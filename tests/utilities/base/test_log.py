"""Records go to the terminal and, with the time, to a file; progress bars go to terminals only."""

import errno
import io
import logging
import re
import sys

import pytest

from utilities.base import log as log_module
from utilities.base.log import FileHandler, log, log_to_file, progress_bar


@pytest.fixture
def new_file_handler(monkeypatch):
    """A FileHandler without the records and the file of earlier tests."""
    file = FileHandler()
    log.removeHandler(log_module.file_handler)
    log.addHandler(file)
    monkeypatch.setattr(log_module, 'file_handler', file)
    yield file
    log.removeHandler(file)
    log.addHandler(log_module.file_handler)


def test_streams_and_file(new_file_handler, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['/somewhere/val.py', '--size=16', '--pred_path=a\nb'])
    log.info('before the folder is known')
    log_to_file(tmp_path / 'val.log')
    log.warning('warning: odd')
    log.error('error: Köln')
    log.debug('volume-1, 1 of 2')
    out, err = capsys.readouterr()
    assert out == 'before the folder is known\n'
    # Standard error is no terminal, so a progress bar would not show the last record.
    assert err.splitlines()[0] == 'warning: odd' and err.splitlines()[-1] == 'volume-1, 1 of 2'
    lines = (tmp_path / 'val.log').read_text().splitlines()
    texts = [re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (\w+) +(.*)', line).groups() for line in lines]
    assert texts == [
        ('START', "val.py --size=16 '--pred_path=a\\nb'"),
        ('INFO', 'before the folder is known'),
        ('WARNING', 'warning: odd'),
        ('ERROR', 'error: Köln'),
        ('DEBUG', 'volume-1, 1 of 2'),
    ]


def test_a_second_run_appends(new_file_handler, tmp_path):
    (tmp_path / 'val.log').write_text('first run\n')
    log_to_file(tmp_path / 'val.log')
    log.info('second run')
    lines = (tmp_path / 'val.log').read_text().splitlines()
    assert lines[0] == 'first run' and lines[-1].endswith('second run') and len(lines) == 3


def test_a_log_that_cannot_be_written_is_a_warning(new_file_handler, tmp_path, capsys):
    (tmp_path / 'val.log').mkdir()
    log_to_file(tmp_path / 'val.log')
    log.info('next record')
    out, err = capsys.readouterr()
    assert err.startswith('warning: ') and 'Is a directory' in err and 'next record' in out


def test_a_full_disk_ends_the_log_file_but_not_the_run(new_file_handler, tmp_path, capsys):
    class FullDisk(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, 'No space left on device')

    log_to_file(tmp_path / 'val.log')
    new_file_handler.file = FullDisk()
    log.info('first')
    log.info('second')
    assert capsys.readouterr() == ('first\nsecond\n', '')


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize('stream, bar_shown', [(io.StringIO, False), (Terminal, True)])
def test_progress_bars_appear_on_terminals_only(stream, bar_shown, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', stream())
    with progress_bar(3, 'prediction', 'case', 1) as bar:
        bar.update()
        logging.getLogger('liver').debug('volume-1, 1 of 2')
    text = sys.stderr.getvalue()
    assert ('prediction' in text and '\r' in text) == bar_shown
    assert ('volume-1, 1 of 2' in text) != bar_shown
