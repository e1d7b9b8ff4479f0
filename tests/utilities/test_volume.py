"""Reading, writing, pairing, geometry."""
import numpy as np
import pytest
import SimpleITK as sitk

from utilities.errors import InputError
from utilities.volume import ENDINGS, Geometry, find_cases, find_volumes, patient_view, read, read_ct, read_label, renamed, require_same_grid, write

OBLIQUE = Geometry((0.7, 0.8, 2.5), (-170.0, 12.0, 33.5), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))


@pytest.mark.parametrize('ending', ENDINGS)
@pytest.mark.parametrize('kind', [np.int16, np.int32, np.float32, np.uint8])
def test_round_trip(tmp_path, ending, kind):
    array = np.random.default_rng(1).integers(0, 200, (4, 6, 5)).astype(kind)
    write(tmp_path / f'volume-1{ending}', array, OBLIQUE)
    again, geometry = read(tmp_path / f'volume-1{ending}')
    np.testing.assert_array_equal(again, array)
    np.testing.assert_allclose(geometry.spacing, OBLIQUE.spacing, rtol=1e-6)
    np.testing.assert_allclose(geometry.direction, OBLIQUE.direction, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == [f'volume-1{ending}']  # nothing half-written beside it


def test_ct_is_clipped_before_the_cast(tmp_path):
    write(tmp_path / 'volume-1.nii', np.full((2, 2, 2), 70000, np.int32), OBLIQUE)
    assert (read_ct(tmp_path / 'volume-1.nii', -200, 200)[0] == 200).all()
    write(tmp_path / 'volume-2.nii', np.full((2, 2, 2), 5, np.uint8), OBLIQUE)
    assert (read_ct(tmp_path / 'volume-2.nii', -200, 200)[0] == 5).all()


def test_rescaled_nifti_is_in_hu(tmp_path):
    import nibabel
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / 'volume-1.nii')
    array, _ = read(tmp_path / 'volume-1.nii')
    np.testing.assert_allclose(array, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / 'volume-1.nii'))))


def test_labels_above_0_are_liver(tmp_path):
    write(tmp_path / 's.nii', np.array([[[0, 1, 2]]], np.uint8), OBLIQUE)
    assert read_label(tmp_path / 's.nii')[0].tolist() == [[[0, 1, 1]]]


def test_pairs_with_any_ending_in_natural_order(tmp_path):
    """Reference #32: .nii.gz input."""
    for number, (first, second) in enumerate(zip(ENDINGS, reversed(ENDINGS)), 8):
        write(tmp_path / f'ct/volume-{number}{first}', np.zeros((2, 2, 2), np.int16), OBLIQUE)
        write(tmp_path / f'seg/segmentation-{number}{second}', np.zeros((2, 2, 2), np.uint8), OBLIQUE)
    cases = find_cases(tmp_path / 'ct', 'ct', tmp_path / 'seg')
    assert [c.name for c in cases] == ['volume-8', 'volume-9', 'volume-10', 'volume-11']
    assert all(c.label.name.startswith(f'segmentation-{c.name[7:]}.') for c in cases)
    assert renamed(cases[0].name, 'pred') == 'pred-8'


def test_ct_and_labels_in_one_folder(tmp_path):
    for name in ('volume-2.nii', 'segmentation-2.nii', 'volume-3.nii', 'patient.nii', '._volume-2.nii', 'notes.txt'):
        (tmp_path / name).touch()
    cases = find_cases(tmp_path, 'ct', tmp_path)
    assert [(c.ct.name, c.label and c.label.name) for c in cases] == [
        ('patient.nii', None), ('volume-2.nii', 'segmentation-2.nii'), ('volume-3.nii', None)]


def test_folders_that_are_wrong(tmp_path):
    with pytest.raises(InputError, match='train_ct_path'):
        find_volumes(tmp_path / 'none', 'train_ct_path')
    with pytest.raises(InputError, match='found none'):
        find_volumes(tmp_path, 'train_ct_path')
    for name in ('volume-1.nii', 'volume-1.nii.gz'):
        write(tmp_path / name, np.zeros((2, 2, 2), np.int16), OBLIQUE)
    with pytest.raises(InputError, match='same case'):
        find_volumes(tmp_path, 'train_ct_path')


@pytest.mark.parametrize('ending', ENDINGS)
def test_files_cut_short(tmp_path, ending):
    path = tmp_path / f'volume-1{ending}'
    write(path, np.random.default_rng(0).integers(-99, 99, (9, 9, 9)).astype(np.int16), OBLIQUE)
    whole = path.read_bytes()
    for length in (0, 90, 300, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match='volume-1'):
            read(path)


@pytest.mark.parametrize('array, message', [
    (np.zeros((4, 4), np.int16), '2D'), (np.zeros((2, 3, 4, 4), np.int16), '4D'), (np.full((3, 3, 3), np.nan, np.float32), '27 NaN')])
def test_what_is_no_finite_volume(tmp_path, array, message):
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(tmp_path / 'volume-1.nii'))
    with pytest.raises(InputError, match=message):
        read(tmp_path / 'volume-1.nii')


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
