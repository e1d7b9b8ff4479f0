"""Headers: what is promised is checked before memory is taken, and ITK, where it reads a file at all, reads the same."""

import gzip
import io
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from utilities.base.errors import InputError
from utilities.volumes import headers
from utilities.volumes.geometry import Geometry
from utilities.volumes.headers import ENDINGS
from utilities.volumes.read_write import SliceReader, read_ct, read_header, read_label, read_volume, write_volume

OBLIQUE = Geometry((0.7, 0.8, 2.5), (-170.0, 12.0, 33.5), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
ARRAY = np.random.default_rng(4).integers(-300, 300, (4, 6, 5)).astype(np.int16)


@pytest.fixture
def sound(tmp_path):
    """sound(ending, packed): path of a sound file and its bytes, as ITK writes it."""

    def made(ending, packed=False, array=ARRAY):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(OBLIQUE.spacing), image.SetOrigin(OBLIQUE.origin), image.SetDirection(OBLIQUE.direction)
        path = tmp_path / f'{"packed" if packed else "plain"}{ending}'
        sitk.WriteImage(image, str(path), packed)
        return path, path.read_bytes()

    return made


def same_as_itk(path):
    array, geometry = read_volume(path)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(geometry.spacing, image.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(geometry.origin, image.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(geometry.direction, image.GetDirection(), atol=1e-6)


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('ending', ENDINGS)
@pytest.mark.parametrize('kind', ['i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8', 'f4', 'f8'])
def test_voxels_and_geometry_are_itks(sound, ending, packed, kind):
    same_as_itk(sound(ending, packed, np.abs(ARRAY // 3).astype(kind))[0])


@pytest.mark.parametrize(
    'ending, old, new',
    [
        ('.nrrd', b'left-posterior-superior', b'right-anterior-superior'),
        ('.nrrd', b'left-posterior-superior', b'left-anterior-superior'),
        *(
            ('.nrrd', b'left-posterior-superior', space)
            for space in (b'LPS', b'RAS', b'LAS', b'scanner-xyz', b'3D-right-handed')
        ),
        ('.nrrd', b'type: short', b'type: signed short int'),
        ('.nrrd', b'endian: little', b'endian: big'),
        ('.nrrd', b'encoding', b'# a comment\nmodality:=CT\nencoding'),
        ('.nrrd', rb'space: .*\n|space directions: .*\n|space origin: .*\n', b''),
        ('.mha', b'BinaryDataByteOrderMSB = False', b'BinaryDataByteOrderMSB = True'),
        ('.mha', b'Offset', b'Position'),
        ('.mha', b'TransformMatrix', b'Orientation'),
        ('.mha', b'MET_SHORT', b'MET_USHORT'),
        ('.mha', rb'ElementSpacing = .*\n', b''),
        ('.mha', b'ElementSpacing', b'ElementSize'),
    ],
)
def test_other_words_in_a_text_header_are_itks(sound, ending, old, new):
    path, data = sound(ending)
    changed = re.sub(old, new, data[: -ARRAY.nbytes])
    assert changed != data[: -ARRAY.nbytes]
    if old.startswith(b'space:'):
        changed = changed.replace(b'sizes', b'spacings: 0.5 0.6 0.7\nsizes')
    path.write_bytes(changed + data[-ARRAY.nbytes :])
    same_as_itk(path)


def test_other_byte_order_of_nifti(tmp_path):
    import nibabel

    header = nibabel.Nifti1Header(endianness='>')
    header.set_data_dtype('>i2')
    nibabel.save(nibabel.Nifti1Image(ARRAY.T, np.diag([-1, -1, 2, 1]), header), tmp_path / 'a.nii')
    same_as_itk(tmp_path / 'a.nii')
    assert read_volume(tmp_path / 'a.nii')[0].dtype.isnative
    np.testing.assert_array_equal(SliceReader(tmp_path / 'a.nii').read(1, 3), ARRAY[1:3])


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('ending', ENDINGS)
def test_runs_of_slices_of_any_file(sound, ending, packed):
    np.testing.assert_array_equal(SliceReader(sound(ending, packed)[0]).read(1, 3), ARRAY[1:3])


def nifti_with(**members):
    """A NIfTI file of 4 x 6 x 5 voxels of 16 bits, some header members replaced."""
    data = bytearray(368) + ARRAY.tobytes()
    members = {
        'size': 348,
        'dim': (3, 5, 6, 4, 1, 1, 1, 1),
        'type': 4,
        'bits': 16,
        'pixdim': (1, 0.7, 0.8, 2.5, 1, 1, 1, 1),
        'offset': 368,
        'scale': (1, 0),
        'codes': (1, 0),
        'qform': (0, 0, 0, 1, 2, 3),
        'sform': (0,) * 12,
        'magic': b'n+1\0',
        **members,
    }
    places = {
        'size': ('i', 0),
        'bits': ('h', 72),
        'dim': ('8h', 40),
        'type': ('h', 70),
        'pixdim': ('8f', 76),
        'offset': ('f', 108),
        'scale': ('2f', 112),
        'codes': ('2h', 252),
        'qform': ('6f', 256),
        'sform': ('12f', 280),
        'magic': ('4s', 344),
        'extension': ('2i', 348),
    }
    for name, value in members.items():
        struct.pack_into(
            '<' + places[name][0], data, places[name][1], *(value if isinstance(value, tuple) else (value,))
        )
    return bytes(data)


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize('packed', [False, True])
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
        ({'codes': (0, 1), 'sform': (INF,) * 12}, 'finite'),
        ({'codes': (0, 1), 'sform': (1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)}, 'orthonormal'),
        ({'codes': (0, 1)}, 'out of range'),
        ({'codes': (1, 1), 'sform': (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)}, 'out of range'),
        ({'type': 0}, 'datatype 0'),
        ({'type': 128}, 'datatype 128'),
        ({'type': 32}, 'datatype 32'),
        ({'type': 1536}, 'datatype 1536'),
        *(({'offset': offset}, 'image') for offset in (0, -352, NAN, INF, 1e9, 352.5)),
        ({'scale': (2, NAN)}, 'finite'),
        ({'scale': (1e38, 0)}, 'infinite voxels'),
        ({'magic': b'ni1\0'}, 'holds its voxels'),
        ({'magic': b'\0\0\0\0'}, 'holds its voxels'),
        ({'size': 540}, 'no NIfTI-1 header'),
    ],
)
def test_nifti_headers_that_are_wrong(tmp_path, members, message, packed):
    path = tmp_path / ('a.nii.gz' if packed else 'a.nii')
    path.write_bytes(gzip.compress(nifti_with(**members)) if packed else nifti_with(**members))
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
        {'bits': 99},
    ],
)
def test_nifti_headers_that_are_odd_but_clear(tmp_path, members):
    (tmp_path / 'a.nii').write_bytes(nifti_with(**members))
    np.testing.assert_array_equal(read_volume(tmp_path / 'a.nii')[0], ARRAY)


@pytest.mark.parametrize(
    'ending, old, new',
    [
        ('.nrrd', rb'sizes: 5', b'sizes: -5'),
        ('.nrrd', rb'sizes: 5', b'sizes: 0'),
        ('.nrrd', rb'sizes: 5', b'sizes: five'),
        ('.nrrd', rb'sizes: 5', b'sizes: ' + b'9' * 5000),
        ('.nrrd', rb'sizes: 5', b'sizes: 99999999999'),
        ('.nrrd', rb'sizes: 5 6 4', b'sizes: 120'),
        ('.nrrd', rb'sizes: 5 6 4', b'sizes: ' + b' '.join([b'9' * 3000] * 3)),
        ('.nrrd', rb'dimension: 3', b'dimension: 2'),
        ('.nrrd', rb'dimension: 3', b'dimension: 99999999'),
        ('.nrrd', rb'dimension: 3\n', b''),
        ('.nrrd', rb'type: short', b'type: block'),
        ('.nrrd', rb'type: short', b'type: '),
        ('.nrrd', rb'encoding: raw', b'encoding: bzip2'),
        ('.nrrd', rb'encoding: raw', b'encoding: gzip'),
        ('.nrrd', rb'endian: little\n', b''),
        ('.nrrd', rb'encoding', b'byte skip: -1\nencoding'),
        ('.nrrd', rb'encoding', b'data file: other.raw\nencoding'),
        ('.nrrd', rb'encoding', b'datafile: LIST\nencoding'),
        ('.nrrd', rb'sizes', b'sizes: 1 1 1\nsizes'),
        ('.nrrd', rb'space directions: .*', b'space directions: none none none'),
        ('.nrrd', rb'space directions: .*', b'space directions: (0,0,0) (0,1,0) (0,0,1)'),
        ('.nrrd', rb'space directions: .*', b'space directions: (1e300,0,0) (0,1,0) (0,0,1)'),
        ('.nrrd', rb'space directions: .*', b'space directions: (1,1,0) (0,1,0) (0,0,1)'),
        ('.nrrd', rb'space directions: .*\n', b''),
        ('.nrrd', rb'space origin: .*', b'space origin: (nan,0,0)'),
        ('.nrrd', rb'space origin: .*', b'space origin: (0,0)'),
        ('.mha', rb'DimSize = 5', b'DimSize = -5'),
        ('.mha', rb'DimSize = 5', b'DimSize = 99999999999'),
        ('.mha', rb'DimSize = .*\n', b''),
        ('.mha', rb'NDims = 3', b'NDims = 99'),
        ('.mha', rb'ElementType = \w*', b'ElementType = MET_OTHER'),
        ('.mha', rb'LOCAL', b'other.raw'),
        ('.mha', rb'LOCAL', b'LIST'),
        ('.mha', rb'BinaryData = True', b'BinaryData = False'),
        ('.mha', rb'NDims', b'HeaderSize = -1\nNDims'),
        ('.mha', rb'ElementSpacing = .*', b'ElementSpacing = 1 1 0'),
        ('.mha', rb'ElementSpacing = .*', b'ElementSpacing = 1 1 inf'),
        ('.mha', rb'Offset = .*', b'Offset = 0 0 1e400'),
        ('.mha', rb'TransformMatrix = .*', b'TransformMatrix = 0 0 0 0 0 0 0 0 0'),
        ('.mha', rb'NDims', b'ElementNumberOfChannels = 3\nNDims'),
        ('.mha', rb'CompressedData = False', b'CompressedData = True'),
        ('.mha', rb'CompressedData = False', b'CompressedData = perhaps'),
    ],
)
def test_text_headers_that_are_wrong(sound, tmp_path, ending, old, new):
    """A detached file is refused even if it is there: no volume makes us read another file."""
    (tmp_path / 'other.raw').write_bytes(ARRAY.tobytes())
    path, data = sound(ending)
    changed, count = re.subn(old, new, data[: -ARRAY.nbytes], count=1)
    assert count
    path.write_bytes(changed + data[-ARRAY.nbytes :])
    with pytest.raises(InputError, match=rf'^{re.escape(str(path))}: '):
        read_volume(path)


@pytest.mark.parametrize('ending', ENDINGS)
def test_more_promised_than_held_names_both(sound, ending):
    path, data = sound(ending)
    if ending == '.nii.gz':
        data = gzip.compress(nifti_with(dim=(3, 9000, 9000, 4, 1, 1, 1, 1)))
        promised, held = 9000 * 9000 * 4 * 2, len(data)
    else:
        data, promised, held = data[:-1], ARRAY.nbytes, ARRAY.nbytes - 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=f'promises {promised:,} bytes of voxels, the file holds {held:,}'):
        read_header(path)


def test_more_than_the_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    (tmp_path / 'a.nii').write_bytes(nifti_with())
    monkeypatch.setattr(headers, 'MEMORY', 2 * ARRAY.nbytes - 1)
    with pytest.raises(InputError, match='more than half of the memory'):
        read_header(tmp_path / 'a.nii')
    monkeypatch.setattr(headers, 'MEMORY', 2 * ARRAY.nbytes)
    read_header(tmp_path / 'a.nii')


@pytest.mark.parametrize('ending', ['.nii.gz', '.nrrd', '.mha'])
def test_a_bomb_is_unpacked_no_further_than_promised(sound, tmp_path, ending):
    path, data = sound(ending, True)
    zeros = bytes(100 * 2**20)
    head = re.match(rb'(?s).*?(LOCAL\n|\n\n)', data)
    path.write_bytes(
        gzip.compress(nifti_with() + zeros, 1)
        if ending == '.nii.gz'
        else head[0] + (gzip.compress if ending == '.nrrd' else zlib.compress)(ARRAY.tobytes() + zeros, 1)
    )
    tracemalloc.start()
    np.testing.assert_array_equal(read_volume(path)[0], ARRAY)
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize('skip', [0, 1, 399, 400, 401, 607])
@pytest.mark.parametrize('parts', [[608], [400, 208], [0, 400, 0, 208]])
def test_gzip_in_several_parts_and_its_checksum(parts, skip):
    """pigz and bgzip write several parts; a checksum at the end that is wrong, or missing, is damage."""
    data, rest = nifti_with(), io.BytesIO(nifti_with())
    packed, into = b''.join(gzip.compress(rest.read(length)) for length in parts), bytearray(608 - skip)
    headers.inflate(io.BytesIO(packed), skip, into)
    assert into == data[skip:]
    with pytest.raises(EOFError):
        headers.inflate(io.BytesIO(packed[:-1]), skip, into)
    with pytest.raises(EOFError):
        headers.inflate(io.BytesIO(packed), skip, bytearray(609 - skip))
    with pytest.raises(zlib.error, match='incorrect data check'):
        headers.inflate(io.BytesIO(packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]), skip, into)


