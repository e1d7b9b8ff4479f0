"""Start and end a script: settings, signals, one line for what a user can mend, the exit status, the last lines."""

import os
import re
import shlex
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

from utilities.base import distributed
from utilities.base.errors import NO_ROOM, InputError, one_line
from utilities.base.folder_lock import remove_partial_files
from utilities.base.log import log
from utilities.run.settings import read_settings


def report_results(done, failures, wrote, following):
    """Last lines of a script: what was written, what failed and why, which command comes next. Returns the exit status."""
    if done:
        log.info(one_line(f'{done} case{"s" * (done != 1)} written to {wrote}'))
    for name, why in failures:
        log.info(one_line(f'failed: {name}: {why}'))
    if done:
        print_next(following)
    return 1 if failures or not done else 0


def print_next(command):
    """The command that comes next, with this run's own overrides."""
    log.info(one_line(f'next: {shlex.join([*command.split(), *sys.argv[1:]])}'))


class Stopped(BaseException):
    """A signal asked the run to end."""


def run_script(main, doc, under_torchrun=False):
    """Call main(settings) as a script: its return value is the exit status; what a user can mend is one line and status 1.

    under_torchrun: may several of it work together, started by torchrun?
    SIGTERM, SIGHUP (unless ignored, as under nohup) and Ctrl-C end it with one line and status 128 + the signal's number.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace', line_buffering=True)  # no file name is a reason to stop
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    para = SimpleNamespace()
    try:
        para = read_settings(sys.argv[1:], doc)
        if distributed.world_size() > 1 and not under_torchrun:
            raise InputError('torchrun is for train_ds.py and val.py; start this script with python')
        distributed.initialise(para.gpu)
        status = main(para)
        distributed.finish()
        sys.exit(status)
    except InputError as error:
        fail(error)
    except OSError as error:
        fail(describe_os_error(error, para))
    except MemoryError as error:
        fail(f'out of memory: {error}')
    except (Stopped, KeyboardInterrupt) as stopped:
        end_by_signal(stopped.args[0] if stopped.args else signal.SIGINT)
    except RuntimeError as error:
        if distributed.is_lost_rank(error):
            fail('another rank of this run was lost, see what it says; torchrun starts all again with --max-restarts')
        if 'out of memory' not in str(error):
            raise
        fail(
            'the GPU is out of memory: lower batch_size, window_batch, size or down_scale, set checkpointing=True or precision=bf16, '
            'or name another gpu'
        )


def fail(why):
    if distributed.first_to_report(f'error: {why}'):
        log.error(one_line(f'error: {why}'))
    sys.exit(1)


def stop(number, _):
    raise Stopped(signal.Signals(number))


def end_by_signal(number):
    """End the process now: threads at work on a case are not waited for, and what they were writing is removed."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    log.warning(f'stopped by {number.name}; what is finished is kept')
    remove_partial_files()
    os._exit(128 + number)


def describe_os_error(error, para):
    """What went wrong with which file, and, where one does, which parameter holds its folder."""
    if error.filename is None:
        return error.strerror or error
    file = Path(re.sub(r'\.part-\d+-\d+-', '', os.fsdecode(error.filename)))
    folders = {name: Path(value) for name, value in vars(para).items() if name.endswith(('_path', '_dir')) and value}
    holders = [name for name, folder in folders.items() if file.absolute().is_relative_to(folder.absolute())]
    nearest = max(holders, key=lambda name: len(folders[name].absolute().parts), default=None)
    more = f'; make room, or set {nearest} to a place with more' if error.errno in NO_ROOM else f'; see {nearest}'
    return f'{file}: {error.strerror}{more if nearest else ""}'
