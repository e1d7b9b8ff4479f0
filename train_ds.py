"""Train the ResUNet with deep supervision.

In:   training_set_path/ct and /seg, as data_prepare/get_training_set.py writes them
Out:  module_dir/net{epoch}-{loss}-{mean loss}.pth (weights), last.pth (to resume), loss.csv, loss_curve.png, parameters.json

    python train_ds.py                                   one GPU, or the CPU
    python train_ds.py --gpu=0,1 --batch_size=2          two GPUs
    python train_ds.py --resume=auto                     go on after a stop
"""
import json
import time
from pathlib import Path

import torch
from tqdm import tqdm

from dataset.dataset import Dataset
from loss import LOSSES
from net.ResUNet import ResUNet
from utilities import checkpoint
from utilities.cases import print_next
from utilities.command_line import run
from utilities.deep_supervision import DeepSupervision
from utilities.device import devices
from utilities.errors import InputError
from utilities.monitor import Monitor
from utilities.precision import precision_on
from utilities.volume import whole_file


def main(para):
    torch.manual_seed(para.seed)
    torch.backends.cudnn.benchmark = para.cudnn_benchmark
    samples = Dataset(f'{para.training_set_path}/ct', f'{para.training_set_path}/seg', para.size, para.lower, para.upper,
                      para.down_scale, para.samples_per_case)
    loader = torch.utils.data.DataLoader(samples, para.batch_size, shuffle=True, num_workers=para.num_workers,
                                         pin_memory=para.pin_memory and torch.cuda.is_available(),
                                         persistent_workers=para.num_workers > 0)
    used = devices(para.gpu)
    network = ResUNet(training=True, drop_rate=para.drop_rate, down_scale=para.down_scale, checkpointing=para.checkpointing)
    if para.pretrained_path:
        print(f'starting from {checkpoint.load_weights(network, para.pretrained_path)}')
    network.to(used[0])
    precision = precision_on(used[0], para.precision)
    supervised = DeepSupervision(network, LOSSES[para.loss](), precision)
    if len(used) > 1:
        supervised = torch.nn.DataParallel(supervised, used)
    elif para.compile:
        supervised.compile()
    scaler = torch.amp.GradScaler(used[0].type, enabled=precision == torch.float16)
    optimizer = torch.optim.Adam(network.parameters(), lr=para.learning_rate)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, para.learning_rate_decay, para.learning_rate_factor)
    module_dir = Path(para.module_dir)
    epoch, step = resume(para, network, optimizer, scheduler, scaler)
    monitor = Monitor(module_dir, para.visdom_server, para.visdom_port, step)
    with whole_file(module_dir / 'parameters.json') as part:
        part.write_text(json.dumps(vars(para), indent=1))

    start = time.monotonic()
    bar = tqdm(total=para.Epoch * len(loader), initial=step, desc='training', unit='step')
    while epoch < para.Epoch:
        alpha = para.alpha * para.alpha_decay ** (epoch // para.alpha_epochs)
        rows = []
        for ct, label in loader:
            share = torch.full((len(ct), 1), 1 / len(ct), device=used[0])
            losses = supervised(ct.to(used[0], non_blocking=True), label.to(used[0], non_blocking=True), share).sum(0)
            total = alpha * losses[:3].sum() + losses[3]
            optimizer.zero_grad()
            scaler.scale(total).backward()
            scaler.step(optimizer)
            scaler.update()

            step += 1
            monitor.add({'epoch': epoch + 1, 'step': step, 'alpha': alpha, 'learning_rate': scheduler.get_last_lr()[0],
                         'seconds': time.monotonic() - start}, torch.cat((losses, total[None])))
            bar.update()
            if step % para.print_every == 0:
                rows += monitor.record()
                bar.write('epoch:{epoch}, step:{step}, loss1:{loss1:.3f}, loss2:{loss2:.3f}, loss3:{loss3:.3f}, loss4:{loss4:.3f}, '
                          'time:{minutes:.2f} min'.format(**rows[-1], minutes=rows[-1]['seconds'] / 60))
        rows += monitor.record()
        scheduler.step()
        epoch += 1
        if epoch % para.save_every == 0 or epoch == para.Epoch:
            mean = sum(row['loss4'] for row in rows) / len(rows)
            checkpoint.save(module_dir / f'net{epoch}-{rows[-1]["loss4"]:.3f}-{mean:.3f}.pth', network.state_dict())
        checkpoint.save(module_dir / 'last.pth', {
            'network': network.state_dict(), 'optimizer': optimizer.state_dict(), 'scheduler': scheduler.state_dict(),
            'scaler': scaler.state_dict(), 'epoch': epoch, 'step': step, 'random': torch.get_rng_state(), 'parameters': vars(para)})
        monitor.flush(last=epoch == para.Epoch)
    bar.close()
    print(f'{step} steps, weights and loss curve written to {module_dir}')
    print_next('python val.py')
    print(f'      with --module_path={module_dir} for these weights')


def resume(para, network, optimizer, scheduler, scaler):
    """Take up the state of module_dir/last.pth. Returns the epochs and steps done, (0, 0) where there is no such file.

    Raises InputError where there is one and resume is not 'auto': it would be lost.
    """
    path = Path(para.module_dir) / 'last.pth'
    if not path.exists():
        return 0, 0
    if para.resume != 'auto':
        raise InputError(f'{path}: an earlier training is here; go on with it by --resume=auto, or set module_dir to a new folder')
    state = checkpoint.load(path)
    try:
        network.load_state_dict(state['network'])
        optimizer.load_state_dict(state['optimizer'])
        scheduler.load_state_dict(state['scheduler'])
        if scaler.is_enabled() and state['scaler']:
            scaler.load_state_dict(state['scaler'])
        torch.set_rng_state(state['random'])
        print(f'resuming after epoch {state["epoch"]} of {path}')
        return state['epoch'], state['step']
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f'{path}: cannot be resumed from ({str(error).splitlines()[0]}); set resume to start anew') from None


if __name__ == '__main__':
    run(main, __doc__)
