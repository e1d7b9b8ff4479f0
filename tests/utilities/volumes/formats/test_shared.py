"""Promises are checked before memory is allocated, and compressed data are read no further than promised."""

import gzip
import io
import re
import tracemalloc
import zlib

import numpy as np
import pytest

from tests.utilities.volumes.sample_volumes import ARRAY, nifti_bytes, write_with_itk
from utilities.base.errors import InputError
from utilities.volumes.formats import shared
from utilities.volumes.read_write import read_header, read_volume


def test_more_than_half_of_the_memory_is_refused_by_the_header(tmp_path, monkeypatch):
    (tmp_path / 'a.nii').write_bytes(nifti_bytes())
    monkeypatch.setattr(shared, 'MACHINE_MEMORY', 2 * ARRAY.nbytes - 1)
    with pytest.raises(InputError, match='more than half of the memory'):
        read_header(tmp_path / 'a.nii')
    monkeypatch.setattr(shared, 'MACHINE_MEMORY', 2 * ARRAY.nbytes)
    read_header(tmp_path / 'a.nii')


@pytest.mark.parametrize('ending', ['.nii.gz', '.nrrd', '.mha'])
@pytest.mark.parametrize('trailing, is_read', [(1000, True), (shared.MAX_TRAILING + 2 * shared.CHUNK, False)])
def test_a_bomb_is_not_decompressed_to_its_end(tmp_path, ending, trailing, is_read):
    path = write_with_itk(tmp_path / f'volume{ending}', is_compressed=True)
    zeros = bytes(trailing)
    if ending == '.nii.gz':
        path.write_bytes(gzip.compress(nifti_bytes() + zeros, 1))
    else:
        header = re.match(rb'(?s).*?(LOCAL\n|\n\n)', path.read_bytes())[0]
        path.write_bytes(header + (gzip if ending == '.nrrd' else zlib).compress(ARRAY.tobytes() + zeros, 1))
    tracemalloc.start()
    if is_read:
        np.testing.assert_array_equal(read_volume(path)[0], ARRAY)
    else:
        with pytest.raises(InputError, match='far more than its header promises'):
            read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize('skip', [0, 1, 399, 400, 401, 607])
@pytest.mark.parametrize('sizes', [[608], [400, 208], [0, 400, 0, 208]])
def test_gzip_in_several_members_and_its_checksums(sizes, skip):
    """pigz and bgzip write several members; a checksum at the end that is wrong, or missing, is damage."""
    data, rest = nifti_bytes(), io.BytesIO(nifti_bytes())
    compressed, memory = b''.join(gzip.compress(rest.read(size)) for size in sizes), bytearray(608 - skip)
    shared.decompress(io.BytesIO(compressed), skip, memory)
    assert memory == data[skip:]
    with pytest.raises(EOFError):
        shared.decompress(io.BytesIO(compressed[:-1]), skip, memory)
    with pytest.raises(EOFError):
        shared.decompress(io.BytesIO(compressed), skip, bytearray(609 - skip))
    with pytest.raises(zlib.error, match='incorrect data check'):
        damaged = compressed[:-6] + bytes([compressed[-6] ^ 1]) + compressed[-5:]
        shared.decompress(io.BytesIO(damaged), skip, memory)


def test_what_follows_the_voxels_is_read_to_the_checksum_and_no_further():
    voxels, trailing = np.random.default_rng(0).bytes(1000), bytes(2000)
    member = gzip.compress(voxels + trailing)
    file = io.BytesIO(member + np.random.default_rng(0).bytes(8 * shared.CHUNK))
    memory = bytearray(1000)
    shared.decompress(file, 0, memory)
    assert memory == voxels and file.tell() <= 2 * shared.CHUNK
    damaged = bytearray(member)
    damaged[-6] ^= 1
    with pytest.raises(zlib.error, match='incorrect data check'):
        shared.decompress(io.BytesIO(damaged), 0, memory)
