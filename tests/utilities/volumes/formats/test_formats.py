"""What every format promises: the values and the geometry of SimpleITK, and one clear line for any other file."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from tests.utilities.volumes.sample_volumes import (
    ARRAY,
    OBLIQUE,
    PAIRS,
    SINGLE_FILES,
    assert_read_as_by_itk,
    nifti_bytes,
    write_with_itk,
)
from utilities.base.errors import InputError
from utilities.volumes import formats
from utilities.volumes.cases import Case, list_volumes
from utilities.volumes.formats import ENDINGS, stem
from utilities.volumes.read_write import SliceReader, read_ct, read_header, read_label, read_volume, write_volume

COMPRESSIBLE = ('.nrrd', '.nhdr', '.mha', '.mhd')
FILES = [*((ending, False) for ending in ENDINGS), *((ending, True) for ending in COMPRESSIBLE)]


def test_every_ending_is_written_by_simpleitk_in_these_tests():
    assert set(ENDINGS) == {*SINGLE_FILES, *PAIRS}


@pytest.mark.parametrize('ending, is_compressed', FILES)
@pytest.mark.parametrize('kind', ['i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8', 'f4', 'f8'])
def test_values_and_geometry_are_those_of_itk(tmp_path, ending, is_compressed, kind):
    array = np.abs(ARRAY // 3).astype(kind)
    assert_read_as_by_itk(write_with_itk(tmp_path / f'volume{ending}', array, is_compressed=is_compressed))


@pytest.mark.parametrize('ending, is_compressed', FILES)
def test_runs_of_slices(tmp_path, ending, is_compressed):
    path = write_with_itk(tmp_path / f'volume{ending}', is_compressed=is_compressed)
    np.testing.assert_array_equal(SliceReader(path).read(1, 3), ARRAY[1:3])


@pytest.mark.parametrize('ending', ENDINGS)
def test_a_volume_in_two_files_is_listed_once_and_both_are_its_files(tmp_path, ending):
    path = write_with_itk(tmp_path / f'volume-1{ending}')
    assert list_volumes(tmp_path) == {'volume-1': path}
    assert sorted(Case(path, None).files) == sorted(tmp_path.iterdir())
    assert len(Case(path, None).files) == (2 if ending in PAIRS else 1) and Case(path, None).files[0] == path


def test_endings_in_any_case(tmp_path):
    assert [
        formats.ending(tmp_path / name) for name in ('a.NII.GZ', 'a.nii.GZ', 'a.Nii', 'a.MHD', 'a.img', 'a.raw')
    ] == [
        '.nii.gz',
        '.nii.gz',
        '.nii',
        '.mhd',
        None,
        None,
    ]
    assert stem(tmp_path / 'volume-1.nii.GZ') == 'volume-1'


@pytest.mark.parametrize('ending', ENDINGS)
def test_the_message_names_both_what_is_promised_and_what_is_there(tmp_path, ending):
    path = write_with_itk(tmp_path / f'volume{ending}')
    promised, available = ARRAY.nbytes, ARRAY.nbytes - 1
    if ending == '.nii.gz':
        path.write_bytes(gzip.compress(nifti_bytes(dim=(3, 9000, 9000, 4, 1, 1, 1, 1))))
        promised, available = 9000 * 9000 * 4 * 2, path.stat().st_size
    else:
        data_path = path.with_suffix(PAIRS.get(ending, ending))
        data_path.write_bytes(data_path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f'promises {promised:,} bytes of voxels, the file holds {available:,}'):
        read_header(path)


@pytest.mark.parametrize('ending', ENDINGS)
def test_an_empty_file_and_a_git_lfs_pointer_are_called_so(tmp_path, ending):
    path = write_with_itk(tmp_path / f'volume{ending}')
    pointer = b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n'
    for file in tmp_path.iterdir():
        data = file.read_bytes()
        for content, message in ((b'', 'empty'), (pointer, 'Git LFS pointer.*git lfs pull')):
            file.write_bytes(content)
            with pytest.raises(InputError, match=f'{file.name}.*{message}'):
                read_header(path)
        file.write_bytes(data)
    read_header(path)


@pytest.mark.parametrize(
    'name', ['../data.img', '/etc/passwd', '..', '.', '', 'folder', 'missing.raw', 'LIST', 'a%d 1 4 1']
)
@pytest.mark.parametrize('ending, last', [('.nhdr', 'data file: '), ('.mhd', 'ElementDataFile = ')])
def test_a_header_makes_us_read_no_file_of_another_folder(tmp_path, ending, last, name):
    (tmp_path / 'data.img').write_bytes(ARRAY.tobytes())
    (tmp_path / 'CT/folder').mkdir(parents=True)
    path = write_with_itk(tmp_path / f'CT/volume{ending}')
    path.write_text(path.read_text().replace(f'{last}volume.raw', f'{last}{name}'))
    with pytest.raises(InputError, match=rf'^{path}: '):
        read_header(path)


@pytest.mark.parametrize('ending', PAIRS)
def test_a_data_file_that_is_missing_is_named(tmp_path, ending):
    path = write_with_itk(tmp_path / f'volume{ending}')
    path.with_suffix(PAIRS[ending]).unlink()
    with pytest.raises(InputError, match=f'volume{ending}.*volume{PAIRS[ending]}'):
        read_header(path)


@pytest.mark.parametrize('ending', SINGLE_FILES)
@pytest.mark.parametrize('name', ['a b', 'line\nend', 'größe-肝', '-dash', '=1+1', 'x' * 200])
def test_odd_names(tmp_path, ending, name):
    write_volume(tmp_path / f'{name}{ending}', ARRAY, OBLIQUE)
    for last in (ending, ending.upper()):
        path = next(tmp_path.iterdir()).rename(tmp_path / f'{name}{last}')
        array, geometry = read_volume(path)
        np.testing.assert_array_equal(array, ARRAY)
        assert read_header(path) == (ARRAY.shape, geometry)


@pytest.mark.parametrize('ending', PAIRS)
@pytest.mark.parametrize('name', ['a b', 'größe-肝', '-dash', '=1+1', 'a.b'])
def test_odd_names_of_two_files(tmp_path, ending, name):
    path = write_with_itk(tmp_path / f'{name}{ending}')
    np.testing.assert_array_equal(read_volume(path)[0], ARRAY)
    if ending == '.hdr':
        path.with_suffix('.img').rename(path.with_suffix('.IMG'))
        np.testing.assert_array_equal(read_volume(path.rename(path.with_suffix('.HDR')))[0], ARRAY)


@pytest.mark.parametrize('ending', ENDINGS)
def test_a_name_that_is_not_unicode(tmp_path, ending):
    path = tmp_path / f'volume-\udcff{ending}'
    path.write_bytes(nifti_bytes())
    with pytest.raises(InputError, match='unicode'):
        read_header(path)


def test_a_file_of_another_ending_is_not_taken_for_it(tmp_path):
    """ITK's NIfTI reader takes the voxels of volume.nii for those of volume.nii.gz."""
    write_with_itk(tmp_path / 'volume.nii', ARRAY + 1)
    np.testing.assert_array_equal(read_volume(write_with_itk(tmp_path / 'volume.nii.gz'))[0], ARRAY)


