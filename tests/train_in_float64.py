"""Run train_ds.py with a network in float64: `python tests/train_in_float64.py --name=value ...`, or under torchrun.

In float32 the order of a sum changes its last bit. A PReLU near 0 may then take its other branch, and Adam makes a full
step of any gradient, however small: single weights may differ by two learning rates, though nothing is wrong. In
float64 such differences are far below the tolerance of the tests.
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


class Float64ResUNet(ResUNet):
    """A ResUNet whose weights and activations are float64."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.double()

    def forward(self, ct):
        return super().forward(ct.double())


if __name__ == '__main__':
    train_ds.ResUNet = Float64ResUNet
    run_script(train_ds.main, __doc__, under_torchrun=True)
