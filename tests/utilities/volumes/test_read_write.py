"""Reading, writing, pairing, geometry."""

import errno
import resource

import numpy as np
import pytest
import SimpleITK as sitk

from tests.utilities.volumes.sample_volumes import OBLIQUE, SINGLE_FILES
from utilities.base.atomic_write import PART, atomic_write
from utilities.base.errors import InputError
from utilities.volumes import read_write
from utilities.volumes.cases import find_cases, find_volumes, output_name
from utilities.volumes.geometry import Geometry, patient_view, require_same_grid
from utilities.volumes.read_write import read_ct, read_header, read_label, read_volume, write_volume


@pytest.mark.parametrize('ending', SINGLE_FILES)
@pytest.mark.parametrize('kind', [np.int16, np.int32, np.float32, np.uint8])
def test_round_trip(tmp_path, ending, kind):
    array = np.random.default_rng(1).integers(0, 200, (4, 6, 5)).astype(kind)
    write_volume(tmp_path / f'volume-1{ending}', array, OBLIQUE)
    again, geometry = read_volume(tmp_path / f'volume-1{ending}')
    np.testing.assert_array_equal(again, array)
    np.testing.assert_allclose(geometry.spacing, OBLIQUE.spacing, rtol=1e-6)
    np.testing.assert_allclose(geometry.direction, OBLIQUE.direction, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == [f'volume-1{ending}']  # nothing half-written beside it


@pytest.mark.parametrize('ending', ['.hdr', '.img', '.nhdr', '.mhd', '.raw', ''])
def test_only_one_file_is_written(tmp_path, ending):
    with pytest.raises(InputError, match=f'volume-1{ending}: wanted a name that ends in .nii.gz'):
        write_volume(tmp_path / f'volume-1{ending}', np.zeros((2, 2, 2), np.int16), OBLIQUE)
    assert not list(tmp_path.iterdir())


def test_ct_is_clipped_before_the_cast(tmp_path):
    write_volume(tmp_path / 'volume-1.nii', np.full((2, 2, 2), 70000, np.int32), OBLIQUE)
    assert (read_ct(tmp_path / 'volume-1.nii', -200, 200)[0] == 200).all()
    write_volume(tmp_path / 'volume-2.nii', np.full((2, 2, 2), 5, np.uint8), OBLIQUE)
    assert (read_ct(tmp_path / 'volume-2.nii', -200, 200)[0] == 5).all()


def test_rescaled_nifti_is_in_hu(tmp_path):
    import nibabel

    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / 'volume-1.nii')
    array, _ = read_volume(tmp_path / 'volume-1.nii')
    np.testing.assert_allclose(array, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / 'volume-1.nii'))))


def test_labels_above_0_are_liver(tmp_path):
    write_volume(tmp_path / 's.nii', np.array([[[0, 1, 2]]], np.uint8), OBLIQUE)
    assert read_label(tmp_path / 's.nii')[0].tolist() == [[[0, 1, 1]]]


def test_pairs_with_any_ending_in_natural_order(tmp_path):
    """Reference #32: .nii.gz input."""
    for number, (first, second) in enumerate(zip(SINGLE_FILES, reversed(SINGLE_FILES)), 8):
        write_volume(tmp_path / f'ct/volume-{number}{first}', np.zeros((2, 2, 2), np.int16), OBLIQUE)
        write_volume(tmp_path / f'seg/segmentation-{number}{second}', np.zeros((2, 2, 2), np.uint8), OBLIQUE)
    cases = find_cases(tmp_path / 'ct', 'ct', tmp_path / 'seg')
    assert [c.name for c in cases] == ['volume-8', 'volume-9', 'volume-10', 'volume-11']
    assert all(c.label.name.startswith(f'segmentation-{c.name[7:]}.') for c in cases)
    assert output_name(cases[0].name, 'pred') == 'pred-8'


