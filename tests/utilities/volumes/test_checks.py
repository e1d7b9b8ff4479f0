"""What is wrong with a case: every finding, and none where there is nothing to find."""

import numpy as np
import pytest
import SimpleITK as sitk

from utilities.base.errors import InputError
from utilities.volumes.cases import Case
from utilities.volumes.checks import check_header, check_hu, check_label, orientation
from utilities.volumes.formats import VolumeFormat
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

SOUND = Geometry((0.7, 0.7, 2.5))


def case(folder, shape=(4, 6, 5), geometry=SOUND, label_shape=None, label_geometry=None, spacing=None):
    write_volume(folder / 'volume-1.nii', np.zeros(shape, np.int16), geometry)
    write_volume(folder / 'segmentation-1.nii', np.zeros(label_shape or shape, np.uint8), label_geometry or geometry)
    return Case(folder / 'volume-1.nii', folder / 'segmentation-1.nii', spacing)


def test_a_sound_case_has_no_warning_and_no_voxel_is_read(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError('voxels were read')

    monkeypatch.setattr(VolumeFormat, 'read_voxels', refuse)
    monkeypatch.setattr(VolumeFormat, 'read_slices', refuse)
    assert check_header(case(tmp_path), True, 0.1) == []


def test_a_label_is_an_error_where_it_is_wanted_alone(tmp_path):
    alone = Case(case(tmp_path).ct, None)
    assert check_header(alone, False, 0.1) == []
    with pytest.raises(InputError, match='wanted a label segmentation-1'):
        check_header(alone, True, 0.1)


@pytest.mark.parametrize(
    'wrong, message',
    [
        ({'label_shape': (4, 6, 6)}, r'\(4, 6, 6\)'),
        ({'label_geometry': Geometry((0.7, 0.7, 2.6))}, 'grid'),
        ({'label_geometry': Geometry((0.7, 0.7, 2.5), (0, 0.2, 0))}, 'grid'),
        ({'label_geometry': Geometry((0.7, 0.7, 2.5), (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))}, 'grid'),
    ],
)
def test_label_on_another_grid(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        check_header(case(tmp_path, **wrong), True, 0.1)


def test_false_spacing_of_3dircadb(tmp_path):
    shape = (2, 512, 512)
    assert 'spacing_override' in check_header(case(tmp_path, shape, Geometry((1, 1, 1))), True, 0.1)[0]
    assert check_header(case(tmp_path, shape, Geometry((1, 1, 1)), spacing=(0.7, 0.7, 1.25)), True, 0.1) == []
    assert check_header(case(tmp_path, shape, Geometry((0.7, 0.7, 1))), True, 0.1) == []


def test_slices_that_are_not_axial(tmp_path):
    coronal = Geometry((0.7, 0.7, 2.5), (0, 0, 0), (1, 0, 0, 0, 0, 1, 0, -1, 0))
    assert 'LIP' in check_header(case(tmp_path, geometry=coronal), True, 0.1)[0]


def test_orientation_is_simpleitks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
        axes[0] *= round(np.linalg.det(axes))
        image = sitk.Image(3, 3, 3, sitk.sitkUInt8)
        image.SetDirection(axes.ravel())
        wanted = orientation(Geometry((1, 1, 1), (0, 0, 0), tuple(axes.ravel())))
        assert sitk.DICOMOrient(image, wanted).GetDirection() == image.GetDirection()


@pytest.mark.parametrize(
    'low, high, error, warning',
    [
        (-1024, 3071, '', ''),
        (-200, 200, '', ''),
        (-3024, 1500, '', ''),
        (0, 3000, '-1024', ''),
        (0, 1501, '-1024', ''),
        (24, 4095, '-1024', ''),
        (0, 255, 'picture', ''),
        (0, 1, 'picture', ''),
        (-1, 1, 'picture', ''),
        (7, 7, 'every voxel is 7', ''),
        (0, 900, '', 'air'),
    ],
)
def test_values_that_are_no_hu(low, high, error, warning):
    errors, warnings = check_hu(low, high)
    assert len(errors) == bool(error) and error in ''.join(errors)
    assert len(warnings) == bool(warning) and warning in ''.join(warnings)


def label(*places, value=1, kind=np.uint8):
    array = np.zeros((5, 6, 7), kind)
    for place in places:
        array[place] = value
    return array


@pytest.mark.parametrize(
    'array, errors, warnings',
    [
        (label((2, 3, 3)), '', ''),
        (label((2, 3, 3), value=2.0, kind=np.float32), '', ''),
        (label(), 'no liver', ''),
        (label((2, 3, 3), value=0.4, kind=np.float32), 'no liver', ''),
        (label((2, 3, 3), value=255), 'labels other than 0, 1 and 2: 255', ''),
        (label((2, 3, 3), value=0.7, kind=np.float64), '0.7', ''),
        (label((0, 3, 3)), '', 'first slice'),
        (label((4, 3, 3)), '', 'last slice'),
        (label((2, 0, 3)), '', 'edge'),
        (label((2, 5, 3)), '', 'edge'),
        (label((2, 3, 0)), '', 'edge'),
        (label((2, 3, 6)), '', 'edge'),
    ],
)
def test_labels_that_are_odd(array, errors, warnings):
    found = check_label(array)
    for wanted, got in zip((errors, warnings), found):
        assert len(got) == bool(wanted) and wanted in ''.join(got)
    assert found[2].tolist() == (np.rint(array) > 0).sum((1, 2)).tolist()
