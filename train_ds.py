"""Train the ResUNet with deep supervision.

In:   training_set_path/ct and training_set_path/seg, as data_prepare/get_training_set.py writes them
Out:  in module_dir: weights in net{epoch}-{loss}-{mean loss}.pth and best.pth, the state to resume from in last.pth,
      loss.csv, loss_curve.png, parameters.json, train_ds.log

    python train_ds.py                                   one GPU, or the CPU
    python train_ds.py --gpu=0,1 --batch_size=2          two GPUs, one process
    torchrun --nproc_per_node=4 train_ds.py              four GPUs, one process each; several machines: see README.md
    python train_ds.py --resume=auto                     resume a training that was stopped at any step
    python train_ds.py --pretrained_path=net550.pth      fine-tune given weights
"""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import torch
from tqdm import tqdm

from dataset.dataset import Dataset, require_settings
from dataset.loader import Loader
from loss import LOSSES
from net.ResUNet import ResUNet
from utilities.base import distributed
from utilities.base.atomic_write import atomic_write
from utilities.base.folder_lock import lock_folder
from utilities.base.log import log, log_to_file, progress_bar
from utilities.base.signals import Stop
from utilities.image.preprocess import normalise
from utilities.inference import checkpoint
from utilities.inference.devices import choose_devices
from utilities.inference.precision import choose_precision
from utilities.inference.predict_mask import WindowSettings
from utilities.run.parameter_rules import require_choice
from utilities.run.script import print_next, run_script
from utilities.training.curve import Curve
from utilities.training.deep_supervision import DeepSupervision, Steps
from utilities.training.training_state import TrainingState, seed_random
from utilities.training.validation import Validation
from utilities.viewing.training_monitor import Monitor


def main(para: SimpleNamespace) -> int | None:
    require_choice('loss', para.loss, LOSSES)
    seed_random(para.seed)
    torch.backends.cudnn.benchmark = para.cudnn_benchmark
    training = Training(para)
    state, curve = training.state, training.curve
    stop = Stop()
    bar = progress_bar(para.Epoch * len(training.loader), 'training', 'step', state.step)
    with closing(training.loader), bar:  # An error ends the processes that read samples as well.
        while state.epoch < para.Epoch and not stop.agree():
            training.train_epoch(stop, bar)
            # A training resumed with fewer samples may already have done more batches than an epoch has now.
            if state.batch >= len(training.loader):
                training.finish_epoch()
            state.save(curve.rows)
            curve.write_csv()
            training.monitor.draw_figure_if_due()
    state.wait_for_writes()
    curve.write_csv()
    training.monitor.close()
    if stop.agreed:
        log.info(
            f'{stop.name}: stopped after step {state.step}, saved in {state.folder / "last.pth"}; '
            'resume it with --resume=auto'
        )
        return stop.status
    log.info(f'{state.step} steps, weights and loss curve written to {state.folder}')
    print_next('python val.py')
    log.info(f'      with --module_path={state.folder} for these weights')