def test_what_follows_the_voxels_is_not_read():
    file, into = io.BytesIO(gzip.compress(np.random.default_rng(0).bytes(8 * headers.PIECE), 1)), bytearray(1000)
    headers.inflate(file, 5, into)
    assert file.tell() <= 2 * headers.PIECE


def test_a_file_beside_is_not_taken_for_it(sound):
    """ITK's NIfTI reader takes the voxels of plain.nii for those of plain.nii.gz."""
    sound('.nii', array=ARRAY + 1)
    np.testing.assert_array_equal(read_volume(sound('.nii.gz')[0])[0], ARRAY)


@pytest.mark.parametrize('ending', ENDINGS)
@pytest.mark.parametrize('name', ['a b', 'line\nend', 'größe-肝', '-dash', '=1+1', 'x' * 200])
def test_odd_names(tmp_path, ending, name):
    write_volume(tmp_path / f'{name}{ending}', ARRAY, OBLIQUE)
    for last in (ending, ending.upper()):
        path = next(tmp_path.iterdir()).rename(tmp_path / f'{name}{last}')
        array, geometry = read_volume(path)
        np.testing.assert_array_equal(array, ARRAY)
        assert read_header(path) == (ARRAY.shape, geometry)


@pytest.mark.parametrize('ending', ENDINGS)
def test_a_name_that_is_no_unicode(tmp_path, ending):
    path = tmp_path / f'volume-\udcff{ending}'
    path.write_bytes(nifti_with())
    with pytest.raises(InputError, match='unicode'):
        read_header(path)


def test_mutated_files_are_read_or_refused(sound, tmp_path):
    """600 files with flipped, missing, added and repeated bytes."""
    rng = np.random.default_rng(7)
    files = [(ending, sound(ending, packed)[1]) for ending in ENDINGS for packed in (False, True)]
    read_well = 0
    for number in range(600):
        ending, data = files[number % len(files)]
        packed = ending == '.nii.gz'
        data = bytearray(gzip.decompress(data) if packed else data)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(min(352, len(data))))
            new = rng.integers(256, size=rng.integers(5), dtype=np.uint8).tobytes()
            data[at : at + int(rng.choice([0, len(new), len(new), 3]))] = new
        path = tmp_path / f'mutant{ending}'
        path.write_bytes(gzip.compress(data, 1) if packed else data)
        try:
            read_header(path), read_ct(path, -200, 200), read_label(path), SliceReader(path).read(0, 1)
            read_well += 1
        except InputError as error:
            assert str(error).startswith(f'{path}: ') and '\n' not in str(error)
    assert 60 < read_well < 540
