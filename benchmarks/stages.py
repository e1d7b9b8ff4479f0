"""One stage of the benchmark, in a process of its own: python benchmarks/stages.py NAME [--full]. Prints its rows as JSON.

Each stage makes its data, runs the plain way and ours, and says how far the two results agree. Whole scripts and a training step of LiTS's
size have no plain way beside them.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numpy as np
import pandas
import torch
from scipy import ndimage
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain
from benchmarks.measure import measured, memory, side_by_side
from benchmarks.scene import WINDOW, dice, rough, scan
from utilities.volumes.cases import Case
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import read_volume, write_volume

CRF = dict(s1=1.0, s2=10.0, s3=10.0, max_iter=20)


def zoom(folder, repeats):
    """resample.zoom, 160 x 512 x 512 -> 240 x 256 x 256, int16"""
    from utilities.image.resample import zoom

    ct = np.clip(scan(160)[0], *WINDOW)
    factors = 1.5, 0.5, 0.5
    row, _, _ = side_by_side(lambda: ndimage.zoom(ct, factors, order=3), lambda: zoom(ct, factors, 3), repeats)
    exact = ndimage.zoom(ct, factors, order=3, output=np.float64)
    error = np.abs(zoom(ct, factors, 3, np.float32) - exact).max()
    nearest = np.array_equal(zoom(ct, factors, 0), ndimage.zoom(ct, factors, order=0))
    return {
        **row,
        'goal': '>= 20 x',
        'reached': row['plain_s'] / row['ours_s'] >= 20 and error <= 1e-3 and nearest,
        'agreement': f'{error:.1e} HU before rounding; order 0 {"identical" if nearest else "DIFFERS"}',
    }


def prepare(folder, repeats):
    """get_training_set.py, a case of 160 x 512 x 512, with reading and writing"""
    from data_prepare.get_training_set import TrainingSetSettings, training_volumes

    read_settings = dict(size=48, expand_slice=20, slice_thickness=1.0, lower=WINDOW[0], upper=WINDOW[1])
    ct, label, geometry = scan(160)
    case = Case(folder / 'volume-0.nii', folder / 'segmentation-0.nii')
    write_volume(case.ct, ct, geometry)
    write_volume(case.label, label, geometry)

    def ours():
        for name, volume in zip(
            ('ct.nii', 'seg.nii'),
            training_volumes(case, TrainingSetSettings(down_scale=0.5, grid_tolerance=0.1, **read_settings)),
        ):
            write_volume(folder / name, *volume)

    def plainly():
        plain.training_case(case.ct, case.label, folder / 'plain-ct.nii', folder / 'plain-seg.nii.gz', **read_settings)

    row, _, _ = side_by_side(plainly, ours, repeats)
    same = np.array_equal(read_volume(folder / 'seg.nii')[0], read_volume(folder / 'plain-seg.nii.gz')[0])
    difference = np.abs(read_volume(folder / 'ct.nii')[0] - np.clip(read_volume(folder / 'plain-ct.nii')[0], *WINDOW))
    equal = (difference == 0).mean()
    return {
        **row,
        'goal': '>= 5 x',
        'reached': row['plain_s'] / row['ours_s'] >= 5 and same and equal >= 0.99999 and difference.max() <= 1,
        'agreement': f'labels {"identical" if same else "DIFFER"}; CT equal in {equal:.4%}, at most {difference.max()} HU off',
    }


def sample(folder, repeats):
    """Dataset sample, 48 of 240 slices, warm cache"""
    from dataset.dataset import Dataset

    ct, label, geometry = scan(240)
    small = np.ascontiguousarray(np.clip(ct[:, ::2, ::2], *WINDOW))
    for path, array in (
        (folder / 'ct/volume-0.nii', small),
        (folder / 'seg/segmentation-0.nii', label),
        (folder / 'plain/segmentation-0.nii.gz', label),
    ):
        write_volume(path, array, geometry)
    samples = Dataset(folder / 'ct', folder / 'seg', 48)
    place = 0.4
    first = int(place * (240 - 48 + 1))
    row, theirs, mine = side_by_side(
        lambda: plain.sample(folder / 'ct/volume-0.nii', folder / 'plain/segmentation-0.nii.gz', first, 48),
        lambda: samples[0, place],
        10 * repeats,
    )
    same = all(torch.equal(a, b) for a, b in zip(theirs, mine))
    return {
        **row,
        'goal': '>= 30 x',
        'reached': row['plain_s'] / row['ours_s'] >= 30 and same,
        'agreement': 'identical' if same else 'DIFFERS',
    }


def components(folder, repeats):
    """keep_liver, 160 x 512 x 512, 300 islands"""
    from utilities.image.post_process import keep_liver

    mask = rough(scan(160)[1])
    row, theirs, mine = side_by_side(lambda: plain.keep_liver(mask, 5e4), lambda: keep_liver(mask, 5e4), repeats)
    same = np.array_equal(theirs, mine)
    return {
        **row,
        'goal': '>= 10 x',
        'reached': row['plain_s'] / row['ours_s'] >= 10 and same,
        'agreement': 'identical' if same else 'DIFFERS',
    }


def metrics(folder, repeats):
    """calculate_metrics, 160 x 512 x 512"""
    from utilities.evaluation.calculate_metrics import calculate_metrics
    from utilities.image.post_process import keep_liver

    _, label, geometry = scan(160)
    mask = keep_liver(rough(label), 5e4)
    row, theirs, mine = side_by_side(
        lambda: plain.metrics(label, mask, geometry.spacing),
        lambda: calculate_metrics(label, mask, geometry.spacing),
        repeats,
    )
    error = max(abs(mine[name] - value) / abs(value) for name, value in theirs.items())
    return {
        **row,
        'goal': '>= 4 x',
        'reached': row['plain_s'] / row['ours_s'] >= 4 and error <= 1e-6,
        'agreement': f'{error:.0e} relative, {len(theirs)} metrics',
    }


def crf(dimensions, goal, agreement, plain_repeats):
    from Densecrf.crf import refine_in_box
    from Densecrf.crf_settings import CrfSettings
    from utilities.image.bounding_box import bounding_box, count_per_slice
    from utilities.image.post_process import keep_liver

    ct, label, _ = scan(240, thickness=1.0)
    ct, mask = np.clip(ct, *WINDOW), keep_liver(rough(label), 5e4)
    box = bounding_box(count_per_slice(mask), (10, 30, 30))
    ct, mask = ct[box], mask[box]
    row, theirs, mine = side_by_side(
        lambda: refine_in_box(ct, mask, CrfSettings(**CRF, engine='pydensecrf'), dimensions, (0, 0, 0)),
        lambda: refine_in_box(ct, mask, CrfSettings(**CRF), dimensions, (0, 0, 0)),
        3,
        plain_repeats,
    )
    equal, overlap = (theirs == mine).mean(), dice(theirs, mine)
    return (
        {
            **row,
            'goal': f'>= {goal} x',
            'size': f'{mask.size / 1e6:.1f} M voxels, changes {(mine != mask).mean():.2%} of the labels',
            'reached': row['plain_s'] / row['ours_s'] >= goal and equal >= agreement,
            'agreement': f'{equal:.3%} of labels, Dice {overlap:.5f}',
        },
        ct,
        mask,
        overlap,
    )


def off_exact(ct, mask, boxes=6, shape=(16, 26, 26)):
    """Labels of small boxes at the mask's edge that differ from the exact mean field: of 'grid', of pydensecrf; and voxels in all."""
    from Densecrf.crf import dense_crf
    from Densecrf.crf_settings import CrfSettings

    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    off = {'grid': 0, 'pydensecrf': 0}
    for centre in edge[np.random.default_rng(0).choice(len(edge), boxes, replace=False)]:
        corner = [int(np.clip(c - size // 2, 0, n - size)) for c, size, n in zip(centre, shape, mask.shape)]
        box = tuple(slice(c, c + size) for c, size in zip(corner, shape))
        exact = plain.exact_crf(ct[box], mask[box], **CRF)
        for engine in off:
            off[engine] += np.count_nonzero(dense_crf(ct[box], mask[box], CrfSettings(**CRF, engine=engine)) != exact)
    return off['grid'], off['pydensecrf'], boxes * int(np.prod(shape))


def crf_3d(folder, repeats):
    """dense_crf 3D, 20 iterations"""
    row, ct, mask, overlap = crf(3, 15, 0.9995, max(1, repeats - 2))
    ours, theirs, voxels = off_exact(ct, mask)
    return {
        **row,
        'goal': '>= 15 x, 1/8 of the memory, Dice >= 0.9995',
        'reached': row['reached'] and row['plain_mb'] / row['ours_mb'] >= 8 and overlap >= 0.9995,
        'agreement': f'{row["agreement"]}; off the exact mean field in {voxels:,} voxels of small boxes: {ours}, pydensecrf {theirs}',
    }


def crf_2d(folder, repeats):
    """dense_crf 2D, slice by slice, 20 iterations"""
    return crf(2, 6, 0.999, max(1, repeats - 2))[0]


def window(folder, repeats):
    """network, one window of 48 x 256 x 256, eval, CPU float32"""
    from net.ResUNet import ResUNet
    from utilities.inference.devices import choose_devices

    choose_devices('')
    torch.manual_seed(0)
    ours, plainly = ResUNet(training=False), plain.Network().eval()
    plainly.load_state_dict(ours.state_dict())
    ct = torch.randn(1, 1, 48, 256, 256)
    with torch.inference_mode():
        row, theirs, mine = side_by_side(lambda: plainly(ct)[-1], lambda: ours(ct), repeats)
    error = (theirs - mine).abs().max().item()
    return {
        **row,
        'goal': '>= 1.4 x',
        'reached': row['plain_s'] / row['ours_s'] >= 1.4 and error <= 1e-5,
        'agreement': f'{error:.0e}',
    }


def val(folder, network, weights, depth):
    """val.py and the plain way on one phantom, each in a process of its own: seconds, peak memory (all of it), are the masks the same."""
    ct, label, geometry = scan(depth)
    write_volume(folder / 'CT/volume-0.nii', ct, geometry)
    write_volume(folder / 'seg/segmentation-0.nii', label, geometry)
    torch.save(weights, folder / 'weights.pth')
    del ct, label
    row = {}
    for way in ('plain', 'ours', 'whole'):
        row[f'{way}_s'], row[f'{way}_mb'] = as_process([ROOT / 'benchmarks/predict.py', way, network, folder], folder)
    masks = {way: read_volume(folder / way / 'pred-0.nii')[0] for way in ('plain', 'ours', 'whole')}
    same, apart = np.array_equal(masks['ours'], masks['whole']), np.count_nonzero(masks['ours'] != masks['plain'])
    return {
        **row,
        'goal': '<= 2.5 GB',
        'reached': row['ours_mb'] <= 2500 and same,
        'agreement': f'{"identical to" if same else "DIFFERS from"} whole-volume sums; {apart:,} of {masks["ours"].size:,} voxels '
        'from plain',
    }


def val_200(folder, repeats):
    """val.py, 200 x 512 x 512, the ResUNet on the CPU"""
    from net.ResUNet import ResUNet
    from tests.reference.recipe import band_weights

    weights = band_weights(ResUNet(training=False).state_dict())
    return val(folder, 'resunet', {name: torch.from_numpy(tensor) for name, tensor in weights.items()}, 200)


def val_1000(folder, repeats):
    """val.py, 1,000 x 512 x 512, a stand-in for the network"""
    from benchmarks.predict import StandIn

    return val(folder, 'stand_in', StandIn().state_dict(), 1000)


def liver_batch(batch, depth, width, device):
    """(CT, label) of a box of liver in noise, as the Dataset gives them."""
    label = torch.zeros(batch, depth, 2 * width, 2 * width, dtype=torch.uint8, device=device)
    label[:, depth // 4 : -depth // 4, width // 2 : -width // 2, width // 2 : -width // 2] = 1
    return label[:, None, :, ::2, ::2] * 0.3 + 0.1 * torch.randn(batch, 1, depth, width, width, device=device), label


def our_trainer(ct, label):
    """(network, its optimizer, a function that does one training step and returns the four losses)."""
    from loss import LOSSES
    from net.ResUNet import ResUNet
    from utilities.inference.precision import choose_precision
    from utilities.training.deep_supervision import DeepSupervision

    network = ResUNet(training=True, drop_rate=0).to(ct.device)
    supervised = DeepSupervision(network, LOSSES['Tversky'](), choose_precision(ct.device, 'auto'))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step():
        losses = supervised(ct, label, torch.full((len(ct), 1), 1 / len(ct), device=ct.device)).sum(0)
        optimizer.zero_grad()
        (0.33 * losses[:3].sum() + losses[3]).backward()
        optimizer.step()
        return losses.detach()

    return network, optimizer, step


def trainers(batch, depth, width, device):
    """(plain, ours): functions that do one training step of the same weights on the same samples and return the last head's loss."""
    torch.manual_seed(0)
    ct, label = liver_batch(batch, depth, width, device)
    network, _, step = our_trainer(ct, label)
    plainly = plain.Network(drop_rate=0).to(device)
    plainly.load_state_dict(network.state_dict())
    plain_optimizer = torch.optim.Adam(plainly.parameters(), lr=1e-4)

    def plain_step():
        losses = [plain.tversky(head, label.float()) for head in plainly(ct)]
        plain_optimizer.zero_grad()
        (0.33 * sum(losses[:3]) + losses[3]).backward()
        plain_optimizer.step()
        return losses[3].item()

    return plain_step, lambda: step()[3]


def safe_training(folder, repeats):
    """an epoch of 8 training steps, 2 x 16 x 64 x 64, with all that is saved to go on from, beside one that saves nothing"""
    from utilities.base.folder_lock import lock_folder
    from utilities.inference.devices import choose_devices
    from utilities.training.curve import Curve
    from utilities.training.training_state import TrainingState
    from utilities.viewing.training_monitor import Monitor

    network, optimizer, step = our_trainer(*liver_batch(2, 16, 64, choose_devices('')[0]))
    lock_folder(folder, 'module_dir')
    state = TrainingState(folder, network, optimizer, torch.amp.GradScaler(enabled=False), {}, [])
    curve = Curve(folder / 'loss.csv')
    monitor = Monitor(curve)

    def ours():
        state.epoch += 1
        for _ in range(8):
            state.step += 1
            heads = step()
            losses = torch.cat((heads, heads[3:]))
            curve.add(losses, ['volume-0'], epoch=state.epoch, step=state.step, alpha=0.33, learning_rate=1e-4)
        curve.record()
        state.save_best(curve.mean_loss(state.epoch))
        state.save(curve.rows)
        curve.write_csv()
        monitor.draw_figure_if_due()
        state.finish()  # in a training the next steps do not wait for it

    def plainly():
        for _ in range(8):
            step()

    row, _, _ = side_by_side(plainly, ours, 3 * repeats)
    more, written = row['ours_s'] - row['plain_s'], sum(path.stat().st_size for path in folder.iterdir())
    lits = more / (111 / 8 * row['plain_s'])
    return {
        **row,
        'goal': "at most 3% slower at LiTS's 111 steps an epoch",
        'reached': lits <= 0.03,
        'agreement': f'{lits:+.1%} at 111 steps, {more / row["plain_s"]:+.1%} at 8, for {written / 1e6:.0f} MB an epoch',
    }


def monitored_training(folder, repeats):
    """training steps, 2 x 16 x 64 x 64, with all that is shown of them, in visdom too, beside the same that show nothing"""
    from utilities.base.log import log, log_to_file, set_up_log
    from utilities.inference.devices import choose_devices
    from utilities.inference.predict_mask import WindowSettings, predict_mask
    from utilities.training.curve import Curve
    from utilities.viewing.training_monitor import FIGURE_INTERVAL, Monitor
    from utilities.viewing.visdom_front_end import find_static_folder, is_complete

    if not is_complete(find_static_folder()):
        return None
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, ROOT / 'scripts/visdom_server.py', f'--visdom_port={port}'],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'HOME': str(folder)},
    )
    server.stdout.readline()  # it serves
    device = choose_devices('')[0]
    ct, label = liver_batch(2, 16, 64, device)
    network, _, step = our_trainer(ct, label)
    set_up_log()
    log_to_file(folder / 'train_ds.log')
    curve = Curve(folder / 'loss.csv')
    monitor = Monitor(curve, 'http://127.0.0.1', port, {'size': 16})

    def predict(ct, shape):
        network.eval()
        mask = predict_mask(network, ct, shape, WindowSettings(16, 16, 0.5), device)
        network.train()
        return mask

    def plainly(steps):
        for _ in range(steps):
            step()

    def ours(steps):
        for number in range(len(curve.rows) + 1, len(curve.rows) + 1 + steps):
            heads = step()
            curve.add(torch.cat((heads, heads[3:])), ['volume-0'], epoch=1, step=number, alpha=0.33, learning_rate=1e-4)
            if number % 5 == 0:
                curve.record()
                monitor.show_new_rows()
                log.info(f'epoch:1, step:{number}, loss4:{curve.newest()["loss4"]:.3f}')
            if monitor.should_show_sample():
                monitor.show_sample('volume-0', ct[0, 0], label[0], Geometry((1.5, 1.5, 5)), predict, WINDOW)
            if number % 8 == 0:
                curve.write_csv()
                monitor.draw_figure_if_due()

    try:
        plainly(10)
        ours(10)
        several = int(
            1.1 * FIGURE_INTERVAL / measured(lambda: plainly(10))[0] * 10
        )  # what is drawn each minute is drawn once at least
        blocks = [(plainly, several // 2), (ours, several), (plainly, several - several // 2)] * (
            1 if repeats < 5 else 2
        )
        seconds, peak = {plainly: 0, ours: 0}, {plainly: 0, ours: 0}
        for way, steps in blocks:
            took, more, _ = measured(lambda: way(steps))
            seconds[way], peak[way] = seconds[way] + took, max(peak[way], more / 1e6)
        shown = len(monitor.client.panes)
        monitor.close()
    finally:
        server.kill()
        server.wait()
    more = seconds[ours] / seconds[plainly] - 1
    return {
        'plain_s': seconds[plainly],
        'ours_s': seconds[ours],
        'plain_mb': peak[plainly],
        'ours_mb': peak[ours],
        'size': f'{several} steps',
        'goal': 'at most 2% slower',
        'reached': more <= 0.02,
        'agreement': f'{more:+.1%}; {shown} windows of a visdom server beside it, sample, figure and table each minute',
    }


def training(folder, repeats):
    """training step on the CPU, 2 x 16 x 64 x 64"""
    from utilities.inference.devices import choose_devices

    plain_step, ours = trainers(2, 16, 64, choose_devices('')[0])
    curves = np.array([[plain_step(), ours().item()] for _ in range(10)])
    row, _, _ = side_by_side(plain_step, ours, 5 * repeats)
    apart = np.abs(curves[:, 0] - curves[:, 1]).max()
    return {
        **row,
        'goal': '> 1 x',
        'reached': row['plain_s'] > row['ours_s'] and apart <= 1e-3,
        'agreement': f'losses of 10 steps at most {apart:.0e} apart',
    }


def training_lits(folder, repeats):
    """training step on the CPU, 1 x 48 x 256 x 256"""
    from utilities.inference.devices import choose_devices

    network, _, step = our_trainer(*liver_batch(1, 48, 256, choose_devices('')[0]))
    network.drop_rate = 0.3
    steps = repeats - 1
    step()
    seconds, _, _ = measured(lambda: [step() for _ in range(steps)])
    return alone(seconds / steps, memory('VmHWM') / 1e6, f'float32, dropout 0.3; mean of {steps} steps')


def scripts(folder, repeats):
    """whole scripts, cases of 448 x 512 x 512"""
    row = scored_case(folder, *scan(448, thickness=300 / 448))
    several, took = 3, {}
    for cases in (1, several) * 2:  # the first run compiles, so the quicker one counts
        with tempfile.TemporaryDirectory(dir=folder) as place:
            predicted(Path(place), cases, folder, row)
            for script, *options in (
                (
                    'data_prepare/check_dataset.py',
                    'train_ct_path=data/test/CT/',
                    'train_seg_path=data/test/seg/',
                    'test_ct_path=none/',
                ),
                ('Densecrf/2D-CRF.py', 'crf_path=crf2D/'),
                ('Densecrf/3D-CRF.py',),
                ('scripts/draw_figures.py',),
                ('scripts/write_report.py',),
            ):
                run = as_process([ROOT / script, '--visdom_server=', *map('--{}'.format, options)], place)
                took[script, cases] = min(run, took.get((script, cases), run))
    return [
        of_cases(Path(script).name, took[script, 1], took[script, several], several)
        for script, cases in took
        if cases == 1
    ]


def peak_memory(folder, repeats):
    """peak memory of a case"""
    from data_prepare import check_dataset, get_training_set
    from Densecrf.refine_cases import BYTES_PER_VOXEL
    from utilities.run.run_cases import WORKER_BYTES

    rows = []
    for name, stage, bytes_per_voxel, dtype, thickness in (
        ('check', 'check', check_dataset.BYTES, np.int16, 1.0),
        ('check', 'check', check_dataset.BYTES, np.float32, 1.0),
        ('training set, 1 mm', 'prepare', get_training_set.BYTES, np.int16, 1.0),
        ('training set, 1 mm', 'prepare', get_training_set.BYTES, np.float32, 1.0),
        ('training set, 5 mm to 1 mm', 'prepare', get_training_set.BYTES, np.int16, 5.0),
        ('3D CRF', 'crf', BYTES_PER_VOXEL['grid'], np.int16, 1.0),
        ('3D CRF', 'crf', BYTES_PER_VOXEL['grid'], np.float32, 1.0),
    ):
        megabytes = {}
        for depth in (100, 300):
            ct, label, geometry = scan(depth, thickness=thickness)
            scored_case(folder, ct.astype(dtype), label, geometry)
            seconds, megabytes[ct.size] = as_process([ROOT / 'benchmarks/one_case.py', stage, folder], folder)
        rows.append(
            {
                'stage': f'peak memory of a case, {name}, {np.dtype(dtype)}',
                **of_memory(seconds, megabytes, bytes_per_voxel, WORKER_BYTES),
            }
        )
    return rows


def of_memory(seconds, megabytes, bytes_per_voxel, worker_bytes):
    """Row of peaks, {voxels of the CT: MB}, beside what utilities/run/run_cases.py reckons with."""
    small, large = sorted(megabytes)
    slope = (megabytes[large] - megabytes[small]) * 1e6 / (large - small)
    reached = all(1e6 * peak <= worker_bytes + bytes_per_voxel * voxels for voxels, peak in megabytes.items())
    return {
        **alone(
            seconds,
            megabytes[large],
            f'{megabytes[small]:.0f} MB with {small / 1e6:.0f} M voxels, {megabytes[large]:.0f} MB with '
            f'{large / 1e6:.0f} M: {slope:.1f} bytes a voxel',
        ),
        'goal': f'at most {bytes_per_voxel:g} bytes a voxel and {worker_bytes / 1e6:.0f} MB',
        'reached': reached,
    }


def throughput(folder, repeats):
    """cases on 1 and on 2 processes"""
    row, rows = scored_case(folder, *scan(160)), []
    for script, cases, parallel_inside, options in (
        ('data_prepare/get_training_set.py', 80, False, []),
        ('Densecrf/3D-CRF.py', 16, True, []),
        ('Densecrf/2D-CRF.py', 4, False, ['--crf_engine=pydensecrf']),
    ):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            predicted(Path(place), cases, folder, row)
            took = {}
            for turn in range(repeats):
                for way, processes in (('one core', 1), ('1', 1), ('2', 2)):
                    command = [
                        ROOT / script,
                        '--visdom_server=',
                        f'--num_workers={processes}',
                        '--train_ct_path=data/test/CT/',
                        '--train_seg_path=data/test/seg/',
                        *options,
                    ]
                    run = as_process(command, Path(place), 1 if way == 'one core' else None)
                    took[way] = min(run, took.get(way, run))
                    for made in ('train', 'crf'):
                        shutil.rmtree(Path(place, made), ignore_errors=True)
        name = ', '.join([Path(script).name, *options, f'{cases} cases of 160 x 512 x 512'])
        rows.append(of_processes(name, took, parallel_inside))
    return rows


def of_processes(name, took, parallel_inside):
    """Row of a script's (seconds, MB): `took` by 'one core', '1' process and '2' processes."""
    (core_s, _), (one_s, one_mb), (two_s, two_mb) = (took[way] for way in ('one core', '1', '2'))
    return {
        'stage': name,
        'plain_s': one_s,
        'ours_s': two_s,
        'plain_mb': one_mb,
        'ours_mb': two_mb,
        'goal': '' if parallel_inside else '>= 1.7 x',
        'reached': parallel_inside or one_s / two_s >= 1.7,
        'agreement': f'plain: one process{", which takes all cores" * parallel_inside}; ours: two; '
        f'{core_s / two_s:.2f} x one process on one core',
    }


def one_core(folder, repeats):
    """a case on one core"""
    from benchmarks.one_case import prepare, refine
    from utilities.base.environment import limit_threads
    from utilities.run.settings import read_settings

    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    limit_threads(1)
    para, rows = read_settings(['--visdom_server=']), []
    for script, function in (('get_training_set.py', prepare), ('3D-CRF.py', refine)):
        took = {}
        for depth in (160, 448):
            scored_case(folder, *scan(depth, thickness=300 / depth))
            case = Case(folder / 'volume.nii', folder / 'segmentation.nii')
            function(case, folder, para)  # compiles
            took[depth] = sorted(measured(lambda: function(case, folder, para))[0] for _ in range(repeats))[
                repeats // 2
            ]
        rows.append(of_slices(script, took, memory('VmHWM') / 1e6))
    return rows


def first_process(folder, repeats):
    """what a case costs the first process"""
    from utilities.evaluation.tables import write_tables
    from utilities.run import dask_cluster, processes
    from utilities.run.manifest import Manifest
    from utilities.run.settings import read_settings
    from utilities.volumes.checks import check_header

    cases, many = [], 2000
    row = scored_case(folder, *scan(16, 64))
    manifest = Manifest(folder / 'made', {}, 'pred_path')
    for number in range(200):
        case = Case(folder / 'volume.nii', folder / 'segmentation.nii')
        (manifest.folder / f'{number}.nii').write_text('')
        manifest.add(str(number), case.files, [f'{number}.nii'], row)
        cases.append(case)

    def look():
        for number, case in enumerate(cases):
            check_header(case, True, 0.1)
            manifest.done(str(number), case.files)

    def handed_out(engine):
        """Seconds a case of `many` that are no work, without the start: each step returns its case as text."""
        times = []
        for number, _ in engine([(number, f'{number}') for number in range(many)]):
            times.append(time.perf_counter())
        return (times[-1] - times[many // 10]) / (many - 1 - many // 10)

    store = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True)
    look_s = measured(look)[0] / len(cases)
    rank_s = measured(lambda: [store.add('place', 1) for _ in range(many)])[0] / many
    table_s = (
        measured(
            lambda: write_tables(
                folder, 'result', [{**row, 'case': str(number)} for number in range(many)], vars(read_settings([])), []
            )
        )[0]
        / many
    )
    process_s = handed_out(lambda to_do: processes.run_in_processes([str], to_do, None, 2, 1))
    with dask_cluster(folder) as scheduler:
        dask_s = handed_out(lambda to_do: dask_cluster.run_on_cluster([str], to_do, None, 'benchmark', scheduler, 1e6))
    parts = {'look_s': look_s, 'process_s': process_s, 'dask_s': dask_s, 'rank_s': rank_s, 'table_s': table_s}
    remark = (
        'first look {look_s:.2g} ms; handing out: process {process_s:.2g} ms, Dask {dask_s:.2g} ms, torchrun {rank_s:.2g} ms; '
        'row of the tables {table_s:.2g} ms'
    ).format(**{name: 1e3 * seconds for name, seconds in parts.items()})
    return {**parts, **alone(look_s + dask_s + table_s, memory('VmHWM') / 1e6, remark)}


@contextmanager
def dask_cluster(folder):
    """The scheduler file of a Dask cluster of two workers on this machine."""
    scheduler, started = folder / 'scheduler.json', []
    try:
        for kind, options in (
            ('scheduler', ['--host=127.0.0.1', '--port=0', '--no-dashboard']),
            ('worker', ['--nworkers=2', '--nthreads=1', '--no-dashboard', f'--local-directory={folder}']),
        ):
            command = [sys.executable, '-m', f'distributed.cli.dask_{kind}', f'--scheduler-file={scheduler}', *options]
            started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            while not scheduler.exists():
                time.sleep(0.1)
        yield str(scheduler)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def of_slices(script, took, megabytes):
    """Row of a script's seconds for a case, by its slices: what each slice adds, and what a case takes besides."""
    few, many = sorted(took)
    slice_s = (took[many] - took[few]) / (many - few)
    case_s = max(0, took[few] - few * slice_s)
    return {
        'stage': f'{script}, a case of {many} x 512 x 512 on one core',
        'case_s': case_s,
        'slice_s': slice_s,
        **alone(took[many], megabytes, f'{case_s:.2g} s and {1e3 * slice_s:.2g} ms a slice'),
    }


def scored_case(folder, ct, label, geometry):
    """Write volume.nii, segmentation.nii and a prediction, pred.nii, into folder; returns the prediction's row of val.py's table."""
    from utilities.evaluation.tables import score
    from utilities.image.post_process import keep_liver

    before = rough(label)
    mask = keep_liver(before, 5e4)
    for name, volume in (('volume', ct), ('segmentation', label), ('pred', mask)):
        write_volume(folder / f'{name}.nii', volume, geometry)
    return {**score('', label, before, mask, geometry.spacing, 2.0), 'time': 160.0}


def predicted(place, cases, folder, row):
    """At the places of parameter.py, `cases` times the case in folder as val.py leaves it, and a loss.csv of LiTS's length."""
    from utilities.evaluation.tables import write_tables
    from utilities.run.settings import read_settings
    from utilities.training.curve import COLUMNS

    for name, path in (('volume', 'data/test/CT'), ('segmentation', 'data/test/seg'), ('pred', 'pred'), ('', 'module')):
        (place / path).mkdir(parents=True)
        for number in range(cases if name else 0):
            os.link(folder / f'{name}.nii', place / path / f'{name}-{number}.nii')
    rows = [{**row, 'case': f'volume-{number}.nii'} for number in range(cases)]
    write_tables(place / 'pred', 'result', rows, vars(read_settings([])), [], weights='module/net1000-0.028-0.022.pth')
    steps = np.arange(111_000)
    losses = np.random.default_rng(0).uniform(0, 1, len(steps))
    values = {
        'epoch': steps // 111 + 1,
        'step': steps + 1,
        'validation_dice': None,
        'gpu_mb': None,
        'seconds': 0.5 * steps,
    }
    pandas.DataFrame({name: values.get(name, losses) for name in COLUMNS}).to_csv(
        place / 'module/loss.csv', index=False
    )


def as_process(command, folder, cores=None):
    """(seconds, MB at the peak, all of the process) of a Python script with its options, run in `folder`; None: on all cores.

    Of a script that starts processes, the MB of the largest of them.
    """
    Path('/proc/self/clear_refs').write_text('5')  # else a child's peak is at least the highest that this process had
    start = time.perf_counter()
    taken = sorted(os.sched_getaffinity(0))[:cores]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, taken),
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f'{command[0]} ended with status {status}')
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6


def of_cases(script, one, several, cases):
    """Row of a script from its (seconds, MB) with one case and with `cases`: what it takes to start, and what each case adds."""
    case_s = max(0, several[0] - one[0]) / (cases - 1)
    return {
        'stage': f'{script}, {cases} cases of 448 x 512 x 512',
        'start_s': one[0] - case_s,
        'case_s': case_s,
        **alone(*several, f'{one[0] - case_s:.2g} s to start, {case_s:.2g} s a case'),
    }


def alone(seconds, megabytes, remark):
    """Row of what has no plain way beside it, and no goal."""
    return {'ours_s': seconds, 'ours_mb': megabytes, 'goal': '', 'reached': True, 'agreement': remark}


def matrix_rate(n=8192):
    """bf16 operations a second of a product of two n x n matrices on the GPU."""
    a = torch.randn(n, n, dtype=torch.bfloat16, device='cuda')
    seconds, _, _ = min(measured(lambda: [a @ a for _ in range(20)]) for _ in range(5))
    return 20 * 2 * n**3 / seconds


def gpu_training(folder, repeats):
    """training step on a GPU, 48 x 256 x 256"""
    if not torch.cuda.is_available():
        return None
    torch.backends.cudnn.benchmark = True
    plain_step, ours = trainers(1, 48, 256, torch.device('cuda'))
    curves = np.array([[plain_step(), ours().item()] for _ in range(30)])
    with FlopCounterMode(display=False) as counter:
        ours()
    row, _, _ = side_by_side(lambda: [plain_step() for _ in range(10)], lambda: [ours() for _ in range(10)], repeats)
    apart = np.abs(curves[:, 0] - curves[:, 1]).max()
    rate = 10 * counter.get_total_flops() / row['ours_s']
    return {
        **row,
        'goal': '>= 4 x',
        'reached': row['plain_s'] / row['ours_s'] >= 4 and apart <= 0.02,
        'agreement': f'losses of 30 steps at most {apart:.4f} apart; {rate / matrix_rate():.0%} of the bf16 matrix rate',
    }


def gpu_window(folder, repeats):
    """window on a GPU, 48 x 256 x 256"""
    if not torch.cuda.is_available():
        return None
    from net.ResUNet import ResUNet
    from tests.reference.recipe import band_weights
    from utilities.inference.precision import choose_precision
    from utilities.inference.predict_mask import WindowSettings, predict_mask

    torch.backends.cudnn.benchmark = True
    device = torch.device('cuda')
    ours, plainly = ResUNet(training=False), plain.Network().eval()
    weights = {name: torch.from_numpy(tensor) for name, tensor in band_weights(ours.state_dict()).items()}
    for network in (ours, plainly):
        network.load_state_dict(weights)
        network.to(device)
    ct = np.clip(scan(200)[0][:, ::2, ::2], *WINDOW).astype(np.float32) / 200
    precision = choose_precision(device, 'auto')
    row, theirs, mine = side_by_side(
        lambda: plain.window_mean(plainly, ct, 48, 12, device) >= 0.5,
        lambda: predict_mask(ours, ct, (200, 512, 512), WindowSettings(48, 12, 0.5, precision=precision), device),
        repeats,
    )
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        ours(torch.zeros(1, 1, 48, 256, 256, device=device))
    equal, rate = (theirs == mine).mean(), 14 * counter.get_total_flops() / row['ours_s']  # 200 slices are 14 windows
    return {
        **row,
        'goal': '>= 4 x',
        'reached': row['plain_s'] / row['ours_s'] >= 4 and equal >= 0.999,
        'agreement': f'{equal:.3%} of the mask; {rate / matrix_rate():.0%} of the bf16 matrix rate',
    }


STAGES = {
    stage.__name__: stage
    for stage in (
        zoom,
        prepare,
        sample,
        components,
        metrics,
        crf_3d,
        crf_2d,
        window,
        training,
        safe_training,
        monitored_training,
        training_lits,
        val_200,
        val_1000,
        scripts,
        peak_memory,
        throughput,
        one_core,
        first_process,
        gpu_training,
        gpu_window,
    )
}


if __name__ == '__main__':
    function = STAGES[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        rows = function(Path(folder), 5 if '--full' in sys.argv else 3)
    rows = rows if isinstance(rows, list) else [rows]
    print(
        json.dumps(
            [{'stage': function.__doc__, **({**row, 'reached': bool(row['reached'])} if row else {})} for row in rows]
        )
    )
