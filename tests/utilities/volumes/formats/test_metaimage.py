"""MetaImage headers as other programs write them, and wrong ones."""

import re

import numpy as np
import pytest

from tests.utilities.volumes.sample_volumes import ARRAY, assert_read_as_by_itk, change_text_header, write_with_itk
from utilities.base.errors import InputError
from utilities.volumes.read_write import read_volume


@pytest.mark.parametrize('ending', ['.mha', '.mhd'])
@pytest.mark.parametrize(
    'old, new',
    [
        (b'BinaryDataByteOrderMSB = False', b'BinaryDataByteOrderMSB = True'),
        (b'BinaryDataByteOrderMSB = False', b'ElementByteOrderMSB = True'),
        (b'BinaryData = True', b'BinaryData = true'),
        (b'BinaryData = True', b'BinaryData = TRUE'),
        (b'BinaryData = True', b'BinaryData = T'),
        (b'CompressedData = False', b'CompressedData = false'),
        (b'NDims', b'ElementToIntensityFunctionSlope = 1.0\nElementToIntensityFunctionOffset = 0.0\nNDims'),
        (b'NDims', b'ElementNumberOfChannels = 1\nNDims'),
        (b'DimSize', b'HeaderSize = -1\nDimSize'),
        (b'DimSize', b'HeaderSize = 0\nDimSize'),
        (b'NDims', b'Modality = MET_MOD_CT\nComment = a = b\nNDims'),
        (b'Offset', b'Position'),
        (b'Offset', b'Origin'),
        (b'TransformMatrix', b'Orientation'),
        (b'MET_SHORT', b'MET_USHORT'),
        (rb'ElementSpacing = .*\n', b''),
        (b'ElementSpacing', b'ElementSize'),
        (b'CenterOfRotation = 0 0 0', b'CenterOfRotation = 5 5 5'),
        (b'\n', b'\r\n'),
    ],
)
def test_other_words_are_read_as_by_itk(tmp_path, ending, old, new):
    assert_read_as_by_itk(change_text_header(write_with_itk(tmp_path / f'a{ending}'), old, new))


@pytest.mark.parametrize('ending', ['.mha', '.mhd'])
def test_header_size_counts_from_the_end_or_from_the_start_of_the_data_file(tmp_path, ending):
    path = write_with_itk(tmp_path / f'a{ending}')
    data_path = tmp_path / 'a.raw' if ending == '.mhd' else path
    change_text_header(path, b'DimSize', b'HeaderSize = -1\nDimSize')
    data = data_path.read_bytes()
    data_path.write_bytes(data[: -ARRAY.nbytes] + b'junk' + data[-ARRAY.nbytes :])
    assert_read_as_by_itk(path)
    number = f'{data_path.stat().st_size - ARRAY.nbytes + (ending == ".mha"):02d}'.encode()
    path.write_bytes(path.read_bytes().replace(b'HeaderSize = -1', b'HeaderSize = ' + number))
    assert_read_as_by_itk(path)


def test_a_header_without_a_line_end_after_the_data_file(tmp_path):
    path = write_with_itk(tmp_path / 'a.mhd')
    path.write_bytes(path.read_bytes().rstrip())
    assert_read_as_by_itk(path)


@pytest.mark.parametrize(
    'old, new',
    [
        (rb'DimSize = 5', b'DimSize = -5'),
        (rb'DimSize = 5', b'DimSize = 99999999999'),
        (rb'DimSize = 5', b'DimSize = ' + b'9' * 4000),
        (rb'DimSize = .*\n', b''),
        (rb'NDims = 3', b'NDims = 99'),
        (rb'ElementType = \w*', b'ElementType = MET_OTHER'),
        (rb'LOCAL', b'other.raw'),
        (rb'LOCAL', b'LIST'),
        (rb'BinaryData = True', b'BinaryData = False'),
        (rb'BinaryData = True', b'BinaryData = perhaps'),
        (rb'ObjectType = Image', b'ObjectType = Tube'),
        (rb'NDims', b'HeaderSize = -2\nNDims'),
        (rb'NDims', b'HeaderSize = 100000\nNDims'),
        (rb'CompressedData = False', b'CompressedData = True\nHeaderSize = -1'),
        (rb'NDims', b'ElementToIntensityFunctionSlope = 2\nNDims'),
        (rb'NDims', b'ElementToIntensityFunctionOffset = -1024\nNDims'),
        (rb'ElementSpacing = .*', b'ElementSpacing = 1 1 0'),
        (rb'ElementSpacing = .*', b'ElementSpacing = 1 1 inf'),
        (rb'ElementSpacing = .*', b'ElementSpacing = 1 1'),
        (rb'Offset = .*', b'Offset = 0 0 1e400'),
        (rb'TransformMatrix = .*', b'TransformMatrix = 0 0 0 0 0 0 0 0 0'),
        (rb'NDims', b'ElementNumberOfChannels = 3\nNDims'),
        (rb'CompressedData = False', b'CompressedData = True'),
        (rb'CompressedData = False', b'CompressedData = perhaps'),
        (rb'NDims', b'DimSize = 5 6 5\nNDims'),
    ],
)
def test_headers_that_are_wrong(tmp_path, old, new):
    path = change_text_header(write_with_itk(tmp_path / 'a.mha'), old, new)
    with pytest.raises(InputError, match=rf'^{re.escape(str(path))}: '):
        read_volume(path)


def test_a_data_file_beside_an_mha(tmp_path):
    """The content decides, not the ending: what .mhd may do, .mha may do."""
    write_with_itk(tmp_path / 'a.mhd').rename(tmp_path / 'a.mha')
    np.testing.assert_array_equal(read_volume(tmp_path / 'a.mha')[0], ARRAY)
