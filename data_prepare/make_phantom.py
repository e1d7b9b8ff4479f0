"""Make LiTS-shaped phantoms with a known liver, to try everything without the data set.

Out:  phantom_train cases in train_ct_path and train_seg_path, then phantom_test cases in test_ct_path and
      test_seg_path, as volume-N.nii and segmentation-N.nii, with a record of each in the folder manifest/. A folder
      that holds anything else is left alone.

    python data_prepare/make_phantom.py --parameters=experiments/demo.py
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numpy as np

from data_prepare.phantom import phantom
from utilities.run import run_cases, script
from utilities.run.manifest import Manifest
from utilities.run.parameter_rules import settings_of_stage
from utilities.run.script import run_script
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

BYTES = 12  # of memory for each voxel of a phantom, at most
DIRECTION = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)  # rows run to the front, columns to the patient's right


@dataclass(frozen=True)
class PhantomCase:
    """A phantom to be made, its expected number of voxels, and the manifests of the folders for CT and label."""

    number: int
    voxels: int
    ct_manifest: Manifest
    label_manifest: Manifest

    @property
    def name(self) -> str:
        return f'volume-{self.number}'

    @property
    def outputs(self) -> list[tuple[Manifest, str]]:
        """The manifest and the name of the CT and of the label."""
        return [(self.ct_manifest, self.name), (self.label_manifest, f'segmentation-{self.number}')]


def main(para: SimpleNamespace) -> int:
    settings = settings_of_stage(vars(para), 'phantom')
    cases = list_phantoms(para, settings)
    workers = run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES)
    make = partial(make_phantom, **settings)
    results, failures = run_cases.run_cases(make, cases, 'phantoms', find_result=find_finished, workers=workers)
    folders = f'{para.train_ct_path}, {para.train_seg_path}, {para.test_ct_path} and {para.test_seg_path}'
    return script.report_results(len(results), failures, folders, 'python data_prepare/get_training_set.py')


def list_phantoms(para: SimpleNamespace, settings: dict) -> list[PhantomCase]:
    """Return the training cases and then the test cases, numbered from 0."""
    train_ct, train_label, test_ct, test_label = (
        Manifest(getattr(para, parameter), settings, parameter)
        for parameter in ('train_ct_path', 'train_seg_path', 'test_ct_path', 'test_seg_path')
    )
    manifests = [(train_ct, train_label)] * para.phantom_train + [(test_ct, test_label)] * para.phantom_test
    voxels = para.phantom_depth * para.phantom_width**2
    return [PhantomCase(number, voxels, ct, label) for number, (ct, label) in enumerate(manifests)]


def find_finished(case: PhantomCase) -> bool | None:
    """Return True if an earlier run made the CT and the label, else None."""
    records = [manifest.find_finished(name, []) for manifest, name in case.outputs]
    return all(records) or None


def make_phantom(case: PhantomCase, phantom_depth: int, phantom_width: int, seed: int) -> None:
    """Make and write the CT and the label of a phantom, and record them."""
    shape, geometry = make_grid(case.number, phantom_depth, phantom_width, seed)
    volumes = phantom(seed + case.number, shape, geometry.spacing)
    for (manifest, name), volume in zip(case.outputs, volumes):
        file = f'{name}.nii'
        manifest.begin_case(name, [file])
        write_volume(manifest.folder / file, volume[:, ::-1, ::-1], geometry)  # reversed, as DIRECTION says
        manifest.finish_case(name, [], [file])


def make_grid(number: int, depth: int, width: int, seed: int) -> tuple[tuple[int, int, int], Geometry]:
    """Return the shape (z, y, x) and the Geometry of a phantom.

    Slice thickness, pixel size and number of slices differ from case to case, as in LiTS.

    Args:
        number: of the case.
        depth: mean number of slices.
        width: rows and columns.
        seed: of the run.
    """
    rng = np.random.default_rng([seed, number, 7])
    slices = max(16, round(depth * rng.uniform(0.8, 1.2)))
    field_of_view = rng.uniform(330, 420)  # mm
    spacing = (field_of_view / width, field_of_view / width, 300 / slices)
    return (slices, width, width), Geometry(spacing, tuple(rng.uniform(-200, 200, 3).round(1)), DIRECTION)


if __name__ == '__main__':
    run_script(main, __doc__)
