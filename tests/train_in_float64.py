"""train_ds.py with a network in float64: `python tests/train_in_float64.py --name=value ...`, or under torchrun.

In float32 two orders of one sum differ in the last bit, a PReLU near 0 takes the other side, and Adam makes a step of a gradient however
small: single weights come out up to two learning rates apart, though nothing is wrong. In float64 nothing hides behind rounding.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import train_ds
from net.ResUNet import ResUNet
from utilities.run.script import run_script


class DoubleResUNet(ResUNet):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.double()

    def forward(self, ct):
        return super().forward(ct.double())


if __name__ == '__main__':
    train_ds.ResUNet = DoubleResUNet
    run_script(train_ds.main, __doc__, under_torchrun=True)
