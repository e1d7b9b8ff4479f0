"""A training step of LiTS's size on the CPU."""

from pathlib import Path

from benchmarks.measure import measure_call, process_memory
from benchmarks.rows import row_without_plain_way
from benchmarks.trainers import make_batch, make_our_trainer
from utilities.inference.devices import choose_devices

STAGE = 'training step on the CPU, 1 x 48 x 256 x 256'


def measure(folder: Path, repeats: int) -> dict:
    network, _, step = make_our_trainer(*make_batch(1, 48, 256, choose_devices('')[0]))
    network.drop_rate = 0.3
    steps = repeats - 1
    step()
    seconds, _, _ = measure_call(lambda: [step() for _ in range(steps)])
    remark = f'float32, dropout 0.3; mean of {steps} steps'
    return row_without_plain_way(seconds / steps, process_memory('VmHWM') / 1e6, remark)
