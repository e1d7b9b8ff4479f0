"""Signals that ask a training to stop after the current step."""

import os
import signal
import sys
from types import FrameType

from utilities.base import distributed


class Stop:
    """Whether Ctrl-C, SIGTERM or SIGHUP has asked this run to stop.

    Creating it installs the signal handlers; a signal that is ignored, as SIGHUP under nohup, stays ignored. The
    training calls agree() after every step and ends where it returns True. A second signal ends the process at once.

    Attributes:
        number: the number of the signal, 0 before it came.
        agreed: what agree() returned last.
    """

    def __init__(self) -> None:
        self.number, self.agreed = 0, False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.handle)

    @property
    def name(self) -> str:
        """The name of the signal, such as 'SIGTERM'."""
        return signal.Signals(self.number).name

    @property
    def status(self) -> int:
        """The exit status of a run that this signal has stopped."""
        return 128 + self.number

    def agree(self) -> bool:
        """Return True on every rank as soon as one rank was asked to stop.

        All ranks must call it after the same step.
        """
        number = distributed.all_reduce_max(self.number)
        self.agreed = number > 0
        if self.agreed:
            self.number = number
        return self.agreed

    def handle(self, number: int, _: FrameType | None) -> None:
        """Remember the signal, or exit if it is the second one."""
        # torchrun itself sends a second signal, and kills ranks that take too long.
        if self.number and not distributed.is_launched():
            sys.exit(128 + number)
        self.number = number
        # print() cannot be used: the signal may have interrupted another print().
        os.write(2, f'\n{self.name}: finishing the step and saving; once more: leaving at once\n'.encode())