def test_ct_and_labels_in_one_folder(tmp_path):
    for name in ('volume-2.nii', 'segmentation-2.nii', 'volume-3.nii', 'patient.nii', '._volume-2.nii', 'notes.txt'):
        (tmp_path / name).touch()
    cases = find_cases(tmp_path, 'ct', tmp_path)
    assert [(c.ct.name, c.label and c.label.name) for c in cases] == [
        ('patient.nii', None),
        ('volume-2.nii', 'segmentation-2.nii'),
        ('volume-3.nii', None),
    ]


def test_folders_that_are_wrong(tmp_path):
    with pytest.raises(InputError, match='train_ct_path'):
        find_volumes(tmp_path / 'none', 'train_ct_path')
    with pytest.raises(InputError, match='found none'):
        find_volumes(tmp_path, 'train_ct_path')
    for name in ('volume-1.nii', 'volume-1.nii.gz'):
        write_volume(tmp_path / name, np.zeros((2, 2, 2), np.int16), OBLIQUE)
    with pytest.raises(InputError, match='same case'):
        find_volumes(tmp_path, 'train_ct_path')


@pytest.mark.parametrize('ending', SINGLE_FILES)
def test_files_cut_short(tmp_path, ending):
    path = tmp_path / f'volume-1{ending}'
    write_volume(path, np.random.default_rng(0).integers(-99, 99, (9, 9, 9)).astype(np.int16), OBLIQUE)
    whole = path.read_bytes()
    for length in (0, 90, 300, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match='volume-1'):
            read_volume(path)


@pytest.mark.parametrize(
    'array, message',
    [
        (np.zeros((4, 4), np.int16), '2D'),
        (np.zeros((2, 3, 4, 4), np.int16), '4D'),
        (np.full((3, 3, 3), np.nan, np.float32), '27 NaN'),
    ],
)
def test_what_is_no_finite_volume(tmp_path, array, message):
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(tmp_path / 'volume-1.nii'))
    with pytest.raises(InputError, match=message):
        read_volume(tmp_path / 'volume-1.nii')


