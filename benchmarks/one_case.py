"""Run one case of a CPU stage, in a process whose peak memory can be measured.

In:   FOLDER/volume.nii, FOLDER/segmentation.nii, FOLDER/pred.nii
Out:  FOLDER/ct.nii and FOLDER/seg.nii (prepare), FOLDER/crf/crf.nii (crf)

    python benchmarks/one_case.py check|prepare|crf FOLDER
"""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

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


def check(case: Case, folder: Path, para: SimpleNamespace) -> None:
    check_dataset.check_case(case, 'train', para.size, para.expand_slice, para.slice_thickness, para.grid_tolerance)


def prepare(case: Case, folder: Path, para: SimpleNamespace) -> None:
    settings = get_training_set.TrainingSetSettings(**settings_of_stage(vars(para), 'training_set'))
    ct, label = get_training_set.training_volumes(case, settings)
    write_volume(folder / 'ct.nii', *ct)
    write_volume(folder / 'seg.nii', *label)


def refine(case: Case, folder: Path, para: SimpleNamespace) -> None:
    prediction = refine_cases.Prediction(case, folder / 'pred.nii')
    manifest = Manifest(folder / 'crf', {}, 'crf_path')
    refine_cases.refine_case(prediction, refine_cases.case_settings(para, 3), manifest)


FUNCTIONS = {'check': check, 'prepare': prepare, 'crf': refine}


def main(name: str, folder: Path) -> None:
    case = Case(folder / 'volume.nii', folder / 'segmentation.nii')
    FUNCTIONS[name](case, folder, read_settings([]))


if __name__ == '__main__':
    main(sys.argv[1], Path(sys.argv[2]))
