"""What saving costs a training: everything needed to resume, beside the same steps without saving."""

from pathlib import Path

import torch

from benchmarks.measure import side_by_side
from benchmarks.trainers import ALPHA, LEARNING_RATE, make_batch, make_our_trainer
from utilities.base.folder_lock import lock_folder
from utilities.inference.devices import choose_devices
from utilities.training.curve import Curve
from utilities.training.training_state import TrainingState
from utilities.viewing.training_monitor import Monitor

STAGE = (
    'an epoch of 8 training steps, 2 x 16 x 64 x 64, with all that is saved to go on from, '
    'beside one that saves nothing'
)
STEPS = 8
LITS_STEPS = 111  # of an epoch


def measure(folder: Path, repeats: int) -> dict:
    network, optimizer, step = make_our_trainer(*make_batch(2, 16, 64, choose_devices('')[0]))
    lock_folder(folder, 'module_dir')
    state = TrainingState(folder, network, optimizer, torch.amp.GradScaler(enabled=False), {}, [])
    curve = Curve(folder / 'loss.csv')
    monitor = Monitor(curve)

    def ours() -> None:
        state.epoch += 1
        for _ in range(STEPS):
            state.step += 1
            heads = step()
            losses = torch.cat((heads, heads[3:]))
            position = dict(epoch=state.epoch, step=state.step, alpha=ALPHA, learning_rate=LEARNING_RATE)
            curve.add(losses, ['volume-0'], **position)
        curve.record()
        state.save_best(curve.mean_loss(state.epoch))
        state.save(curve.rows)
        curve.write_csv()
        monitor.draw_figure_if_due()
        state.wait_for_writes()  # a real training does not wait for it, but goes on with the next steps

    def plain_way() -> None:
        for _ in range(STEPS):
            step()

    row, _, _ = side_by_side(plain_way, ours, 3 * repeats)
    extra_s = row['ours_s'] - row['plain_s']
    written = sum(path.stat().st_size for path in folder.iterdir())
    lits_share = extra_s / (LITS_STEPS / STEPS * row['plain_s'])
    return {
        **row,
        'goal': "at most 3% slower at LiTS's 111 steps an epoch",
        'reached': lits_share <= 0.03,
        'agreement': f'{lits_share:+.1%} at {LITS_STEPS} steps, {extra_s / row["plain_s"]:+.1%} at {STEPS}, '
        f'for {written / 1e6:.0f} MB an epoch',
    }