def test_geometry_with_a_pencil():
    g = Geometry((2, 3, 4), (10, 20, 30), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    assert g.position((1, 1, 1)).tolist() == [8, 17, 34]
    assert g.cropped((5, 0, 0)).origin == (10, 20, 50)
    assert g.resampled((11, 7, 5), (21, 4, 3)).spacing == (4, 6, 2)  # end points aligned: (n - 1) / (m - 1)
    assert g.corner_distance(Geometry((2, 3, 4.5), g.origin, g.direction), (11, 7, 5)) == pytest.approx(5)


def test_patient_view_is_simpleitks():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for signs in ((1, 1, 1), (-1, -1, 1), (1, -1, -1)):
        direction = tuple(np.diag(signs).ravel().astype(float))
        image = sitk.GetImageFromArray(array)
        image.SetDirection(direction)
        wanted = sitk.GetArrayFromImage(sitk.DICOMOrient(image, 'LPS'))
        np.testing.assert_array_equal(patient_view(array, Geometry((1, 1, 1), (0, 0, 0), direction)), wanted)


def test_another_grid_is_named(tmp_path):
    path = tmp_path / 'volume-1.nii'
    moved = Geometry(OBLIQUE.spacing, (-170.0, 12.0, 36.0), OBLIQUE.direction)
    with pytest.raises(InputError, match='segmentation-1.*corners 2.5 mm'):
        require_same_grid(tmp_path / 'segmentation-1.nii', (4, 4, 4), moved, path, (4, 4, 4), OBLIQUE, 0.1)
    with pytest.raises(InputError, match=r'\(4, 4, 5\)'):
        require_same_grid(path, (4, 4, 5), OBLIQUE, path, (4, 4, 4), OBLIQUE, 0.1)
    require_same_grid(path, (4, 4, 4), moved, path, (4, 4, 4), OBLIQUE, 3)


@pytest.fixture
def file_limit():
    """file_limit(bytes): no file of this process may grow beyond; the limit is lifted at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize('late', [False, True])
@pytest.mark.parametrize('ending', SINGLE_FILES)
def test_no_room_is_an_error_with_its_errno_and_leaves_nothing(tmp_path, file_limit, monkeypatch, ending, late):
    """late: the room was there when it was asked for, and went while ITK wrote, which of NIfTI is no error to ITK."""
    array = np.random.default_rng(0).integers(-999, 999, (9, 64, 64)).astype(np.int16)
    if late:
        asked, reserve = [], read_write.reserve_space
        monkeypatch.setattr(
            read_write, 'reserve_space', lambda *arguments: reserve(*arguments) if asked else asked.append(1)
        )
    write_volume(tmp_path / f'volume-1{ending}', array[:1], OBLIQUE)
    before = (tmp_path / f'volume-1{ending}').read_bytes()
    if late:
        asked.clear()
    file_limit(20000)
    with pytest.raises(OSError, match=f'volume-1{ending}') as error:
        write_volume(tmp_path / f'volume-1{ending}', array, OBLIQUE)
    assert error.value.errno == errno.EFBIG
    assert [p.name for p in tmp_path.iterdir()] == [f'volume-1{ending}']
    assert (tmp_path / f'volume-1{ending}').read_bytes() == before


def test_a_whole_file_that_fails_leaves_no_part(tmp_path):
    (tmp_path / 'taken').mkdir()
    with pytest.raises(OSError), atomic_write(tmp_path / 'taken') as part:
        assert PART.fullmatch(part.name)
        part.write_text('new')
    with pytest.raises(OSError), atomic_write(tmp_path / 'never'):
        pass  # nothing written: nothing to flush
    with pytest.raises(KeyError), atomic_write(tmp_path / 'never') as part:
        part.write_text('half')
        raise KeyError
    with pytest.raises(OSError, match='never') as error, atomic_write(tmp_path / 'never') as part:
        raise OSError(errno.ENOSPC, 'No space left on device')  # as a write to an open file tells it: without its name
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match='of a library'), atomic_write(tmp_path / 'never'):
        raise OSError('of a library')
    assert [p.name for p in tmp_path.iterdir()] == ['taken']


def test_spacing_that_overrides_the_headers(tmp_path):
    write_volume(tmp_path / 'ct/volume-28.nii', np.zeros((2, 3, 4), np.int16), Geometry((1, 1, 1)))
    write_volume(tmp_path / 'ct/volume-29.nii', np.zeros((2, 3, 4), np.int16), Geometry((1, 1, 1)))
    write_volume(tmp_path / 'seg/segmentation-28.nii', np.zeros((2, 3, 4), np.uint8), Geometry((1, 1, 1)))
    first, second = find_cases(tmp_path / 'ct', 'ct', tmp_path / 'seg', {'volume-28': [0.7, 0.7, 2]})
    assert first.spacing == (0.7, 0.7, 2.0) and second.spacing is None
    assert first.files == [first.ct, first.label] and second.files == [second.ct]
    for reader in (read_header, read_volume, read_label, lambda path, spacing: read_ct(path, -200, 200, spacing)):
        assert reader(first.ct, first.spacing)[1] == Geometry((0.7, 0.7, 2.0))
        assert reader(second.ct, second.spacing)[1] == Geometry((1.0, 1.0, 1.0))
    with pytest.raises(InputError, match='spacing'):
        read_volume(first.ct, (0.7, 0.7, 1e9))


def test_results_of_one_name_are_refused(tmp_path):
    for name in ('1.nii', 'volume-1.nii'):
        (tmp_path / name).touch()
    assert output_name('1', 'pred') == output_name('volume-1', 'pred')
    with pytest.raises(InputError, match='volume-1.nii: .*1.nii'):
        find_cases(tmp_path, 'ct', tmp_path / 'seg')
