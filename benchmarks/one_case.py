"""One case of a CPU stage, for the benchmark to take the peak of its memory: python benchmarks/one_case.py {check,prepare,crf} FOLDER

In:   FOLDER/volume.nii, segmentation.nii, pred.nii
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from data_prepare import check_dataset, get_training_set
from Densecrf import refine_cases
from utilities.run.manifest import Manifest
from utilities.run.parameter_rules import settings_of_stage
from utilities.run.settings import read_settings
from utilities.volumes.cases import Case
from utilities.volumes.read_write import write_volume


def check(case, folder, para):
    check_dataset.check_case(case, 'train', para.size, para.expand_slice, para.slice_thickness, para.grid_tolerance)


def prepare(case, folder, para):
    volumes = get_training_set.training_volumes(
        case, get_training_set.TrainingSetSettings(**settings_of_stage(vars(para), 'training_set'))
    )
    for name, volume in zip(('ct', 'seg'), volumes):
        write_volume(folder / f'{name}.nii', *volume)


def refine(case, folder, para):
    refine_cases.refine_case(
        refine_cases.Prediction(case, folder / 'pred.nii'),
        refine_cases.case_settings(para, 3),
        Manifest(folder / 'crf', {}, 'crf_path'),
    )


if __name__ == '__main__':
    stage, folder = sys.argv[1], Path(sys.argv[2])
    {'check': check, 'prepare': prepare, 'crf': refine}[stage](
        Case(folder / 'volume.nii', folder / 'segmentation.nii'), folder, read_settings([])
    )