def test_mutated_files_are_read_or_refused(tmp_path):
    """600 files with flipped, missing, added and repeated bytes in their headers."""
    rng = np.random.default_rng(7)
    files = []
    for ending, is_compressed in FILES:
        path = write_with_itk(tmp_path / f'{"z" if is_compressed else "r"}-mutant{ending}', is_compressed=is_compressed)
        files.append((path, gzip.decompress(path.read_bytes()) if ending == '.nii.gz' else path.read_bytes()))
    read_well = 0
    for number in range(600):
        path, data = files[number % len(files)]
        data = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            position = int(rng.integers(min(352, len(data))))
            new = rng.integers(256, size=rng.integers(5), dtype=np.uint8).tobytes()
            data[position : position + int(rng.choice([0, len(new), len(new), 3]))] = new
        path.write_bytes(gzip.compress(data, 1) if ending_is_gzip(path) else data)
        try:
            read_header(path), read_ct(path, -200, 200), read_label(path), SliceReader(path).read(0, 1)
            read_well += 1
        except InputError as error:
            assert str(error).startswith(f'{path}: ') and '\n' not in str(error)
    assert 60 < read_well < 540


def ending_is_gzip(path):
    return path.suffix == '.gz'


@pytest.mark.parametrize('ending, is_compressed', [('.nii.gz', False), *((ending, True) for ending in COMPRESSIBLE)])
def test_every_flipped_bit_of_a_compressed_payload_is_noticed(tmp_path, ending, is_compressed):
    """The checksum of gzip and zlib covers every bit that changes a voxel."""
    path = write_with_itk(tmp_path / f'volume{ending}', is_compressed=is_compressed)
    data_path = next((p for p in tmp_path.iterdir() if p != path), path)
    data, rng = data_path.read_bytes(), np.random.default_rng(1)
    noticed = 0
    for position in rng.choice(np.arange(len(data) - 200, len(data)), 60):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        data_path.write_bytes(flipped)
        try:
            np.testing.assert_array_equal(read_volume(path)[0], ARRAY)
        except InputError as error:
            noticed += 'damaged' in str(error)
    assert noticed > 50


@pytest.mark.parametrize('ending', ENDINGS)
def test_axis_order_is_that_of_simpleitk(tmp_path, ending):
    image = sitk.ReadImage(str(write_with_itk(tmp_path / f'volume{ending}')))
    assert read_header(tmp_path / f'volume{ending}')[0] == image.GetSize()[::-1] == (4, 6, 5)
