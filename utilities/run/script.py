"""Start and end a script: settings, signals, one line for an error that the user can correct, the exit status."""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import NoReturn

from utilities.base import distributed
from utilities.base.errors import DISK_FULL_ERRORS, InputError, one_line
from utilities.base.folder_lock import remove_partial_files
from utilities.base.log import log, set_up_log
from utilities.run.settings import read_settings


class StoppedBySignal(BaseException):
    """SIGTERM or SIGHUP asked the script to end; the argument is the signal's number."""


def run_script(main: Callable[[SimpleNamespace], int | None], doc: str, under_torchrun: bool = False) -> NoReturn:
    """Run main(settings) as a script and exit with the status that it returns.

    An error that the user can correct is printed as one line, and the exit status is 1. After Ctrl-C, SIGTERM or SIGHUP
    (unless SIGHUP is ignored, as under nohup) the script ends with one line and the status 128 + the signal's number.

    Args:
        main: The work of the script; it takes the settings and returns the exit status.
        doc: The script's docstring, which --help prints.
        under_torchrun: Whether torchrun may start several processes of this script that work together.
    """
    set_up_log()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace', line_buffering=True)  # so that every file name can be printed
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, raise_stopped)
    para = SimpleNamespace()
    try:
        para = read_settings(sys.argv[1:], doc)
        if distributed.world_size() > 1 and not under_torchrun:
            raise InputError('torchrun is for train_ds.py and val.py; start this script with python')
        distributed.initialise(para.gpu)
        status = main(para)
        distributed.finish()
        sys.exit(status)
    except KeyboardInterrupt:
        exit_after_signal(signal.SIGINT)
    except StoppedBySignal as stopped:
        exit_after_signal(signal.Signals(stopped.args[0]))
    except Exception as error:
        message = describe_error(error, para)
        if message is None:
            raise
        if distributed.first_to_report(message):
            log.error(one_line(f'error: {message}'))
        sys.exit(1)


def raise_stopped(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal by ending the script."""
    raise StoppedBySignal(number)


def exit_after_signal(received: signal.Signals) -> NoReturn:
    """End the process at once: without waiting for threads that work on a case, and without their unfinished files."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    log.warning(f'stopped by {received.name}; what is finished is kept')
    remove_partial_files()
    os._exit(128 + received)


def describe_error(error: Exception, para: SimpleNamespace) -> str | None:
    """Return the message for an error that the user can correct; None for any other error, a fault of the program."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return describe_os_error(error, para)
    if isinstance(error, MemoryError):
        return f'out of memory: {error}' if str(error) else 'out of memory'
    if isinstance(error, RuntimeError) and distributed.is_lost_rank(error):
        return 'another rank of this run was lost, see its messages; torchrun restarts all ranks with --max-restarts'
    if isinstance(error, RuntimeError) and 'out of memory' in str(error):
        return (
            'the GPU is out of memory: lower batch_size, window_batch, size or down_scale, set checkpointing=True or '
            'precision=bf16, or name another gpu'
        )
    return None


def describe_os_error(error: OSError, para: SimpleNamespace) -> str:
    """Return which file has which problem and, if the file lies in the folder of a parameter, the parameter's name."""
    if error.filename is None:
        return error.strerror or str(error)
    file = Path(re.sub(r'\.part-\d+-\d+-', '', os.fsdecode(error.filename)))
    parameter = parameter_of_file(file, para)
    if parameter is None:
        return f'{file}: {error.strerror}'
    if error.errno in DISK_FULL_ERRORS:
        return f'{file}: {error.strerror}; free some space, or set {parameter} to a folder on another disk'
    return f'{file}: {error.strerror}; see {parameter}'


def parameter_of_file(file: Path, para: SimpleNamespace) -> str | None:
    """Return the name of the parameter whose folder holds a file, the innermost of several; None if there is none."""
    folders = {
        name: Path(value).absolute() for name, value in vars(para).items() if name.endswith(('_path', '_dir')) and value
    }
    holding = [name for name, folder in folders.items() if file.absolute().is_relative_to(folder)]
    return max(holding, key=lambda name: len(folders[name].parts), default=None)


def report_results(
    written: int, failures: Sequence[tuple[str, str]], destination: Path | str, next_command: str
) -> int:
    """Print what was written, what failed, and which command comes next; return the exit status.

    Args:
        written: Number of cases that were written.
        failures: (name of a case, reason) of the others.
        destination: Where the cases were written to.
        next_command: The command of the next stage, such as 'python val.py'.
    """
    if written:
        cases = 'case' if written == 1 else 'cases'
        log.info(one_line(f'{written} {cases} written to {destination}'))
    for name, reason in failures:
        log.info(one_line(f'failed: {name}: {reason}'))
    if written:
        print_next(next_command)
    return 1 if failures or not written else 0


def print_next(command: str) -> None:
    """Print the command of the next stage, with the arguments of this run."""
    log.info(one_line(f'next: {shlex.join([*command.split(), *sys.argv[1:]])}'))
