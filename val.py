"""Predict the liver in whole CT volumes, and score the masks where labels exist.

In:   test_ct_path/volume-N.*, test_seg_path/segmentation-N.* (optional), module_path
Out:  pred_path/pred-N.nii (uint8), result.xlsx, result.csv, summary.json

    python val.py --module_path=module/net1000-0.028-0.022.pth
"""
import time
from pathlib import Path

import numpy as np

from net.ResUNet import ResUNet
from utilities import cases, checkpoint
from utilities.command_line import run
from utilities.device import devices
from utilities.inference import liver_mask
from utilities.post_process import keep_liver
from utilities.precision import precision_on
from utilities.preprocess import normalise, resample_ct
from utilities.tables import print_tables, score, write_tables
from utilities.volume import find_cases, read_ct, read_header, read_label, renamed, require_same_grid, write


def main(para):
    found = find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path)
    network = ResUNet(training=False, down_scale=para.down_scale)
    print(f'weights: {checkpoint.load_weights(network, para.module_path)}')
    device = devices(para.gpu)[0]
    network.to(device)
    precision = precision_on(device, para.precision)
    air = float(normalise(para.lower, para.lower, para.upper))
    pred_path = Path(para.pred_path)

    def load(case):
        start = time.monotonic()
        shape, geometry = read_header(case.ct)
        if case.label:
            require_same_grid(case.label, *read_header(case.label), case.ct, shape, geometry, para.grid_tolerance)
        ct, _ = read_ct(case.ct, para.lower, para.upper)
        z_factor = geometry.spacing[2] / para.test_slice_thickness if para.test_slice_thickness else 1
        small = resample_ct(ct, z_factor, para.down_scale, para.lower, np.float32)
        return normalise(small, para.lower, para.upper), shape, geometry, start

    def predict(case, loaded):
        ct, shape, *rest = loaded
        before = liver_mask(network, ct, shape, para.size, para.stride, para.threshold, device, air, para.window_batch, precision)
        return before, *rest

    def finish(case, predicted):
        before, geometry, start = predicted
        mask = keep_liver(before, para.maximum_hole)
        write(pred_path / f'{renamed(case.name, "pred")}.nii', mask, geometry)
        seconds = time.monotonic() - start
        label = read_label(case.label)[0] if case.label else None
        return {**score(case.ct.name, label, before, mask, geometry.spacing, para.surface_tolerance), 'time': seconds}

    # on a CPU the network takes all cores, and the next case only memory
    rows, failures = cases.run([load, predict, finish], found, 'prediction', overlap=device.type == 'cuda')
    if rows:
        print_tables(*write_tables(pred_path, 'result', rows, vars(para), failures))
    return cases.report(len(rows), failures, pred_path, 'python Densecrf/3D-CRF.py')


if __name__ == '__main__':
    run(main, __doc__)
