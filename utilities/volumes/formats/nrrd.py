"""NRRD files: .nrrd, and .nhdr whose voxels lie in another file. pynrrd parses the header.

Source: G. Kindlmann, teem.sourceforge.net/nrrd/format.html.
"""

import re
from pathlib import Path

import nrrd
import numpy as np

from utilities.volumes.formats.shared import (
    FROM_END,
    MAX_TEXT_HEADER,
    Header,
    VolumeFormat,
    find_data_file,
    floats,
    one_of,
    shape_of,
)

DTYPES = {
    name: code
    for code, names in {
        'i1': 'signed char, int8, int8_t',
        'u1': 'uchar, unsigned char, uint8, uint8_t',
        'i2': 'short, short int, signed short, signed short int, int16, int16_t',
        'u2': 'ushort, unsigned short, unsigned short int, uint16, uint16_t',
        'i4': 'int, signed int, int32, int32_t',
        'u4': 'uint, unsigned int, uint32, uint32_t',
        'i8': 'longlong, long long, long long int, signed long long, signed long long int, int64, int64_t',
        'u8': 'ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t',
        'f4': 'float',
        'f8': 'double',
    }.items()
    for name in names.split(', ')
}
IS_COMPRESSED = {'raw': False, 'gzip': True, 'gz': True}
BYTE_ORDERS = {'little': '<', 'big': '>'}
SIGNS = {
    'right-anterior-superior': (-1, -1, 1),
    'ras': (-1, -1, 1),
    'left-anterior-superior': (1, -1, 1),
    'las': (1, -1, 1),
}  # of x, y and z of a space in SimpleITK's axes (LPS); any other space counts as LPS, as in ITK


class Nrrd(VolumeFormat):
    endings = ('.nrrd', '.nhdr')

    def parse_header(self, path: Path, beginning: bytes) -> Header:
        end = re.search(rb'\r?\n\r?\n', beginning)
        is_whole = end or len(beginning) < MAX_TEXT_HEADER
        if not re.match(rb'NRRD000[1-5]\r?\n', beginning) or not is_whole:
            raise ValueError('no NRRD header')
        fields = parse_fields(beginning[: end.start()] if end else beginning)
        data_path, start = path, end.end() if end else len(beginning)
        if 'datafile' in fields:
            data_path, start = find_data_file(path, fields['datafile']), 0
        dtype = np.dtype(one_of('type', fields.get('type', ''), DTYPES))
        if dtype.itemsize > 1:
            dtype = dtype.newbyteorder(one_of('endian', fields.get('endian', ''), BYTE_ORDERS))
        is_compressed = one_of('encoding', fields.get('encoding', ''), IS_COMPRESSED)
        skip = fields.get('byteskip', 0)
        if fields.get('lineskip', 0) or skip < (0 if is_compressed else -1):
            raise ValueError('wanted a line skip of 0, and a byte skip of 0 or more, or -1 if the encoding is raw')
        if not is_compressed:
            start, skip = FROM_END if skip == -1 else start + skip, 0
        shape = shape_of(fields.get('dimension', 0), list(fields.get('sizes', ())))
        return Header(shape, dtype, *parse_geometry(fields), data_path, start, is_compressed, skip)


def parse_fields(header: bytes) -> dict:
    """Return the values of the fields, as pynrrd parses them, by their names in lower case without spaces."""
    text = header.decode('utf-8', 'surrogateescape')
    text = re.sub(r'(?m)^[^:\n]*:', lambda name: name[0].lower(), text)
    # pynrrd accepts no space inside the vectors of space directions and space origin
    text = re.sub(r'(?m)^space.*', lambda line: re.sub(r'(?<=[(,])[ \t]+|[ \t]+(?=[,)])', '', line[0]), text)
    if re.search(r'(?m)^sizes:.*[^\d\s]', text):
        raise ValueError('wanted whole numbers as sizes')  # pynrrd would cut the fractions off
    lines = [line for line in text.split('\n') if not re.match('[^:]*:=', line)]  # keys and values are not fields
    with np.errstate(all='ignore'):
        fields = nrrd.read_header(dict.fromkeys(lines))
    return {name.replace(' ', ''): value for name, value in fields.items()}


def parse_geometry(fields: dict) -> tuple[tuple, tuple, tuple]:
    """Return spacing, origin and direction in SimpleITK's axes (LPS), mm."""
    signs = SIGNS.get(fields.get('space', '').lower(), (1, 1, 1))
    origin, axes = np.zeros(3), np.eye(3)
    if 'spacedirections' in fields:
        axes = np.reshape(fields['spacedirections'], (3, 3)) * signs
        with np.errstate(all='ignore'):  # axes whose length is 0 or not finite are refused with the geometry
            spacing = np.sqrt((axes**2).sum(1))
            axes = axes / spacing[:, None]
    else:
        spacing = np.reshape(fields.get('spacings', ()), 3)
    if 'spaceorigin' in fields:
        origin = np.reshape(fields['spaceorigin'], 3) * signs
    elif 'spacedirections' not in fields and np.isfinite(fields.get('axismins', np.nan)).all():
        # The least position along an axis is the border of its first voxel, or its centre if the samples are nodes.
        is_node = np.array([c.lower() == 'node' for c in fields.get('centerings', ['cell'] * 3)])
        origin = np.reshape(fields['axismins'], 3) + np.where(is_node, 0, spacing / 2)
    return floats(spacing), floats(origin), floats(axes.T)
