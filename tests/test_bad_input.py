"""Scripts with bad input: one clear line, exit status 1, the other cases finished, no file half-written."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from net.ResUNet import ResUNet
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

GEOMETRY = Geometry((1.5, 1.5, 2.0))
SHAPE = (24, 32, 32)


def write_training_case(folder, number, shape=SHAPE, geometry=GEOMETRY, liver_slices=slice(4, 20)):
    """Write a CT of 100 HU in the liver and 0 HU elsewhere, and its label."""
    label = np.zeros(shape, np.uint8)
    label[liver_slices, 8:24, 8:24] = 1
    write_volume(folder / f'data/train/CT/volume-{number}.nii', (label * 100).astype(np.int16), geometry)
    write_volume(folder / f'data/train/seg/segmentation-{number}.nii', label, geometry)


def remove_label(folder):
    (folder / 'data/train/seg/segmentation-1.nii').unlink()


def write_label_of_other_shape(folder):
    write_volume(folder / 'data/train/seg/segmentation-1.nii', np.ones((23, 32, 32), np.uint8), GEOMETRY)


def write_label_of_other_spacing(folder):
    write_volume(folder / 'data/train/seg/segmentation-1.nii', np.ones(SHAPE, np.uint8), Geometry((1.5, 1.5, 2.5)))


def write_2d_image(folder):
    write_image(folder, np.zeros((16, 16), np.int16))


def write_4d_image(folder):
    write_image(folder, np.zeros((2, 3, 16, 16), np.int16))


def write_image(folder, array):
    image = sitk.GetImageFromArray(array, isVector=False)
    sitk.WriteImage(image, str(folder / 'data/train/CT/volume-1.nii'))


def cut_file(folder):
    path = folder / 'data/train/CT/volume-1.nii'
    path.write_bytes(path.read_bytes()[:9000])


def write_nan(folder):
    array = np.zeros(SHAPE, np.float32)
    array[0, 0, 0] = np.nan
    write_volume(folder / 'data/train/CT/volume-1.nii', array, GEOMETRY)


def write_case_without_liver(folder):
    write_training_case(folder, 1, liver_slices=slice(0, 0))


def write_case_of_three_slices(folder):
    write_training_case(folder, 1, shape=(3, 32, 32), liver_slices=slice(1, 2))


def failed_lines(done):
    """Return the lines of a completed script that name a failed case."""
    return [line for line in done.stdout.splitlines() if line.startswith('failed:')]


@pytest.mark.parametrize(
    'spoil_case, message',
    [
        (remove_label, 'segmentation-1'),
        (write_label_of_other_shape, '(23, 32, 32)'),
        (write_label_of_other_spacing, 'corners'),
        (write_2d_image, '2D'),
        (write_4d_image, '4D'),
        (cut_file, 'cut short'),
        (write_nan, 'NaN'),
        (write_case_without_liver, 'holds no liver'),
        (write_case_of_three_slices, 'wanted 16 slices'),
    ],
)
def test_a_bad_case_does_not_stop_the_others(tmp_path, script, spoil_case, message):
    write_training_case(tmp_path, 1)
    write_training_case(tmp_path, 2)
    spoil_case(tmp_path)
    done = script('data_prepare/get_training_set.py', size=16)
    failed = failed_lines(done)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert len(failed) == 1 and message in failed[0] and 'volume-1' in failed[0]
    assert sorted(path.name for path in (tmp_path / 'train').rglob('*') if path.is_file()) == [
        '.lock',
        'get_training_set.log',
        'segmentation-2.nii',
        'volume-2.json',
        'volume-2.nii',
    ]


@pytest.mark.parametrize(
    'name', ['data_prepare/get_training_set.py', 'train_ds.py', 'val.py', 'Densecrf/3D-CRF.py', 'Densecrf/2D-CRF.py']
)
@pytest.mark.parametrize('empty', [False, True])
def test_missing_and_empty_folders_are_one_line(tmp_path, script, name, empty):
    if empty:
        for folder in ('data/train/CT', 'data/test/CT', 'train/ct', 'pred'):
            (tmp_path / folder).mkdir(parents=True)
    before = sorted(tmp_path.rglob('*'))
    done = script(name)
    assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert ('found none' if empty else 'no such folder') in done.stderr
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize(
    'name, parameter, value, suggested',
    [('train_ds.py', 'loss', 'dice', 'Dice'), ('Densecrf/3D-CRF.py', 'crf_engine', 'gird', 'grid')],
)
def test_an_unknown_loss_or_engine_is_one_line(tmp_path, script, name, parameter, value, suggested):
    done = script(name, **{parameter: value})
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    assert done.stderr.startswith(f'error: parameter {parameter}: wanted one of ')
    assert done.stderr.endswith(f'got {value!r}; did you mean {suggested!r}?\n')
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused(lits, script):
    torch.save({k: v for k, v in ResUNet(training=False).state_dict().items() if 'map4' not in k}, lits / 'a.pth')
    done = script('val.py', module_path='a.pth', size=16, stride=4)
    assert done.returncode == 1 and 'map4.0.weight' in done.stderr and 'Traceback' not in done.stderr
    assert not (lits / 'pred').exists()


def test_a_folder_that_is_not_ours_is_left_alone(lits, script):
    (lits / 'train').mkdir()
    (lits / 'train/thesis.tex').write_text('years of work')
    done = script('data_prepare/get_training_set.py', size=16)
    assert done.returncode == 1 and 'did not make' in done.stderr
    assert [p.name for p in (lits / 'train').iterdir()] == ['thesis.tex']


def test_finished_cases_are_not_made_again_and_other_settings_replace_them(lits, script):
    script('data_prepare/get_training_set.py', size=16)
    file = lits / 'train/ct/volume-1.nii'
    first = file.stat().st_mtime_ns
    script('data_prepare/get_training_set.py', size=16)
    assert file.stat().st_mtime_ns == first
    script('data_prepare/get_training_set.py', size=16, expand_slice=3)
    assert file.stat().st_mtime_ns != first


def test_a_case_thinner_than_slice_thickness_is_refused(tmp_path, script):
    write_training_case(tmp_path, 1, geometry=Geometry((1.5, 1.5, 0.002)))  # 0.05 mm from end to end
    write_training_case(tmp_path, 2, liver_slices=slice(9, 10))
    done = script('data_prepare/get_training_set.py', size=16, slice_thickness=40, expand_slice=0)
    failed = failed_lines(done)
    assert done.returncode == 1 and 'Traceback' not in done.stderr and len(failed) == 2
    assert all('wanted 16 slices of 40 mm around the liver, got ' in line for line in failed)
