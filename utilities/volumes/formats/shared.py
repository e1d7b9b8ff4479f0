"""What the formats share: the description of a file, the checks of what it promises, and the reading of its voxels.

A file is never trusted: its header is compared with its size and with the memory of this machine before memory is
allocated for the voxels, compressed data are expanded only as far as the header promises, and their checksums are
compared.
"""

import math
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from nibabel.spatialimages import HeaderDataError
from nrrd.errors import NRRDError

from utilities.base.errors import InputError

MAX_TEXT_HEADER = 2**20  # bytes; no text header is longer
MAX_EXPANSION = 1032  # bytes that one byte of gzip or zlib data can expand to
CHUNK = 2**20  # bytes that are decompressed at a time
MAX_TRAILING = 2**26  # bytes that are decompressed behind the voxels, to reach the checksum
FROM_END = -1  # Header.start of voxels that are the last bytes of their file
MACHINE_MEMORY = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')  # bytes
PARSER_ERRORS = (ValueError, OverflowError, IndexError, OSError, zlib.error, HeaderDataError, NRRDError)
GZIP = b'\x1f\x8b'  # the first bytes of gzip data
GIT_LFS_POINTER = b'version https://git-lfs'  # the first bytes of a file whose content Git LFS has not yet fetched


@dataclass(frozen=True)
class Header:
    """What the header of a file says about its 3D volume; spacing, origin and direction are unchecked."""

    shape: tuple[int, int, int]  # voxels (z, y, x)
    dtype: np.dtype  # of the stored values, with their byte order
    spacing: tuple[float, float, float]  # (x, y, z), mm; as in origin and direction
    origin: tuple[float, float, float]
    direction: tuple[float, ...]  # 3 x 3 matrix, row by row
    data_path: Path  # the file that holds the voxels
    start: int  # byte of that file where the voxels, or the gzip or zlib data that hold them, begin; or FROM_END
    is_compressed: bool = False  # by gzip or zlib
    skip: int = 0  # decompressed bytes before the voxels
    scale: tuple[float, float] = (1, 0)  # value = stored value x scale[0] + scale[1]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class VolumeFormat:
    """Base class of the formats.

    A format whose voxels are one run of bytes only defines `endings` and `parse_header`.
    """

    endings: tuple[str, ...] = ()  # of the file that is listed as the volume, in lower case
    header_size = MAX_TEXT_HEADER  # the first bytes of a file, which parse_header needs

    def parse_header(self, path: Path, beginning: bytes) -> Header:
        """Return the header of a file that begins with these bytes.

        Raises ValueError if it is not one of this format.
        """
        raise NotImplementedError

    def read_header(self, path: Path) -> Header:
        """Return the header of a file.

        Raises InputError for a file that cannot be read, is not a 3D volume of real numbers, or holds fewer bytes than
        its header promises, and for voxels that need more than half of this machine's memory.
        """
        beginning = read_beginning(path, self.header_size)
        try:
            header = self.parse_header(path, beginning)
            size = header.data_path.stat().st_size
        except PARSER_ERRORS as error:
            raise InputError(f'{path}: cannot be read as an image ({error})') from None
        if header.start == FROM_END:
            header = replace(header, start=max(0, size - header.bytes))
        check_size(path, header, size)
        return header

    def read_voxels(self, header: Header) -> np.ndarray:
        """Return the stored values (z, y, x). Raises OSError, EOFError or zlib.error if the file is damaged."""
        if not header.is_compressed:
            # Without a memory map a file that another program shortens meanwhile is an error and not a crash.
            return self.read_slices(header, 0, header.shape[0])
        array = np.empty(header.shape, header.dtype)
        with open(header.data_path, 'rb') as file:
            file.seek(header.start)
            decompress(file, header.skip, array.reshape(-1).view(np.uint8).data)
        return array

    def read_slices(self, header: Header, first: int, last: int) -> np.ndarray:
        """Return the slices first to last - 1 (z, y, x) of an uncompressed file.

        Raises OSError or EOFError if it is too short.
        """
        _, y, x = header.shape
        offset = header.start + first * y * x * header.dtype.itemsize
        array = np.fromfile(header.data_path, header.dtype, (last - first) * y * x, offset=offset)
        if array.size < (last - first) * y * x:
            raise EOFError('it ends before its voxels do')
        return array.reshape(last - first, y, x)


