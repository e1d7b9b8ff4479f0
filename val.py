"""Predict the liver in whole CT volumes, and score the masks where labels exist.

In:   test_ct_path/volume-N.*, test_seg_path/segmentation-N.* (optional), module_path
Out:  pred_path/pred-N.nii (uint8), result.xlsx, result.csv, summary.json, val.log, and a record of each case in pred_path/manifest: a case
      predicted before from the same files with the same settings and weights is not predicted again

    python val.py --module_path=module/net1000-0.028-0.022.pth
"""

import time

import numpy as np

from net.ResUNet import ResUNet
from utilities.base import distributed
from utilities.base.log import log, log_to_file
from utilities.evaluation.tables import print_tables, score, write_tables
from utilities.image.post_process import keep_liver
from utilities.image.preprocess import normalise, resample_ct, z_factor
from utilities.inference import checkpoint
from utilities.inference.devices import choose_devices
from utilities.inference.precision import choose_precision
from utilities.inference.predict_mask import WindowSettings, predict_mask
from utilities.run import run_cases, script
from utilities.run.manifest import Manifest, fingerprint
from utilities.run.parameter_rules import settings_of_stage
from utilities.run.script import run_script
from utilities.viewing.case_panes import CasePanes
from utilities.volumes.cases import find_cases, output_name
from utilities.volumes.checks import check_header
from utilities.volumes.read_write import read_ct, read_label, write_volume


def main(para):
    found = find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override)
    network = ResUNet(training=False, down_scale=para.down_scale)
    weights = checkpoint.load_weights(network, para.module_path)
    log.info(f'weights: {weights}')
    loaded = fingerprint(weights)  # as loaded: a training may replace the file meanwhile
    device = choose_devices(para.gpu)[0]
    network.to(device)
    precision = choose_precision(device, para.precision)
    air = float(normalise(para.lower, para.lower, para.upper))
    windows = WindowSettings(para.size, para.stride, para.threshold, air, para.window_batch, precision)
    settings = {'precision': str(precision), **settings_of_stage(vars(para), 'prediction')}
    manifest = Manifest(para.pred_path, settings, 'pred_path')
    log_to_file(manifest.folder / 'val.log')
    server = para.visdom_server if distributed.is_main_process() else ''
    panes = CasePanes(manifest.folder, server, para.visdom_port, vars(para))

    def inputs(case):
        return [*case.files, case.spacing, loaded]

    def check(case):
        return check_header(case, False, para.grid_tolerance)

    def done(case):
        return manifest.done(output_name(case.name, 'pred'), inputs(case))

    def load(case):
        start = time.monotonic()
        ct, geometry = read_ct(case.ct, para.lower, para.upper, case.spacing)
        factor = z_factor(len(ct), geometry.spacing[2], para.test_slice_thickness) if para.test_slice_thickness else 1
        small = resample_ct(ct, factor, para.down_scale, para.lower, np.float32)
        return normalise(small, para.lower, para.upper), ct.shape, geometry, start

    def predict(case, read):
        ct, shape, *rest = read
        return predict_mask(network, ct, shape, windows, device), *rest

    def finish(case, predicted):
        before, geometry, start = predicted
        mask = keep_liver(before, para.maximum_hole)
        name = output_name(case.name, 'pred')
        manifest.start(name, [f'{name}.nii'])
        write_volume(manifest.folder / f'{name}.nii', mask, geometry)
        seconds = time.monotonic() - start
        label = read_label(case.label)[0] if case.label else None
        row = {**score(case.ct.name, label, before, mask, geometry.spacing, para.surface_tolerance), 'time': seconds}
        return manifest.add(name, inputs(case), [f'{name}.nii'], row)

    def show(case, record):
        panes.add(case, {'prediction': manifest.folder / f'{output_name(case.name, "pred")}.nii'}, record['row'])

    # on a CPU the network takes all cores, and the next case only memory
    predicted, failures = run_cases.run_cases(
        [load, predict, finish], found, 'prediction', device.type == 'cuda', check, done, show
    )
    if predicted:
        print_tables(
            *write_tables(
                manifest.folder,
                'result',
                [record['row'] for record in predicted],
                vars(para),
                failures,
                weights=str(weights),
            )
        )
    panes.close()
    return script.report_results(len(predicted), failures, manifest.folder, 'python Densecrf/3D-CRF.py')


if __name__ == '__main__':
    run_script(main, __doc__, under_torchrun=True)
