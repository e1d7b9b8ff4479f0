"""MetaImage files: .mha, and .mhd whose voxels lie in another file.

The parser is ours, since no light library reads the format.

Source: itk.org/Wiki/MetaIO/Documentation.
"""

import re
from pathlib import Path

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
    'met_char': 'i1',
    'met_uchar': 'u1',
    'met_short': 'i2',
    'met_ushort': 'u2',
    'met_int': 'i4',
    'met_uint': 'u4',
    'met_long': 'i4',
    'met_ulong': 'u4',
    'met_long_long': 'i8',
    'met_ulong_long': 'u8',
    'met_float': 'f4',
    'met_double': 'f8',
}
IS_TRUE = {'true': True, 't': True, '1': True, 'false': False, 'f': False, '0': False}
LAST_FIELD = rb'(?m)^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?\n'
UNSCALED = {'elementnumberofchannels': 1, 'elementtointensityfunctionslope': 1, 'elementtointensityfunctionoffset': 0}
MAX_DIGITS = 60


class MetaImage(VolumeFormat):
    endings = ('.mha', '.mhd')

    def parse_header(self, path: Path, beginning: bytes) -> Header:
        if len(beginning) < MAX_TEXT_HEADER:
            beginning += b'\n'
        end = re.search(LAST_FIELD, beginning)
        if not end:
            raise ValueError('no MetaImage header')
        fields = parse_fields(beginning[: end.start()])
        for name, wanted in UNSCALED.items():
            if name in fields and numbers(fields, name, float, 1)[0] != wanted:
                raise ValueError(f'wanted {name} = {wanted}, got {fields[name][:80]}')
        one_of('ObjectType', fields.get('objecttype', 'image'), {'image': None})
        if not one_of('BinaryData', fields.get('binarydata', 'true'), IS_TRUE):
            raise ValueError('wanted BinaryData = True, got False')
        is_compressed = one_of('CompressedData', fields.get('compresseddata', 'false'), IS_TRUE)
        byte_order = fields.get('binarydatabyteordermsb', fields.get('elementbyteordermsb', 'false'))
        is_big_endian = one_of('BinaryDataByteOrderMSB', byte_order, IS_TRUE)
        dtype = np.dtype(one_of('ElementType', fields.get('elementtype', ''), DTYPES))
        dtype = dtype.newbyteorder('>' if is_big_endian else '<')

        data_path, start = path, end.end()
        if end[1].upper() != b'LOCAL':
            data_path, start = find_data_file(path, end[1].decode('utf-8', 'surrogateescape')), 0
        header_size = numbers(fields, 'headersize', int, 1)[0] if 'headersize' in fields else 0
        if header_size < -1 or header_size == -1 and is_compressed:
            raise ValueError(
                f'wanted a HeaderSize of 0 or more, or -1 if the voxels are not compressed, got {header_size}'
            )
        start = FROM_END if header_size == -1 else header_size or start

        shape = shape_of(numbers(fields, 'ndims', int, 1)[0], numbers(fields, 'dimsize', int))
        spacing = first_of(fields, ('elementspacing', 'elementsize'), (1, 1, 1))
        origin = first_of(fields, ('offset', 'origin', 'position'), (0, 0, 0))
        axes = first_of(fields, ('transformmatrix', 'rotation', 'orientation'), np.eye(3))
        direction = np.reshape(axes, (3, 3)).T
        return Header(shape, dtype, floats(spacing), floats(origin), floats(direction), data_path, start, is_compressed)


def parse_fields(header: bytes) -> dict[str, str]:
    """Return the text of each field by its name in lower case. Raises ValueError if a name has two values."""
    fields = {}
    for line in header.decode('utf-8', 'surrogateescape').split('\n'):
        name, sign, text = line.partition('=')
        name = name.strip().lower()
        if sign and fields.setdefault(name, text.strip()) != text.strip():
            raise ValueError(f'two values of {name[:80]}')
    return fields


def numbers(fields: dict[str, str], name: str, kind: type, count: int | None = None) -> list:
    """Return the `count` numbers of a field, as int or float.

    Raises ValueError if it has not so many, or one that is too long.
    """
    words = fields.get(name, '').split()
    if not words or len(words) != (count or len(words)) or max(map(len, words)) > MAX_DIGITS:
        raise ValueError(f'wanted {count or "some"} numbers as {name}, got {fields.get(name, "none")[:80]!r}')
    return [kind(word) for word in words]


def first_of(fields: dict[str, str], names: tuple[str, ...], default):
    """Return the numbers of the first of these fields that is there, as many as the default has."""
    name = next((n for n in names if n in fields), None)
    return numbers(fields, name, float, np.size(default)) if name else default
