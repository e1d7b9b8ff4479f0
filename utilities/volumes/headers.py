"""What the file of a volume promises: headers are read and checked here, before memory is taken for a voxel.

ITK's readers of NRRD and MetaImage headers end the process at some damaged ones; they never see a file. ITK is asked for the geometry
of NIfTI files alone, once their header is checked.
"""

import math
import os
import re
import struct
import zlib
from dataclasses import dataclass
from functools import partial

import numpy as np
import SimpleITK as sitk

from utilities.base.errors import InputError

TEXT = 2**20  # bytes; no text header is longer
BINARY = 2**16  # bytes that hold a NIfTI header, packed or not: of many files on a slow disk each MB counts
FARTHEST = 1e6  # mm
MARGIN = 2**26  # bytes before the voxels of a NIfTI file: ITK takes memory for extensions of that size
DEFLATE = 1032  # most bytes that one byte of gzip or zlib data expands to
PIECE = 2**20  # bytes inflated at a time
sitk.ProcessObject.SetGlobalWarningDisplay(False)  # a file's faults are told once, by InputError
MEMORY = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')

NIFTI_TYPES = {2: 'u1', 4: 'i2', 8: 'i4', 16: 'f4', 64: 'f8', 256: 'i1', 512: 'u2', 768: 'u4', 1024: 'i8', 1280: 'u8'}
NIFTI = {
    'dim': ('8h', 40),
    'type': ('h', 70),
    'pixdim': ('8f', 76),
    'offset': ('f', 108),
    'scale': ('2f', 112),
    'codes': ('2h', 252),
    'qform': ('6f', 256),
    'sform': ('12f', 280),
    'magic': ('4s', 344),
}  # member: struct's format, first byte
NRRD_TYPES = {
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
NRRD_SPACES = {
    'left-posterior-superior': (1, 1, 1),
    'lps': (1, 1, 1),
    'right-anterior-superior': (-1, -1, 1),
    'ras': (-1, -1, 1),
    'left-anterior-superior': (1, -1, 1),
    'las': (1, -1, 1),
}  # signs of their x, y, z in ITK's; others are taken for ITK's
MHA_TYPES = {
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


@dataclass(frozen=True)
class Header:
    """How a 3D volume lies in its file."""

    shape: tuple  # voxels (z, y, x)
    dtype: np.dtype  # as stored, with its byte order
    start: int  # bytes of the file before the voxels, or before the gzip or zlib data that hold them
    packed: bool  # are they in gzip or zlib data?
    spacing: tuple  # as told, unchecked; (x, y, z), mm, as origin and direction
    origin: tuple
    direction: tuple  # row by row
    skip: int = 0  # unpacked bytes before the voxels
    scale: tuple = (1, 0)  # the value is stored x scale[0] + scale[1]

    @property
    def bytes(self):
        return math.prod(self.shape) * self.dtype.itemsize


def parse(path, ending):
    """Header of a .nii, .nii.gz, .nrrd or .mha file.

    Raises InputError for a file that cannot be read, is no 3D volume of numbers, keeps its voxels in another file, or holds fewer bytes
    than its header promises, and for more voxels than half of this machine's memory holds.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f'{path}: wanted a name in unicode; rename the file') from None
    try:
        size = path.stat().st_size
        with open(path, 'rb') as file:
            begin = file.read(BINARY if '.nii' in ending else TEXT)
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from None
    try:
        header = READERS[ending](path, begin)
    except (ValueError, OverflowError, zlib.error) as error:
        raise InputError(f'{path}: cannot be read as an image ({error})') from None
    held = size - header.start
    if header.skip + header.bytes > held * (DEFLATE if header.packed else 1):
        raise InputError(
            f'{path}: cut short, or its header is false: it promises {header.bytes:,} bytes of voxels, the file holds '
            f'{f"{max(held, 0):,} bytes of gzip or zlib data" if header.packed else f"{max(held, 0):,}"}'
        )
    if header.bytes > MEMORY / 2:
        raise InputError(
            f'{path}: its header promises {header.bytes:,} bytes of voxels, more than half of the memory here '
            f'({MEMORY:,} bytes)'
        )
    return header


def nifti(path, begin, packed=False):
    """Header of a NIfTI-1 file that holds its voxels. ValueError, as in nrrd and mha, for what is none."""
    head = zlib.decompressobj(31).decompress(begin, 348) if packed else begin[:348]
    order = next((o for o in '<>' if head[:4] == struct.pack(f'{o}i', 348)), None)
    if not order or len(head) < 348:
        raise ValueError('no NIfTI-1 header; NIfTI-2 is not read')
    value = {name: struct.unpack_from(order + form, head, first) for name, (form, first) in NIFTI.items()}
    if value['magic'] != (b'n+1\0',):
        raise ValueError(f'wanted a NIfTI-1 file that holds its voxels, got magic {value["magic"][0]!r}')
    (code,), (dimensions, *sizes), (offset,) = value['type'], value['dim'], value['offset']
    if not 1 <= dimensions <= 7:
        raise ValueError(f'{dimensions} dimensions')
    while dimensions > 3 and sizes[dimensions - 1] == 1:
        dimensions -= 1
    shape = shape_of(dimensions, sizes[:dimensions])
    if code not in NIFTI_TYPES:
        raise ValueError(f'wanted one real number per voxel, got NIfTI datatype {code}')
    if offset != int(offset) or not 352 <= offset <= MARGIN:
        raise ValueError(f'voxels at byte {offset}')
    slope, shift = value['scale']
    scale = (slope, shift) if slope and math.isfinite(slope) else (1, 0)
    told = [v for name, used in zip(('qform', 'sform'), value['codes']) if used for v in value[name]]
    columns = [math.hypot(*value['sform'][x::4]) for x in range(3)] if value['codes'][1] else [1]
    # at NaN, also of its own making, ITK may compute for ever
    if not all(abs(v) <= FARTHEST for v in told) or min(columns) < 1e-6 or not all(math.isfinite(v) for v in scale):
        raise ValueError('position, direction or scale are not finite, or out of range')

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(str(error).strip().splitlines()[-1].split('ERROR: ')[-1][:200]) from None
    # ITK takes 1 for a spacing that is no number
    pixels = value['pixdim'][1:4]
    spacing = reader.GetSpacing() if all(math.isfinite(v) and v > 0 for v in pixels) else pixels
    return Header(
        shape,
        np.dtype(order + NIFTI_TYPES[code]),
        0 if packed else int(offset),
        packed,
        spacing,
        reader.GetOrigin(),
        reader.GetDirection(),
        int(offset) if packed else 0,
        scale,
    )


def nrrd(path, begin):
    """Header of an NRRD file whose voxels lie in it, raw or gzipped."""
    end = re.search(rb'\r?\n\r?\n', begin)
    if not re.match(rb'NRRD000[1-5]\r?\n', begin) or not end:
        raise ValueError('no NRRD header')
    lines = [line for line in begin[: end.start()].decode('latin-1').split('\n')[1:] if not re.match('#|[^:]*:=', line)]
    field = fields(lines, ':')
    for name, wanted in {
        'data file': '',
        'datafile': '',
        'line skip': '0',
        'lineskip': '0',
        'byte skip': '0',
        'byteskip': '0',
    }.items():
        if field.get(name, wanted) != wanted:
            raise ValueError(f'wanted the voxels right behind the header, got {name}: {field[name][:80]}')
    shape = shape_of(number(field, 'dimension', int, 1)[0], number(field, 'sizes', int))
    encoding = one_of(field, 'encoding', {'raw': False, 'gzip': True, 'gz': True})
    dtype = np.dtype(one_of(field, 'type', NRRD_TYPES))
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder(one_of(field, 'endian', {'little': '<', 'big': '>'}))

    flip = np.array(NRRD_SPACES.get(field.get('space', '').lower(), (1, 1, 1)))
    axes = np.eye(3)
    if 'space directions' in field:
        axes = np.reshape(number(field, 'space directions', float, 9), (3, 3)) * flip
        with np.errstate(all='ignore'):  # axes of length 0 or without end are refused with the geometry
            spacing = np.sqrt((axes**2).sum(1))
            axes = axes / spacing[:, None]
    else:
        spacing = number(field, 'spacings', float, 3)
    origin = number(field, 'space origin', float, 3) * flip if 'space origin' in field else (0, 0, 0)
    return Header(shape, dtype, end.end(), encoding, floats(spacing), floats(origin), floats(axes.T.ravel()))


def mha(path, begin):
    """Header of a MetaImage file whose voxels lie in it, raw or with zlib."""
    end = re.search(rb'(?m)^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?\n', begin)
    if not end:
        raise ValueError('no MetaImage header')
    field = fields(begin[: end.start()].decode('latin-1').split('\n'), '=')
    if end[1].upper() != b'LOCAL':
        raise ValueError(f'wanted the voxels in the file itself, got ElementDataFile = {end[1][:80]!r}')
    for name, wanted in {
        'objecttype': 'Image',
        'binarydata': 'True',
        'headersize': '0',
        'elementnumberofchannels': '1',
        'elementtointensityfunctionslope': '1',
        'elementtointensityfunctionoffset': '0',
    }.items():
        if field.get(name, wanted) != wanted:
            raise ValueError(f'wanted {name} = {wanted}, got {field[name][:80]}')
    shape = shape_of(number(field, 'ndims', int, 1)[0], number(field, 'dimsize', int))
    switch = {'true': True, 'false': False}
    packed = one_of(field, 'compresseddata', switch, False)
    big = one_of(field, 'binarydatabyteordermsb', switch, one_of(field, 'elementbyteordermsb', switch, False))
    dtype = np.dtype(one_of(field, 'elementtype', MHA_TYPES)).newbyteorder('>' if big else '<')

    def geometry(names, count, default):
        name = next((n for n in names if n in field), None)
        return number(field, name, float, count) if name else default

    spacing = geometry(('elementspacing', 'elementsize'), 3, (1, 1, 1))
    origin = geometry(('offset', 'origin', 'position'), 3, (0, 0, 0))
    axes = np.reshape(geometry(('transformmatrix', 'rotation', 'orientation'), 9, np.eye(3)), (3, 3))
    return Header(shape, dtype, end.end(), packed, floats(spacing), floats(origin), floats(axes.T.ravel()))


def fields(lines, separator):
    """{name in lower case: value} of a text header's lines."""
    found = {}
    for line in lines:
        name, mark, value = line.partition(separator)
        name = name.strip().lower()
        if mark and found.setdefault(name, value.strip()) != value.strip():
            raise ValueError(f'two values of {name[:80]}')
    return found


def number(field, name, kind, count=None):
    """Array of the `count` numbers of a field: parentheses and commas are space."""
    words = re.sub('[(),]', ' ', field.get(name, '')).split()
    if not words or len(words) != (count or len(words)):
        raise ValueError(f'wanted {count or "some"} numbers as {name}, got {field.get(name, "none")[:80]!r}')
    if max(map(len, words)) > 60:
        raise ValueError(f'{name}: a number of {max(map(len, words))} characters')
    return np.array([kind(word) for word in words], float if kind is float else object)


def one_of(field, name, values, default=None):
    """What `values` holds for a field, whose case does not matter."""
    if name not in field and default is not None:
        return default
    value = field.get(name, '')
    if value.lower() not in values:
        raise ValueError(f'wanted {name} as one of {", ".join(list(values)[:12])}, got {value[:80]!r}')
    return values[value.lower()]


def shape_of(dimensions, sizes):
    """(z, y, x) of the sizes (x, y, z) in a header."""
    if dimensions != 3 or len(sizes) != 3:
        raise ValueError(f'wanted a 3D volume, got {dimensions}D of size {" x ".join(map(str, sizes))[:80]}')
    if min(sizes) < 1:
        raise ValueError(f'wanted 1 voxel or more along each axis, got {" x ".join(map(str, sizes))}')
    return tuple(int(n) for n in reversed(sizes))


def floats(values):
    return tuple(float(v) for v in values)


def voxels(path, header):
    """Array (z, y, x) of a file's voxels as stored. OSError, EOFError or zlib.error if it is damaged."""
    if not header.packed:
        # no memory map: a file that is cut short under our hands is an error then, and not the end of the process
        return slices(path, header, 0, header.shape[0])
    array = np.empty(header.shape, header.dtype)
    with open(path, 'rb') as file:
        file.seek(header.start)
        inflate(file, header.skip, array.reshape(-1).view(np.uint8).data)
    return array


def slices(path, header, first, last):
    """Slices first to last - 1 (z, y, x) of a file that is not packed. OSError or EOFError if it does not hold them."""
    _, y, x = header.shape
    array = np.fromfile(
        path, header.dtype, (last - first) * y * x, offset=header.start + first * y * x * header.dtype.itemsize
    )
    if array.size < (last - first) * y * x:
        raise EOFError('it ends before its voxels do')
    return array.reshape(last - first, y, x)


def inflate(file, skip, into):
    """Fill the memory `into` from gzip or zlib data, after `skip` bytes of them; never more, whatever the data hold.

    EOFError if they end before; zlib.error if they are damaged: checksums are compared, also the one at the end.
    """
    stream, filled, data = zlib.decompressobj(47), -skip, b''
    while filled <= len(into):
        data = data or file.read(PIECE)
        if not data:
            raise EOFError('it ends before its voxels do')
        piece = stream.decompress(data, PIECE)
        new = piece[max(0, -filled) : max(0, len(into) - filled)]
        at = max(0, filled)
        into[at : at + len(new)] = new
        filled += len(piece)
        data = stream.unconsumed_tail
        if stream.eof:
            if filled >= len(into):
                return
            stream, data = zlib.decompressobj(47), stream.unused_data


READERS = {'.nii': nifti, '.nii.gz': partial(nifti, packed=True), '.nrrd': nrrd, '.mha': mha}

ENDINGS = ('.nii.gz', '.nii', '.nrrd', '.mha')


def ending(path):
    return next((e for e in ENDINGS if path.name.lower().endswith(e)), None)


def stem(path):
    """File name without its image ending: volume-1.nii.gz -> volume-1."""
    return path.name[: -len(ending(path))]
