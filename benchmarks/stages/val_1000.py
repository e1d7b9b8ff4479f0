"""val.py on a long scan with a stand-in for the network, so that the rest of the work is measured."""

from pathlib import Path

from benchmarks.predict_case import StandIn
from benchmarks.whole_case import compare_predictions

STAGE = 'val.py, 1,000 x 512 x 512, a stand-in for the network'


def measure(folder: Path, repeats: int) -> dict:
    return compare_predictions(folder, 'stand_in', StandIn().state_dict(), 1000)
