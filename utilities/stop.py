"""Signals that ask a run to end."""
import os
import signal
import sys


class Stop:
    """False until Ctrl-C, SIGTERM or SIGHUP asks this process to end; then true, `name` the signal's and `status` the exit status.

    The run ends when it comes to a good place. The second signal ends it at once. One that is ignored, as SIGHUP under nohup, stays so.
    """

    def __init__(self):
        self.name, self.status = None, 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.ask)

    def __bool__(self):
        return self.name is not None

    def ask(self, number, _):
        if self:
            sys.exit(128 + number)
        self.name, self.status = signal.Signals(number).name, 128 + number
        # not print: the signal may have come in the middle of one
        os.write(2, f'\n{self.name}: finishing the step and saving; once more: leaving at once\n'.encode())
