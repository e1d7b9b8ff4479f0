"""A small volume in every format, written by SimpleITK or byte by byte, and SimpleITK's reading to compare with."""

import re
import struct

import numpy as np
import SimpleITK as sitk

from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import read_volume

OBLIQUE = Geometry((0.7, 0.8, 2.5), (-170.0, 12.0, 33.5), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
ARRAY = np.random.default_rng(4).integers(-300, 300, (4, 6, 5)).astype(np.int16)
SINGLE_FILES = ('.nii.gz', '.nii', '.nrrd', '.mha')
PAIRS = {
    '.hdr': '.img',
    '.nhdr': '.raw',
    '.mhd': '.raw',
}  # ending of the header and of its data file as SimpleITK writes it


def write_with_itk(path, array=ARRAY, geometry=OBLIQUE, is_compressed=False):
    """Write a volume with SimpleITK and return its path."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    sitk.WriteImage(image, str(path), is_compressed)
    return path


def assert_read_as_by_itk(path):
    """Compare values and geometry with SimpleITK's reading of the same file."""
    array, geometry = read_volume(path)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(geometry.spacing, image.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(geometry.origin, image.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(geometry.direction, image.GetDirection(), atol=1e-6)


def change_text_header(path, old, new):
    """Replace the regular expression `old` by the bytes `new` in the header of an uncompressed text format."""
    data = path.read_bytes()
    size = len(data) - ARRAY.nbytes if path.suffix in ('.nrrd', '.mha') else len(data)
    header, count = re.subn(old, new, data[:size])
    assert count
    path.write_bytes(header + data[size:])
    return path


NIFTI_MEMBERS = {  # name: (format of struct, first byte)
    'sizeof_hdr': ('i', 0),
    'dim': ('8h', 40),
    'datatype': ('h', 70),
    'bitpix': ('h', 72),
    'pixdim': ('8f', 76),
    'vox_offset': ('f', 108),
    'scale': ('2f', 112),
    'xyzt_units': ('B', 123),
    'codes': ('2h', 252),
    'qform': ('6f', 256),
    'sform': ('12f', 280),
    'magic': ('4s', 344),
    'extension': ('2i', 348),
}


def nifti_bytes(**members):
    """Return a NIfTI-1 file of ARRAY made byte by byte, some header members replaced."""
    data = bytearray(368) + ARRAY.tobytes()
    members = {
        'sizeof_hdr': 348,
        'dim': (3, 5, 6, 4, 1, 1, 1, 1),
        'datatype': 4,
        'bitpix': 16,
        'pixdim': (1, 0.7, 0.8, 2.5, 1, 1, 1, 1),
        'vox_offset': 368,
        'scale': (1, 0),
        'codes': (1, 0),
        'qform': (0, 0, 0, 1, 2, 3),
        'magic': b'n+1\0',
        **members,
    }
    for name, value in members.items():
        code, first = NIFTI_MEMBERS[name]
        struct.pack_into(f'<{code}', data, first, *(value if isinstance(value, tuple) else (value,)))
    return bytes(data)
