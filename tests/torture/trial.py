"""Scripts as processes of their own, started, watched and judged; and the folders that they leave, compared."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANG = 20  # seconds that one file may take
MEMORY = 2 * 2**30  # bytes that a process may hold
GUARD = 12 * 2**30  # bytes of addresses, so that a runaway ends itself and not the machine
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
# one thread: two lanes for two cores, and sums in one order, without which no two trainings are alike
ENVIRONMENT = {
    **os.environ,
    'CUDA_VISIBLE_DEVICES': '',
    'OMP_NUM_THREADS': '1',
    'NUMBA_NUM_THREADS': '1',
    'MPLBACKEND': 'Agg',
}


@dataclass
class Row:
    """A line of the table: how many were tried, which faults were found."""

    what: str
    tried: int = 0
    faults: list = field(default_factory=list)
    remark: str = ''
    wanted: int = 1  # fewer tried is no success either


@dataclass
class Ended:
    code: int
    out: str
    err: str
    seconds: float
    memory: int
    hung: bool = False

    @property
    def error(self):
        """The lines that tell a user what to mend."""
        return re.findall(r'^(?:error|failed): .*', f'{self.out}\n{self.err}', re.M)

    def fault(self):
        """What is wrong with how the process ended; '' if it succeeded or told why not."""
        text = f'{self.out}\n{self.err}'
        if self.hung:
            return f'hung: no end after {self.seconds:.0f} s'
        if 'Traceback (most recent call last)' in text:
            return (
                'traceback: '
                + (re.findall(r'^\w[\w.]*: .*', text[text.rindex('Traceback') :], re.M) or ['of what?'])[0][:200]
            )
        if control := re.search(r'[\x00-\x08\x0b-\x1f\x7f]', text):
            return f'control character {control[0]!r} on the screen'
        if self.code < 0:
            return f'ended by {signal.Signals(-self.code).name}'
        if self.memory > MEMORY or re.search('MemoryError|nable to allocate|bad_alloc|[cC]annot allocate', text):
            return f'memory: {self.memory / 2**20:.0f} MiB held; {(self.error or [""])[-1][:200]}'
        if self.code not in (0, 1) or self.code == 1 and not self.error:
            return f'exit status {self.code} and no clear line: {text.strip()[-200:]}'
        return ''


def hear_signals():
    """A background job starts with these two ignored, and so would every script that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Script:
    """A script under way in `folder`, in a process group of its own."""

    def __init__(self, name, folder, limits=(), **overrides):
        self.name, self.folder, self.began = name, Path(folder), time.monotonic()
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
        for what, value in ((resource.RLIMIT_AS, GUARD), *limits):
            resource.prlimit(self.process.pid, what, (value, value))
        self.ended, self.texts = None, (bytearray(), bytearray())
        # pipes, since a limit on the size of files would hold for these too
        self.readers = [
            threading.Thread(target=collect, args=pair, daemon=True)
            for pair in zip((self.process.stdout, self.process.stderr), self.texts)
        ]
        for reader in self.readers:
            reader.start()

    def said(self, which):
        """What it wrote so far to stdout (0) or stderr (1)."""
        return bytes(self.texts[which]).decode(errors='backslashreplace').replace('\r', '\n')

    def poll(self):
        """Ended once it has, else None."""
        if self.ended is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                for reader in self.readers:
                    reader.join(2)  # a child of it may hold the pipes for longer
                self.ended = Ended(
                    self.process.returncode,
                    self.said(0),
                    self.said(1),
                    time.monotonic() - self.began,
                    usage.ru_maxrss * 1024,
                )
        return self.ended

    def signal(self, number, group=True):
        """Send it a signal, with all its children or alone. False if it has ended already."""
        if self.poll():
            return False
        (os.killpg if group else os.kill)(self.process.pid, number)
        return True

    def wait(self, seconds=120):
        """Ended; after so many seconds it is killed and said to hang."""
        while not self.poll():
            if time.monotonic() - self.began > seconds:
                self.signal(signal.SIGKILL)
                while not self.poll():
                    time.sleep(0.01)
                self.ended.hung = True
            time.sleep(0.005)
        return self.ended


def collect(pipe, text):
    with pipe:
        while data := os.read(pipe.fileno(), 65536):
            text += data


def run(name, folder, seconds=120, limits=(), **overrides):
    return Script(name, folder, limits, **overrides).wait(seconds)


def must(name, folder, **overrides):
    """Run a script that has to succeed for the trials to mean anything."""
    ended = run(name, folder, **overrides)
    if ended.code:
        raise RuntimeError(f'{name} in {folder} ended with status {ended.code}: {ended.err[-1000:]}')
    return ended


class Clock:
    """The time that a part may still take."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()

    def over(self):
        return self.left() <= 0
