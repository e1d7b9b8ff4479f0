"""NRRD headers as other programs write them, and wrong ones."""

import gzip
import re

import numpy as np
import pytest

from tests.utilities.volumes.sample_volumes import ARRAY, assert_read_as_by_itk, change_text_header, write_with_itk
from utilities.base.errors import InputError
from utilities.volumes.read_write import read_header, read_volume

GEOMETRY = rb'space: .*\n|space directions: .*\n|space origin: .*\n'
SPACINGS = b'spacings: 0.5 0.6 0.7\nsizes'


@pytest.mark.parametrize('ending', ['.nrrd', '.nhdr'])
@pytest.mark.parametrize(
    'old, new',
    [
        *(
            (b'left-posterior-superior', space)
            for space in (
                b'right-anterior-superior',
                b'left-anterior-superior',
                b'LPS',
                b'RAS',
                b'LAS',
                b'scanner-xyz',
                b'3D-right-handed',
            )
        ),
        (b'type: short', b'type: signed short int'),
        (b'endian: little', b'endian: big'),
        (b'encoding', b'# a comment\nmodality:=CT\nencoding'),
        (b'encoding: raw', b'encoding: RAW'),
        (b'type: short', b'Type: Short'),
        (b'encoding', b'type:=not a field\nencoding'),
    ],
)
def test_other_words_are_read_as_by_itk(tmp_path, ending, old, new):
    assert_read_as_by_itk(change_text_header(write_with_itk(tmp_path / f'a{ending}'), old, new))


@pytest.mark.parametrize('ending', ['.nrrd', '.nhdr'])
@pytest.mark.parametrize(
    'fields',
    [
        b'',
        b'axis mins: -100 -50 30\n',
        b'axismins: -100 -50 30\n',
        b'axis mins: -100 -50 30\ncenterings: cell cell cell\n',
        b'axis mins: -100 -50 30\ncenterings: node node node\n',
        b'axis mins: -100 -50 30\ncenterings: node cell node\n',
        b'axis mins: -100 -50 30\ncenterings: ??? ??? ???\n',
        b'axis mins: nan -50 30\n',
        b'axis mins: -100 -50 30\naxis maxs: 10 10 60\n',
    ],
)
def test_spacings_and_axis_mins_are_read_as_by_itk(tmp_path, ending, fields):
    path = change_text_header(write_with_itk(tmp_path / f'a{ending}'), GEOMETRY, b'')
    assert_read_as_by_itk(change_text_header(path, b'sizes', fields + SPACINGS))


def test_spaces_inside_vectors(tmp_path):
    path = write_with_itk(tmp_path / 'a.nrrd')
    wanted = read_header(path)
    assert read_header(change_text_header(path, rb'(?<=,)', b' ')) == wanted
    assert read_header(change_text_header(path, rb'\(', b'( ')) == wanted


def test_the_same_field_twice_with_the_same_value(tmp_path):
    np.testing.assert_array_equal(
        read_volume(
            change_text_header(write_with_itk(tmp_path / 'a.nrrd'), b'dimension: 3', b'dimension: 3\ndimension: 3')
        )[0],
        ARRAY,
    )


@pytest.mark.parametrize('ending', ['.nrrd', '.nhdr'])
def test_byte_skip(tmp_path, ending):
    path = change_text_header(write_with_itk(tmp_path / f'a{ending}'), b'encoding', b'byte skip: 4\nencoding')
    data_path = tmp_path / 'a.raw' if ending == '.nhdr' else path
    data = data_path.read_bytes()
    data_path.write_bytes(data[: -ARRAY.nbytes] + b'junk' + data[-ARRAY.nbytes :])
    assert_read_as_by_itk(path)
    path.write_bytes(path.read_bytes().replace(b'byte skip: 4', b'byte skip: -1'))
    assert_read_as_by_itk(path)


def test_byte_skip_inside_compressed_data(tmp_path):
    path = write_with_itk(tmp_path / 'a.nhdr', is_compressed=True)
    change_text_header(path, b'encoding', b'byte skip: 4\nencoding')
    (tmp_path / 'a.raw.gz').write_bytes(gzip.compress(b'junk' + ARRAY.tobytes()))
    np.testing.assert_array_equal(read_volume(path)[0], ARRAY)


def test_a_detached_header_without_a_blank_line_at_its_end(tmp_path):
    path = write_with_itk(tmp_path / 'a.nhdr')
    path.write_bytes(path.read_bytes().rstrip())
    np.testing.assert_array_equal(read_volume(path)[0], ARRAY)


@pytest.mark.parametrize(
    'old, new',
    [
        (rb'sizes: 5', b'sizes: -5'),
        (rb'sizes: 5', b'sizes: 0'),
        (rb'sizes: 5', b'sizes: five'),
        (rb'sizes: 5', b'sizes: 5.7'),
        (rb'sizes: 5', b'sizes: ' + b'9' * 5000),
        (rb'sizes: 5', b'sizes: 99999999999'),
        (rb'sizes: 5 6 4', b'sizes: 120'),
        (rb'sizes: 5 6 4', b'sizes: ' + b' '.join([b'9' * 3000] * 3)),
        (rb'dimension: 3', b'dimension: 2'),
        (rb'dimension: 3', b'dimension: 99999999'),
        (rb'dimension: 3\n', b''),
        (rb'type: short', b'type: block'),
        (rb'type: short', b'type: '),
        (rb'encoding: raw', b'encoding: bzip2'),
        (rb'encoding: raw', b'encoding: gzip'),
        (rb'endian: little\n', b''),
        (rb'encoding', b'byte skip: -2\nencoding'),
        (rb'encoding', b'line skip: 1\nencoding'),
        (rb'encoding', b'datafile: LIST\nencoding'),
        (rb'sizes', b'sizes: 1 1 1\nsizes'),
        (rb'space directions: .*', b'space directions: none none none'),
        (rb'space directions: .*', b'space directions: (0,0,0) (0,1,0) (0,0,1)'),
        (rb'space directions: .*', b'space directions: (1e300,0,0) (0,1,0) (0,0,1)'),
        (rb'space directions: .*', b'space directions: (1,1,0) (0,1,0) (0,0,1)'),
        (rb'space directions: .*', b'space directions: ()'),
        (rb'space directions: .*\n', b''),
        (rb'space origin: .*', b'space origin: (nan,0,0)'),
        (rb'space origin: .*', b'space origin: (0,0)'),
        (rb'space origin: .*', b'space origin: '),
        (rb'NRRD000', b'NRRD999'),
    ],
)
def test_headers_that_are_wrong(tmp_path, old, new):
    path = change_text_header(write_with_itk(tmp_path / 'a.nrrd'), old, new)
    with pytest.raises(InputError, match=rf'^{re.escape(str(path))}: '):
        read_volume(path)


def test_a_header_that_is_too_long(tmp_path):
    path = change_text_header(write_with_itk(tmp_path / 'a.nhdr'), b'encoding', b'# ' + b'x' * 2**20 + b'\nencoding')
    with pytest.raises(InputError, match='no NRRD header'):
        read_header(path)


def test_a_data_file_whose_name_has_spaces_and_parentheses(tmp_path):
    path = write_with_itk(tmp_path / 'a.nhdr')
    (tmp_path / 'a.raw').rename(tmp_path / 'a ( b, c ).raw')
    change_text_header(path, b'data file: a.raw', b'data file: a ( b, c ).raw')
    np.testing.assert_array_equal(read_volume(path)[0], ARRAY)
