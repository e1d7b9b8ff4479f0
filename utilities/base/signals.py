"""Signals that ask a run to end."""

import os
import signal
import sys

from utilities.base import distributed


class Stop:
    """False until Ctrl-C, SIGTERM or SIGHUP asks this process to end; then true, `name` the signal's and `status` the exit status.

    The run ends when it comes to a good place, where all ranks `agree`. The second signal ends it at once. One that is ignored, as SIGHUP
    under nohup, stays so.
    """

    def __init__(self):
        self.number, self.agreed = 0, False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.ask)

    def __bool__(self):
        return self.number > 0

    @property
    def name(self):
        return signal.Signals(self.number).name

    @property
    def status(self):
        return 128 + self.number

    def agree(self):
        """True on every rank as soon as one of them was asked; called by all at the same place."""
        number = distributed.all_reduce_max(self.number)
        self.agreed = number > 0
        if self.agreed:
            self.number = number
        return self.agreed

    def ask(self, number, _):
        if (
            self and not distributed.is_launched()
        ):  # torchrun sends a second one on its own, and ends at once what is late
            sys.exit(128 + number)
        self.number = number
        # not print: the signal may have come in the middle of one
        os.write(2, f'\n{self.name}: finishing the step and saving; once more: leaving at once\n'.encode())
