"""Make LiTS-shaped phantoms with a known liver, to try everything without the data set.

Out:  phantom_train cases in train_ct_path and train_seg_path, phantom_test more in test_ct_path and test_seg_path,
      as volume-N.nii and segmentation-N.nii, with a record of each in manifest/; a folder that holds anything else is left alone

    python data_prepare/make_phantom.py --parameters=experiments/demo.py
"""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from data_prepare.phantom import phantom
from utilities.run import run_cases, script
from utilities.run.manifest import Manifest
from utilities.run.parameter_rules import settings_of_stage
from utilities.run.script import run_script
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

BYTES = 12  # of memory for a voxel, at most
DIRECTION = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)  # rows run to the front, columns to the patient's right


def main(para):
    settings = settings_of_stage(vars(para), 'phantom')
    numbers = range(para.phantom_train + para.phantom_test)
    folders = {}
    for path, name in (
        (para.train_ct_path, 'train_ct_path'),
        (para.train_seg_path, 'train_seg_path'),
        (para.test_ct_path, 'test_ct_path'),
        (para.test_seg_path, 'test_seg_path'),
    ):
        folders[name] = Manifest(path, settings, name)

    def places(case):
        group = 'train' if case.number < para.phantom_train else 'test'
        return (folders[f'{group}_ct_path'], f'volume-{case.number}'), (
            folders[f'{group}_seg_path'],
            f'segmentation-{case.number}',
        )

    def done(case):
        return all([manifest.done(name, []) for manifest, name in places(case)]) or None

    def make(case):
        shape, geometry = grid(case.number, para.phantom_depth, para.phantom_width, para.seed)
        volumes = phantom(para.seed + case.number, shape, geometry.spacing)
        for (manifest, name), volume in zip(places(case), volumes):
            file = f'{name}.nii'
            manifest.start(name, [file])
            write_volume(manifest.folder / file, volume[:, ::-1, ::-1], geometry)  # as DIRECTION has it
            manifest.add(name, [], [file])

    voxels = para.phantom_depth * para.phantom_width**2
    numbered = [SimpleNamespace(number=number, name=f'volume-{number}', voxels=voxels) for number in numbers]
    workers = run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES)
    results, failures = run_cases.run_cases(make, numbered, 'phantoms', done=done, workers=workers)
    wrote = f'{para.train_ct_path}, {para.train_seg_path}, {para.test_ct_path} and {para.test_seg_path}'
    return script.report_results(len(results), failures, wrote, 'python data_prepare/get_training_set.py')


def grid(number, depth, width, seed):
    """Shape (z, y, x) and Geometry of a phantom: thickness, pixel size and depth differ from case to case, as in LiTS."""
    rng = np.random.default_rng([seed, number, 7])
    z, y, x = max(16, round(depth * rng.uniform(0.8, 1.2))), width, width
    body = rng.uniform(330, 420)  # mm, the field of view
    spacing = (body / x, body / y, 300 / z)
    return (z, y, x), Geometry(spacing, tuple(rng.uniform(-200, 200, 3).round(1)), DIRECTION)


if __name__ == '__main__':
    run_script(main, __doc__)
