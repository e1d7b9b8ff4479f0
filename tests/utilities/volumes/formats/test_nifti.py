"""NIfTI: the geometry of SimpleITK for any header that it accepts, and of nibabel where its forms agree."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.quaternions import mat2quat

from tests.utilities.volumes.sample_volumes import ARRAY, assert_read_as_by_itk, nifti_bytes, write_with_itk
from utilities.base.errors import InputError
from utilities.volumes.read_write import SliceReader, read_header, read_volume

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # SimpleITK's axes <-> nibabel's


def affine_of(geometry):
    """The affine of nibabel's axes for a Geometry."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(geometry.direction, (3, 3)) * geometry.spacing
    affine[:3, 3] = geometry.origin
    return RAS @ affine


@pytest.mark.parametrize('kind', [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize('byte_order', '<>')
def test_versions_pairs_and_byte_orders_are_read_as_by_nibabel(tmp_path, kind, byte_order):
    path = tmp_path / ('a.hdr' if 'Pair' in kind.__name__ else 'a.nii')
    affine = RAS @ np.array([[0.56, -0.48, 0, 9], [0.42, 0.64, 0, -7], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    header = kind.header_class(endianness=byte_order)
    header.set_data_dtype(f'{byte_order}i2')
    image = kind(ARRAY.T, affine, header)
    image.set_qform(affine)
    nibabel.save(image, path)
    array, geometry = read_volume(path)
    np.testing.assert_array_equal(array, ARRAY)
    assert array.dtype.isnative
    np.testing.assert_allclose(affine_of(geometry), affine, atol=1e-5)
    np.testing.assert_array_equal(SliceReader(path).read(1, 3), ARRAY[1:3])
    if '1' in kind.__name__:
        assert_read_as_by_itk(path)


def test_a_compressed_nifti2(tmp_path):
    nibabel.save(nibabel.Nifti2Image(ARRAY.T, np.eye(4)), tmp_path / 'a.nii.gz')
    np.testing.assert_array_equal(read_volume(tmp_path / 'a.nii.gz')[0], ARRAY)


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz', 'a.NII.GZ'])
@pytest.mark.parametrize('is_gzip', [False, True])
def test_the_content_decides_whether_a_file_is_compressed(tmp_path, name, is_gzip):
    (tmp_path / name).write_bytes(gzip.compress(nifti_bytes()) if is_gzip else nifti_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path / name)[0], ARRAY)
    np.testing.assert_array_equal(SliceReader(tmp_path / name).read(2, 4), ARRAY[2:4])


def random_members(rng):
    """Header members with a random oblique, flipped or permuted geometry, in the qform, the sform, both or neither."""
    kind = rng.integers(3)
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    if kind:
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    qfac = np.sign(np.linalg.det(axes))
    quaternion = mat2quat(axes * [1, 1, qfac])
    spacing = rng.uniform(0.5, 5, 3)
    spacing[1] = spacing[0] if rng.random() < 0.5 else spacing[1]
    origin = rng.uniform(-300, 300, 3)
    sform_origin = origin + rng.choice([0, 0, 10]) * rng.normal(size=3)
    return {
        'pixdim': (qfac, *spacing, 1, 1, 1, 1),
        'codes': [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (0, 2), (3, 0), (-1, 4)][rng.integers(8)],
        'qform': (*quaternion[1:], *origin),
        'sform': tuple(np.column_stack([axes * spacing * rng.choice([1, 1, 1, 1, 2], 3), sform_origin]).ravel()),
        'xyzt_units': int(rng.choice([0, 2, 2, 10, 1, 3])),
    }


def assert_geometry_is_that_of_itk(path):
    """Compare with SimpleITK's reading of a header; a spacing that no CT has is overridden."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    spacing = reader.GetSpacing()
    shape, geometry = read_header(path, spacing if 0.001 < min(spacing) and max(spacing) < 100 else (1, 1, 1))
    assert shape == reader.GetSize()[::-1]
    np.testing.assert_allclose(geometry.origin, reader.GetOrigin(), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(geometry.direction, reader.GetDirection(), atol=1e-5)
    if geometry.spacing != (1, 1, 1):
        np.testing.assert_allclose(read_header(path)[1].spacing, spacing, rtol=1e-6)


def test_random_geometries_are_those_of_itk(tmp_path):
    rng, path = np.random.default_rng(2), tmp_path / 'a.nii'
    for _ in range(600):
        path.write_bytes(nifti_bytes(**random_members(rng)))
        try:
            assert_geometry_is_that_of_itk(path)
        except InputError as error:
            assert 'origin within' in str(error)  # metres


@pytest.mark.parametrize('signs', np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T.tolist())
@pytest.mark.parametrize('codes', [(1, 2), (1, 4), (2, 3), (1, 1), (4, 2)])
def test_an_sform_and_a_qform_that_disagree_are_chosen_between_as_by_itk(tmp_path, codes, signs):
    path = tmp_path / 'a.nii'
    for moved in (0, 0.00005, 0.01, 50):
        sform = np.column_stack([np.diag([0.7, 0.8, 2.5]) * signs, [1 + moved, 2, 3]])
        path.write_bytes(nifti_bytes(codes=codes, sform=tuple(sform.ravel())))
        assert_geometry_is_that_of_itk(path)
    shear = np.column_stack([np.array([[0.7, 0.1, 0], [0, 0.8, 0], [0, 0, 2.5]]), [1, 2, 3]])
    path.write_bytes(nifti_bytes(codes=codes, sform=tuple(shear.ravel())))
    assert_geometry_is_that_of_itk(path)


@pytest.mark.parametrize('pixdim', [(0, 0.7, 0.8, 2.5), (-1, 0.7, 0.8, 2.5), (1, 0, 0.8, 2.5), (1, 0.7, -0.8, 2.5)])
@pytest.mark.parametrize('quaternion', [(0, 0, 1), (0.9, 0.9, 0.3), (0.6, 0.8, 0.0001), (0.1, -0.2, 0.3)])
def test_odd_quaternions_and_pixdims_with_a_spacing_override(tmp_path, pixdim, quaternion):
    path = tmp_path / 'a.nii'
    path.write_bytes(nifti_bytes(pixdim=(*pixdim, 1, 1, 1, 1), qform=(*quaternion, 1, 2, 3)))
    image = sitk.ImageFileReader()
    image.SetFileName(str(path))
    image.ReadImageInformation()
    geometry = read_header(path, (0.7, 0.8, 2.5))[1]
    np.testing.assert_allclose(geometry.direction, image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(geometry.origin, image.GetOrigin(), atol=1e-5)


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize('is_gzip', [False, True])
@pytest.mark.parametrize(
    'members, message',
    [
        ({'dim': (3, -5, 6, 4, 1, 1, 1, 1)}, '1 voxel or more'),
        ({'dim': (3, 0, 6, 4, 1, 1, 1, 1)}, '1 voxel or more'),
        ({'dim': (3, 32767, 32767, 32767, 1, 1, 1, 1)}, 'promises 70,3'),
        ({'dim': (0,) * 8}, '0 dimensions'),
        ({'dim': (8,) * 8}, '8 dimensions'),
        ({'dim': (2, 5, 6, 4, 1, 1, 1, 1)}, '2D'),
        ({'dim': (4, 5, 6, 2, 2, 1, 1, 1)}, '4D'),
        ({'pixdim': (1, 0.7, 0, 2.5, 0, 0, 0, 0)}, 'spacing'),
        ({'pixdim': (1, -0.7, 1, 2.5, 0, 0, 0, 0)}, 'spacing'),
        ({'pixdim': (1, 0.7, 1, NAN, 0, 0, 0, 0)}, 'spacing'),
        ({'pixdim': (1, 0.7, INF, 2.5, 0, 0, 0, 0)}, 'spacing'),
        ({'pixdim': (1, 0.7, 1, 1e30, 0, 0, 0, 0)}, 'spacing'),
        ({'pixdim': (1, 0.7, 1, 1e-30, 0, 0, 0, 0)}, 'spacing'),
        ({'qform': (0, 0, 0, NAN, 2, 3)}, 'finite'),
        ({'qform': (0, 0, 0, 1e30, 2, 3)}, 'out of range'),
        ({'qform': (NAN, 0, 0, 1, 2, 3)}, 'finite'),
        ({'qform': (INF, 0, 0, 1, 2, 3)}, 'finite'),
        ({'codes': (1, 1), 'sform': (INF,) * 12}, 'finite'),
        ({'codes': (1, 1), 'sform': (1, 0, 0, NAN, 0, 1, 0, 0, 0, 0, 1, 0)}, 'finite'),
        ({'codes': (0, 1), 'sform': (1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)}, 'orthonormal'),
        ({'codes': (0, 1)}, 'orthonormal'),
        ({'codes': (0, 1), 'sform': (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)}, 'orthonormal'),
        ({'datatype': 0}, 'datatype 0'),
        ({'datatype': 128}, 'datatype 128'),
        ({'datatype': 32}, 'datatype 32'),
        ({'datatype': 1536}, 'datatype 1536'),
        *(({'vox_offset': offset}, 'image') for offset in (0, -352, NAN, INF, 1e9, 352.5)),
        ({'scale': (2, NAN)}, 'finite|nan'),
        ({'scale': (1e38, 0)}, 'infinite voxels'),
        ({'magic': b'ni1\0'}, 'holds its voxels'),
        ({'magic': b'\0\0\0\0'}, 'holds its voxels'),
        ({'magic': b'n+2\0'}, 'holds its voxels'),
        ({'sizeof_hdr': 540}, 'image'),
        ({'sizeof_hdr': 0}, 'no NIfTI header'),
    ],
)
def test_headers_that_are_wrong(tmp_path, members, message, is_gzip):
    path = tmp_path / ('a.nii.gz' if is_gzip else 'a.nii')
    path.write_bytes(gzip.compress(nifti_bytes(**members)) if is_gzip else nifti_bytes(**members))
    with pytest.raises(InputError, match=message):
        read_volume(path)


@pytest.mark.parametrize(
    'members',
    [
        {'dim': (5, 5, 6, 4, 1, 1, 0, 0)},
        {'scale': (0, 9)},
        {'scale': (NAN, 0)},
        {'extension': (1, 2**31 - 1)},
        {'extension': (1, -16)},
        {'bitpix': 99},
    ],
)
def test_headers_that_are_odd_but_clear(tmp_path, members):
    (tmp_path / 'a.nii').write_bytes(nifti_bytes(**members))
    np.testing.assert_array_equal(read_volume(tmp_path / 'a.nii')[0], ARRAY)


def test_slope_and_intercept(tmp_path):
    (tmp_path / 'a.nii').write_bytes(nifti_bytes(scale=(2, -1024)))
    assert_read_as_by_itk(tmp_path / 'a.nii')
    np.testing.assert_array_equal(SliceReader(tmp_path / 'a.nii').read(1, 2), ARRAY[1:2] * 2.0 - 1024)


def test_an_hdr_that_is_not_nifti_is_refused(tmp_path):
    """Analyze 7.5 and ENVI have headers of the same ending."""
    path = write_with_itk(tmp_path / 'a.hdr')
    analyze = bytearray(path.read_bytes())
    analyze[344:348] = bytes(4)
    for data in (bytes(analyze), b'ENVI\nsamples = 5\n'):
        path.write_bytes(data)
        with pytest.raises(InputError, match='NIfTI'):
            read_header(path)
