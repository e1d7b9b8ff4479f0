"""Start a script as a process of its own, watch it, and judge how it ended."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
HANG = 20  # seconds that one file may take
MEMORY = 2 * 2**30  # bytes of memory that a process may use
ADDRESS_SPACE = 12 * 2**30  # bytes of addresses, so that a process that takes too much ends before the machine does
SMALL = dict(
    phantom_train=3,
    phantom_test=3,
    phantom_depth=24,
    phantom_width=32,
    size=8,
    stride=4,
    slice_thickness=12,
    expand_slice=2,
    batch_size=1,
    num_workers=0,
    visdom_server='',
    maximum_hole=100,
    gpu='',
    print_every=1,
)
# One thread for each process: two trials run at once on two cores, and only sums in one order make two trainings equal.
ENVIRONMENT = {
    **os.environ,
    'CUDA_VISIBLE_DEVICES': '',
    'OMP_NUM_THREADS': '1',
    'NUMBA_NUM_THREADS': '1',
    'MPLBACKEND': 'Agg',
}


@dataclass
class Row:
    """A row of the table. wanted: the number of trials; fewer are no success, even without faults."""

    what: str
    tried: int = 0
    faults: list[str] = field(default_factory=list)
    remark: str = ''
    wanted: int = 1


@dataclass
class Ended:
    """How a script ended. code: as in subprocess; memory: peak in bytes; hung: it was killed because it did not end."""

    code: int
    out: str
    err: str
    seconds: float
    memory: int
    hung: bool = False

    @property
    def error(self) -> list[str]:
        """The lines that tell a user what to change."""
        return re.findall(r'^(?:error|failed): .*', f'{self.out}\n{self.err}', re.M)

    def fault(self) -> str:
        """Return what is wrong with how the script ended; '' if it succeeded or told why it did not."""
        text = f'{self.out}\n{self.err}'
        if self.hung:
            return f'hung: no end after {self.seconds:.0f} s'
        if 'Traceback (most recent call last)' in text:
            errors = re.findall(r'^\w[\w.]*: .*', text[text.rindex('Traceback') :], re.M)
            return f'traceback: {errors[0][:200] if errors else "no name of an error"}'
        if control := re.search(r'[\x00-\x08\x0b-\x1f\x7f]', text):
            return f'control character {control[0]!r} on the screen'
        if self.code < 0:
            return f'ended by {signal.Signals(-self.code).name}'
        if self.memory > MEMORY or re.search('MemoryError|nable to allocate|bad_alloc|[cC]annot allocate', text):
            last_error = self.error[-1][:200] if self.error else ''
            return f'memory: peak of {self.memory / 2**20:.0f} MiB; {last_error}'
        explained = self.code == 0 or (self.code == 1 and self.error)
        return '' if explained else f'exit status {self.code} and no clear line: {text.strip()[-200:]}'


def hear_signals() -> None:
    """Stop ignoring SIGINT and SIGHUP, as a background job does, since the scripts would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Script:
    """A running script in a process group of its own.

    Args:
        name: path of the script in the repository.
        folder: where it runs.
        limits: pairs (resource, value) of resource limits.
        overrides: parameters of the run.
    """

    def __init__(self, name: str, folder: Path, limits: Sequence[tuple[int, int]] = (), **overrides):
        self.name, self.folder, self.start_time = name, Path(folder), time.monotonic()
        command = [sys.executable, str(ROOT / name), *(f'--{key}={value}' for key, value in overrides.items())]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        for kind, value in ((resource.RLIMIT_AS, ADDRESS_SPACE), *limits):
            resource.prlimit(self.process.pid, kind, (value, value))
        self.ended: Ended | None = None
        # Pipes, since a limit on the size of files would hold for output files as well.
        self.stdout, self.stderr = bytearray(), bytearray()
        self.readers = [
            threading.Thread(target=read_pipe, args=(self.process.stdout, self.stdout), daemon=True),
            threading.Thread(target=read_pipe, args=(self.process.stderr, self.stderr), daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def poll(self) -> Ended | None:
        """Return how the script ended, or None while it runs."""
        if self.ended is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                for reader in self.readers:
                    reader.join(2)  # a child of the script may keep the pipes open for longer
                self.ended = Ended(
                    self.process.returncode,
                    decode_output(self.stdout),
                    decode_output(self.stderr),
                    time.monotonic() - self.start_time,
                    usage.ru_maxrss * 1024,
                )
        return self.ended

    def signal(self, number: int, group: bool = True) -> bool:
        """Send a signal to the script, with all its children or alone; return False if it has ended already."""
        if self.poll():
            return False
        if group:
            os.killpg(self.process.pid, number)
        else:
            os.kill(self.process.pid, number)
        return True

    def wait(self, seconds: float = 120) -> Ended:
        """Return how the script ended; if it runs longer than `seconds`, kill it and mark it as hung."""
        while not self.poll():
            if time.monotonic() - self.start_time > seconds:
                self.signal(signal.SIGKILL)
                while not self.poll():
                    time.sleep(0.01)
                self.ended.hung = True
            time.sleep(0.005)
        return self.ended


def read_pipe(pipe: BinaryIO, text: bytearray) -> None:
    """Append everything that comes through a pipe to `text`."""
    with pipe:
        while data := os.read(pipe.fileno(), 65536):
            text += data


def decode_output(text: bytearray) -> str:
    return bytes(text).decode(errors='backslashreplace').replace('\r', '\n')


def run(name: str, folder: Path, seconds: float = 120, limits: Sequence[tuple[int, int]] = (), **overrides) -> Ended:
    """Run a script to its end, see `Script` and `Script.wait`."""
    return Script(name, folder, limits, **overrides).wait(seconds)


def must(name: str, folder: Path, **overrides) -> Ended:
    """Run a script that has to succeed for the trials to mean anything; raise RuntimeError if it fails."""
    ended = run(name, folder, **overrides)
    if ended.code:
        raise RuntimeError(f'{name} in {folder} ended with status {ended.code}: {ended.err[-1000:]}')
    return ended


class Clock:
    """The time that a part may still take."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, negative once the time is over."""
        return self.end - time.monotonic()

    def over(self) -> bool:
        return self.left() <= 0
