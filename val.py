"""Predict the liver in whole CT volumes, and score the masks where labels exist.

In:   test_ct_path/volume-N.*, test_seg_path/segmentation-N.* (optional), module_path
Out:  in pred_path: pred-N.nii (uint8), result.xlsx, result.csv, summary.json, val.log, and in manifest/ a record of
      each case: one that was predicted before from the same files, settings and weights is not predicted again

    python val.py --module_path=module/net1000-0.028-0.022.pth
"""

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numpy as np
import torch

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
from utilities.volumes.cases import Case, find_cases, output_name
from utilities.volumes.checks import check_header
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import read_ct, read_label, write_volume


def main(para: SimpleNamespace) -> int:
    cases = find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override)
    network = ResUNet(training=False, down_scale=para.down_scale)
    weights_path = checkpoint.load_weights(network, para.module_path)
    log.info(f'weights: {weights_path}')
    # The fingerprint is taken now, since a training may replace the file before a case is recorded.
    weights_fingerprint = fingerprint(weights_path)
    device = choose_devices(para.gpu)[0]
    precision = choose_precision(device, para.precision)
    settings = {'precision': str(precision), **settings_of_stage(vars(para), 'prediction')}
    manifest = Manifest(para.pred_path, settings, 'pred_path')
    log_to_file(manifest.folder / 'val.log')
    air = float(normalise(para.lower, para.lower, para.upper))
    windows = WindowSettings(para.size, para.stride, para.threshold, air, para.window_batch, precision)
    prediction = Prediction(para, network.to(device), windows, device, manifest, weights_fingerprint)
    visdom_server = para.visdom_server if distributed.is_main_process() else ''
    panes = CasePanes(manifest.folder, visdom_server, para.visdom_port, vars(para))

    records, failures = run_cases.run_cases(
        [prediction.load, prediction.predict, prediction.finish],
        cases,
        'prediction',
        # On a CPU the network uses all cores, and the next case would only take memory.
        overlap=device.type == 'cuda',
        check_case=partial(check_header, is_label_wanted=False, grid_tolerance=para.grid_tolerance),
        find_result=prediction.earlier_record,
        on_result=lambda case, record: panes.add(case, {'prediction': prediction.mask_path(case)}, record['row']),
    )
    if records:
        rows = [record['row'] for record in records]
        weights = str(weights_path)
        print_tables(*write_tables(manifest.folder, 'result', rows, vars(para), failures, weights=weights))
    panes.close()
    return script.report_results(len(records), failures, manifest.folder, 'python Densecrf/3D-CRF.py')


class Prediction:
    """Predict the mask of a case in three steps, which may overlap for different cases: load, predict, finish.

    Args:
        para: the settings of the run.
        network: the network, on its device.
        windows: how the network runs over a volume.
        device: device of the network.
        manifest: the Manifest of pred_path.
        weights_fingerprint: fingerprint of the file of weights. A mask of an earlier run is kept if this, the settings
            and the files of its case are the same.
    """

    def __init__(
        self,
        para: SimpleNamespace,
        network: ResUNet,
        windows: WindowSettings,
        device: torch.device,
        manifest: Manifest,
        weights_fingerprint: list,
    ) -> None:
        self.para, self.network, self.windows, self.device = para, network, windows, device
        self.manifest, self.weights_fingerprint = manifest, weights_fingerprint

    def load(self, case: Case) -> tuple[np.ndarray, tuple[int, ...], Geometry, float]:
        """Return the CT as the network takes it, its shape and Geometry as stored, and the time at the start."""
        para, start_time = self.para, time.monotonic()
        ct, geometry = read_ct(case.ct, para.lower, para.upper, case.spacing)
        factor = 1
        if para.test_slice_thickness:
            factor = z_factor(len(ct), geometry.spacing[2], para.test_slice_thickness)
        resampled = resample_ct(ct, factor, para.down_scale, para.lower, np.float32)
        return normalise(resampled, para.lower, para.upper), ct.shape, geometry, start_time

    def predict(self, case: Case, loaded: tuple) -> tuple[np.ndarray, Geometry, float]:
        """Return the mask before post-processing; Geometry and start time are passed on."""
        ct, shape, geometry, start_time = loaded
        return predict_mask(self.network, ct, shape, self.windows, self.device), geometry, start_time

    def finish(self, case: Case, predicted: tuple) -> dict:
        """Post-process, write and score the mask, and return the record of the case."""
        mask_before, geometry, start_time = predicted
        mask = keep_liver(mask_before, self.para.maximum_hole)
        path = self.mask_path(case)
        self.manifest.begin_case(output_name(case.name, 'pred'), [path.name])
        write_volume(path, mask, geometry)
        seconds = time.monotonic() - start_time
        label = read_label(case.label)[0] if case.label else None
        row = score(case.ct.name, label, mask_before, mask, geometry.spacing, self.para.surface_tolerance)
        row['time'] = seconds
        return self.manifest.finish_case(output_name(case.name, 'pred'), self.inputs(case), [path.name], row)

    def earlier_record(self, case: Case) -> dict | None:
        """Return the record of a case whose mask is up to date, else None."""
        return self.manifest.find_finished(output_name(case.name, 'pred'), self.inputs(case))

    def inputs(self, case: Case) -> list:
        """Return what the mask of a case is made from."""
        return [*case.files, case.spacing, self.weights_fingerprint]

    def mask_path(self, case: Case) -> Path:
        """Return the path of the mask of a case."""
        return self.manifest.folder / f'{output_name(case.name, "pred")}.nii'


if __name__ == '__main__':
    run_script(main, __doc__, under_torchrun=True)
