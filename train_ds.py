"""Train the ResUNet with deep supervision.

In:   training_set_path/ct and /seg, as data_prepare/get_training_set.py writes them
Out:  module_dir/net{epoch}-{loss}-{mean loss}.pth and best.pth (weights), last.pth (to go on from), loss.csv, loss_curve.png,
      parameters.json, train_ds.log

    python train_ds.py                                   one GPU, or the CPU
    python train_ds.py --gpu=0,1 --batch_size=2          two GPUs, one process
    torchrun --nproc_per_node=4 train_ds.py              four GPUs, a process for each; see README.md for several machines
    python train_ds.py --resume=auto                     go on after a stop, wherever it was
    python train_ds.py --pretrained_path=net550.pth      fine-tune given weights
"""

import json
from pathlib import Path

import torch

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
from utilities.run.parameter_rules import require_choice
from utilities.run.script import print_next, run_script
from utilities.training.deep_supervision import DeepSupervision, Steps
from utilities.training.training_state import TrainingState, seed_random
from utilities.training.validation import Validation
from utilities.viewing.training_monitor import Monitor


def main(para):
    require_choice('loss', para.loss, LOSSES)
    seed_random(para.seed)
    torch.backends.cudnn.benchmark = para.cudnn_benchmark
    lock_folder(para.training_set_path, 'training_set_path', shared=True)
    require_settings(
        para.training_set_path,
        lower=para.lower,
        upper=para.upper,
        down_scale=para.down_scale,
        slice_thickness=para.slice_thickness,
    )
    training_set = Path(para.training_set_path)
    samples = Dataset(
        training_set / 'ct',
        training_set / 'seg',
        para.size,
        para.lower,
        para.upper,
        para.down_scale,
        para.samples_per_case,
    )
    held_out = samples.hold_out(para.validation_cases, para.seed)
    used = choose_devices(para.gpu)
    loader = Loader(
        samples, para.batch_size, para.seed, para.num_workers, para.pin_memory, para.micro_batch_size * len(used)
    )
    network = ResUNet(
        training=True, drop_rate=para.drop_rate, down_scale=para.down_scale, checkpointing=para.checkpointing
    ).to(used[0])
    precision = choose_precision(used[0], para.precision)
    scaler = torch.amp.GradScaler(used[0].type, enabled=precision == torch.float16)
    optimizer = torch.optim.Adam(network.parameters(), lr=para.learning_rate)
    air = float(normalise(para.lower, para.lower, para.upper))
    validation = Validation(network, held_out, para.size, para.threshold, used[0], precision, air)

    module_dir = Path(para.module_dir)
    lock_folder(module_dir, 'module_dir')
    log_to_file(module_dir / 'train_ds.log')
    if held_out:
        log.info(f'held out for validation: {", ".join(case.name for case in held_out.cases)}')
    state = TrainingState(module_dir, network, optimizer, scaler, vars(para), samples.depths())
    curve = state.resume(para.resume)
    if curve is not None:
        log.info(f'resuming after step {state.step} (epoch {state.epoch + 1}) of {module_dir / "last.pth"}')
    elif para.pretrained_path:
        log.info(f'starting from {checkpoint.load_weights(network, para.pretrained_path)}')
    if distributed.is_main_process():
        with atomic_write(module_dir / 'parameters.json') as part:
            part.write_text(json.dumps(vars(para), indent=1))
    steps = Steps(DeepSupervision(network, LOSSES[para.loss](), precision), optimizer, scaler, used, para.compile)
    last = para.Epoch * len(loader)
    monitor = Monitor(module_dir, para.visdom_server, para.visdom_port, vars(para), last, curve or [])

    stop = Stop()
    bar = progress_bar(last, 'training', 'step', state.step)
    while state.epoch < para.Epoch and not stop.agree():
        alpha = para.alpha * para.alpha_decay ** (state.epoch // para.alpha_epochs)
        rate = para.learning_rate * para.learning_rate_factor ** sum(
            state.epoch >= epoch for epoch in para.learning_rate_decay
        )
        for names, parts in loader.epoch(state.epoch, state.batch):
            losses = steps.step(parts, alpha, rate)
            state.step += 1
            state.batch += 1
            monitor.add(losses, names, epoch=state.epoch + 1, step=state.step, alpha=alpha, learning_rate=rate)
            bar.update()
            if state.step % para.print_every == 0:
                row = monitor.record()
                log.info(
                    'epoch:{epoch}, step:{step}, loss1:{loss1:.3f}, loss2:{loss2:.3f}, loss3:{loss3:.3f}, loss4:{loss4:.3f}, '
                    'time:{minutes:.2f} min'.format(**row, minutes=row['seconds'] / 60)
                )
            if monitor.wants_sample():
                ct, label, _ = parts[0]
                monitor.sample(
                    f'{names[0]}, step {state.step}',
                    ct[0, 0],
                    label[0],
                    samples.geometries[names[0]],
                    validation.predict,
                    (para.lower, para.upper),
                )
            if stop.agree():
                break

        row = monitor.record()
        if state.batch >= len(loader):  # more, where a training goes on with fewer samples
            state.epoch, state.batch = state.epoch + 1, 0
            mean = monitor.mean(state.epoch)
            if state.epoch % para.save_every == 0 or state.epoch == para.Epoch:
                state.save_network(f'net{state.epoch}-{row["loss4"]:.3f}-{mean:.3f}.pth', para.keep_saved)
            if held_out is None:
                state.save_best(mean)
            elif state.epoch % para.validate_every == 0 or state.epoch == para.Epoch:
                dice = validation.dice()
                monitor.validated(dice)
                state.save_best(1 - dice)
        state.save(monitor.curve)
        monitor.flush()
    bar.close()
    state.finish()
    monitor.close()
    if stop.agreed:
        log.info(
            f'{stop.name}: stopped after step {state.step}, saved in {module_dir / "last.pth"}; go on with --resume=auto'
        )
        return stop.status
    log.info(f'{state.step} steps, weights and loss curve written to {module_dir}')
    print_next('python val.py')
    log.info(f'      with --module_path={module_dir} for these weights')


if __name__ == '__main__':
    run_script(main, __doc__, under_torchrun=True)