def read_beginning(path: Path, size: int) -> bytes:
    """Return the first `size` bytes of a file, fewer if it is shorter.

    Raises InputError if it has no content of its own.
    """
    try:
        str(path).encode()
        with open(path, 'rb') as file:
            beginning = file.read(size)
    except UnicodeEncodeError:
        raise InputError(f'{path}: wanted a name in unicode; rename the file') from None
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from None
    if not beginning:
        raise InputError(f'{path}: the file is empty')
    if beginning.startswith(GIT_LFS_POINTER):
        raise InputError(f'{path}: is a Git LFS pointer, not the file itself; fetch that with: git lfs pull')
    return beginning


def check_size(path: Path, header: Header, size: int) -> None:
    """Raise InputError if a header promises more than its data file of `size` bytes or half of the memory can hold."""
    available = max(0, size - header.start)
    expanded = available * MAX_EXPANSION if header.is_compressed else available
    if header.skip + header.bytes > expanded:
        raise InputError(
            f'{path}: cut short, or its header is wrong: it promises {header.bytes:,} bytes of voxels, the file holds '
            f'{available:,} {"bytes of gzip or zlib data" if header.is_compressed else "bytes"}'
        )
    if header.bytes > MACHINE_MEMORY / 2:
        raise InputError(
            f'{path}: its header promises {header.bytes:,} bytes of voxels, more than half of the memory '
            f'of this machine ({MACHINE_MEMORY:,} bytes)'
        )


def find_data_file(path: Path, name: str) -> Path:
    """Return the file beside a header that holds its voxels.

    Raises ValueError unless it is one file of the header's own folder, so that no header makes us read anything else.
    """
    if name != Path(name).name or name.upper().startswith('LIST') or not path.with_name(name).is_file():
        raise ValueError(f'wanted its voxels in one file of the same folder, found none called {name[:200]!r}')
    read_beginning(path.with_name(name), len(GIT_LFS_POINTER))
    return path.with_name(name)


def shape_of(dimensions: int, sizes: list[int]) -> tuple[int, int, int]:
    """Return the shape (z, y, x) for the sizes (x, y, z) in a header.

    Raises ValueError unless they are three, all above 0.
    """
    if dimensions != 3 or len(sizes) != 3 or min(sizes) < 1:
        sizes = ' x '.join(map(str, sizes))[:80]
        raise ValueError(f'wanted a 3D volume of 1 voxel or more along each axis, got {dimensions}D of size {sizes}')
    return tuple(int(n) for n in reversed(sizes))


def one_of(name: str, text: str, values: dict):
    """Return the value for the text of a field, whose case does not matter.

    Raises ValueError, which names the field and the texts wanted, if `values` has none for it.
    """
    if text.lower() not in values:
        raise ValueError(f'wanted {name} as one of {", ".join(list(values)[:12])}, got {text[:80]!r}')
    return values[text.lower()]


def floats(values) -> tuple[float, ...]:
    return tuple(np.ravel(values).astype(float).tolist())


def decompress(file: BinaryIO, skip: int, memory: memoryview) -> None:
    """Fill `memory` from gzip or zlib data, behind their first `skip` decompressed bytes.

    Several gzip members are read as one, as pigz and bgzip write them. A member that holds more than the voxels is
    decompressed to its end, since only there its checksum shows whether the voxels are sound, but never further than
    MAX_TRAILING bytes. Raises EOFError if the data hold too little or far too much, and zlib.error if they are damaged.
    """
    stream, filled, data = zlib.decompressobj(47), -skip, b''
    while True:
        data = data or file.read(CHUNK)
        if not data:
            raise EOFError('it ends before its voxels or their checksum do')
        chunk = stream.decompress(data, CHUNK)
        new = chunk[max(0, -filled) : max(0, len(memory) - filled)]
        position = max(0, filled)
        memory[position : position + len(new)] = new
        filled += len(chunk)
        data = stream.unconsumed_tail
        if stream.eof and filled >= len(memory):
            return
        if stream.eof:
            stream, data = zlib.decompressobj(47), stream.unused_data
        if filled > len(memory) + MAX_TRAILING:
            raise EOFError('its compressed data hold far more than its header promises')