class Training:
    """What a training consists of, set up from the settings; a training that is resumed gets its saved state back.

    Args:
        para: the settings of the run.

    Attributes:
        samples, loader: the samples to train on, and what reads their batches.
        steps: makes the optimizer steps.
        validation: computes the Dice of the validation cases.
        state: saves the training in module_dir.
        curve, monitor: the losses of every step, and what shows them.
    """

    def __init__(self, para: SimpleNamespace) -> None:
        self.para = para
        self.samples, validation_samples = load_samples(para)
        used_devices = choose_devices(para.gpu)
        device = used_devices[0]
        precision = choose_precision(device, para.precision)
        # The GPUs of this process share a micro batch.
        micro_batch_size = para.micro_batch_size * len(used_devices)
        self.loader = Loader(
            self.samples, para.batch_size, para.seed, para.num_workers, para.pin_memory, micro_batch_size
        )
        network = ResUNet(
            training=True, drop_rate=para.drop_rate, down_scale=para.down_scale, checkpointing=para.checkpointing
        ).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=para.learning_rate)
        scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        air = float(normalise(para.lower, para.lower, para.upper))
        # The windows do not overlap: this is quicker than val.py, and enough to compare epochs.
        windows = WindowSettings(para.size, para.size, para.threshold, air, precision=precision)
        self.validation = Validation(network, validation_samples, windows, device)

        module_dir = Path(para.module_dir)
        lock_folder(module_dir, 'module_dir')
        log_to_file(module_dir / 'train_ds.log')
        if validation_samples:
            log.info(f'held out for validation: {", ".join(case.name for case in validation_samples.cases)}')
        self.state = TrainingState(module_dir, network, optimizer, scaler, vars(para), self.samples.case_depths())
        self.curve = Curve(module_dir / 'loss.csv', load_weights_or_state(para, network, self.state))
        if distributed.is_main_process():
            with atomic_write(module_dir / 'parameters.json') as part:
                part.write_text(json.dumps(vars(para), indent=1))
        supervised = DeepSupervision(network, LOSSES[para.loss](), precision)
        self.steps = Steps(supervised, optimizer, scaler, used_devices, para.compile)
        self.monitor = Monitor(
            self.curve, para.visdom_server, para.visdom_port, vars(para), para.Epoch * len(self.loader)
        )

    def train_epoch(self, stop: Stop, bar: tqdm) -> None:
        """Train on the remaining batches of the current epoch; stop earlier if a signal asks for it."""
        para, state = self.para, self.state
        learning_rate = learning_rate_at(
            state.epoch, para.learning_rate, para.learning_rate_factor, para.learning_rate_decay
        )
        alpha = alpha_at(state.epoch, para.alpha, para.alpha_decay, para.alpha_epochs)
        for case_names, micro_batches in self.loader.batches(state.epoch, state.batch):
            losses = self.steps.step(micro_batches, alpha, learning_rate)
            state.step += 1
            state.batch += 1
            self.curve.add(
                losses, case_names, epoch=state.epoch + 1, step=state.step, alpha=alpha, learning_rate=learning_rate
            )
            bar.update()
            if state.step % para.print_every == 0:
                self.record_steps()
                print_losses(self.curve.newest())
            if self.monitor.should_show_sample():
                self.show_sample(case_names[0], *micro_batches[0][:2])
            if stop.agree():
                break
        self.record_steps()

    def record_steps(self) -> None:
        """Add the newest steps to the curve, and show them in visdom."""
        self.curve.record()
        self.monitor.show_new_rows()

    def show_sample(self, case_name: str, ct: torch.Tensor, label: torch.Tensor) -> None:
        """Show the first sample of a micro batch, ct (n, 1, z, y, x) and label (n, z, Y, X), in visdom."""
        self.monitor.show_sample(
            f'{case_name}, step {self.state.step}',
            ct[0, 0],
            label[0],
            self.samples.geometries[case_name],
            self.validation.predict,
            (self.para.lower, self.para.upper),
        )

    def finish_epoch(self) -> None:
        """Count the epoch, save and validate its weights if that is due, and update best.pth."""
        para, state = self.para, self.state
        state.epoch, state.batch = state.epoch + 1, 0
        is_last = state.epoch == para.Epoch
        mean_loss = self.curve.mean_loss(state.epoch)
        if state.epoch % para.save_every == 0 or is_last:
            loss = self.curve.newest()['loss4']
            state.save_network(f'net{state.epoch}-{loss:.3f}-{mean_loss:.3f}.pth', para.keep_saved)
        if not para.validation_cases:
            state.save_best(mean_loss)
        elif state.epoch % para.validate_every == 0 or is_last:
            dice = self.validation.mean_dice()
            self.curve.set_validation_dice(dice)
            self.monitor.show_validation_dice()
            log.info(f'epoch:{state.epoch}, validation Dice:{dice:.4f}')
            state.save_best(1 - dice)


def load_samples(para: SimpleNamespace) -> tuple[Dataset, Dataset | None]:
    """Return the samples to train on and those of the validation cases (None without validation)."""
    lock_folder(para.training_set_path, 'training_set_path', shared=True)
    require_settings(
        para.training_set_path,
        lower=para.lower,
        upper=para.upper,
        down_scale=para.down_scale,
        slice_thickness=para.slice_thickness,
    )
    ct_folder, label_folder = Path(para.training_set_path, 'ct'), Path(para.training_set_path, 'seg')
    samples = Dataset(
        ct_folder, label_folder, para.size, para.lower, para.upper, para.down_scale, para.samples_per_case
    )
    return samples, samples.hold_out(para.validation_cases, para.seed)


def load_weights_or_state(para: SimpleNamespace, network: ResUNet, state: TrainingState) -> list[list[float]]:
    """Resume the training in module_dir or load pretrained weights, as the settings say; return the curve so far."""
    rows = state.resume(para.resume)
    if rows is not None:
        log.info(f'resuming after step {state.step} (epoch {state.epoch + 1}) of {state.folder / "last.pth"}')
    elif para.pretrained_path:
        path = checkpoint.load_weights(network, para.pretrained_path, 'set pretrained_path')
        log.info(f'starting from {path}')
    return rows or []


def learning_rate_at(epoch: int, initial: float, factor: float, decay_epochs: Sequence[int]) -> float:
    """Return the learning rate after `epoch` epochs: it is multiplied by `factor` after each of `decay_epochs`."""
    return initial * factor ** sum(epoch >= decay_epoch for decay_epoch in decay_epochs)


def alpha_at(epoch: int, initial: float, factor: float, interval: int) -> float:
    """Return the weight of the losses of heads 1 to 3: it is multiplied by `factor` every `interval` epochs."""
    return initial * factor ** (epoch // interval)


def print_losses(row: dict[str, float]) -> None:
    """Log the losses of one row of the curve."""
    log.info(
        'epoch:{epoch}, step:{step}, loss1:{loss1:.3f}, loss2:{loss2:.3f}, loss3:{loss3:.3f}, loss4:{loss4:.3f}, '
        'time:{minutes:.2f} min'.format(**row, minutes=row['seconds'] / 60)
    )


if __name__ == '__main__':
    run_script(main, __doc__, under_torchrun=True)
