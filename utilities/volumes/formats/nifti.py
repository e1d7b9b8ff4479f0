"""NIfTI-1 and NIfTI-2 files: .nii, .nii.gz, and .hdr with its .img. nibabel parses the header.

Source: R. W. Cox et al., "A (sort of) new image data format standard: NIfTI-1", 2004; nifti1.h and nifti2.h.
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from nibabel.affines import from_matvec
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.quaternions import quat2mat

from utilities.volumes.formats.shared import (
    GZIP,
    Header,
    VolumeFormat,
    find_data_file,
    floats,
    shape_of,
)

DTYPES = {2: 'u1', 4: 'i2', 8: 'i4', 16: 'f4', 64: 'f8', 256: 'i1', 512: 'u2', 768: 'u4', 1024: 'i8', 1280: 'u8'}
UNITS = {1: 1000.0, 3: 0.001}  # xyzt_units of metre and micrometre -> mm
MAX_POSITION = 1e6  # mm
MIN_COLUMN = 1e-6  # mm; least length of a column of an sform
MAX_OFFSET = 2**26  # bytes before the voxels, which hold the header and its extensions


class Nifti(VolumeFormat):
    endings = ('.nii.gz', '.nii', '.hdr')
    header_size = 2**16  # enough for a compressed header too; of many files on a slow disk each MB counts

    def parse_header(self, path: Path, beginning: bytes) -> Header:
        is_compressed = beginning.startswith(GZIP)
        if is_compressed:
            beginning = zlib.decompressobj(31).decompress(beginning, Nifti2Header.sizeof_hdr)
        fields = parse_fields(beginning)
        magic, data_path, min_offset = fields['magic'].item(), path, fields.single_vox_offset
        if magic == fields.pair_magic and path.suffix.lower() == '.hdr':
            data_path, min_offset = find_data_file(path, path.stem + ('.IMG' if path.suffix.isupper() else '.img')), 0
            is_compressed = False
        elif magic != fields.single_magic:
            raise ValueError(f'wanted a NIfTI file that holds its voxels, or a .hdr with its .img, got magic {magic!r}')
        dimensions, *sizes = fields['dim'].tolist()
        if not 1 <= dimensions <= 7:
            raise ValueError(f'{dimensions} dimensions')
        while dimensions > 3 and sizes[dimensions - 1] == 1:
            dimensions -= 1
        code, offset = fields['datatype'].item(), fields['vox_offset'].item()
        if code not in DTYPES:
            raise ValueError(f'wanted one real number per voxel, got NIfTI datatype {code}')
        if offset != int(offset) or not min_offset <= offset <= MAX_OFFSET:
            raise ValueError(f'voxels at byte {offset}')
        slope, intercept = fields.get_slope_inter()  # None where the slope is 0 or not finite
        return Header(
            shape_of(dimensions, sizes[:dimensions]),
            np.dtype(fields.endianness + DTYPES[code]),
            *parse_geometry(fields),
            data_path,
            start=0 if is_compressed else int(offset),
            is_compressed=is_compressed,
            skip=int(offset) if is_compressed else 0,
            scale=(slope or 1, intercept or 0),
        )


def parse_fields(block: bytes) -> Nifti1Header:
    """Return the fields of a header by name. Raises ValueError if the block does not begin with one."""
    for kind in (Nifti1Header, Nifti2Header):
        for byte_order in '<>':
            if block.startswith(struct.pack(f'{byte_order}i', kind.sizeof_hdr)) and len(block) >= kind.sizeof_hdr:
                return kind(block[: kind.sizeof_hdr], byte_order, check=False)
    raise ValueError('no NIfTI header')


def parse_geometry(fields: Nifti1Header) -> tuple[tuple, tuple, tuple]:
    """Return spacing, origin and direction in SimpleITK's axes (LPS), mm: NIfTI's x and y (RAS) change their signs."""
    pixdim = fields['pixdim'].astype(float)
    with np.errstate(all='ignore'):
        sform = fields.get_sform() if fields['sform_code'] > 0 else None
        qform = qform_of(fields, pixdim) if fields['qform_code'] > 0 else None
        for form in (sform, qform):
            if form is not None and not (np.abs(form) <= MAX_POSITION).all():
                raise ValueError('position or direction are not finite, or out of range')
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ choose_affine(sform, qform, fields['sform_code'])
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    unit = UNITS.get(fields['xyzt_units'].item() & 7, 1.0)
    return floats(pixdim[1:4] * unit), floats(affine[:3, 3] * unit), floats(axes)


def qform_of(fields: Nifti1Header, pixdim: np.ndarray) -> np.ndarray:
    """Return the affine (4, 4) of the quaternion, the offset and pixdim.

    nibabel's get_qform refuses a quaternion that rounding made a little longer than 1, and a pixdim below 0; ITK reads
    both.
    """
    vector = np.array([fields[f'quatern_{name}'] for name in 'bcd'], float)
    rest = 1 - vector @ vector
    # A vector of length 1 or, by rounding, more is a rotation by 180 degrees.
    quaternion = [0, *vector / np.linalg.norm(vector)] if rest < 1e-7 else [math.sqrt(rest), *vector]
    spacing = np.where((pixdim[1:4] > 0) & (pixdim[1:4] <= MAX_POSITION), pixdim[1:4], 1)
    spacing[2] *= -1 if pixdim[0] < 0 else 1
    offset = [fields[f'qoffset_{name}'] for name in 'xyz']
    return from_matvec(quat2mat(quaternion) * spacing, offset).astype(np.float32).astype(float)


def choose_affine(sform: np.ndarray | None, qform: np.ndarray | None, sform_code: int) -> np.ndarray:
    """Return the affine that says where the voxels lie, as ITK 5.4 chooses between the two.

    The sform is used if its axes are at right angles and there is no qform, or its code is 1 (scanner), or the two
    agree up to the signs of the axes. Otherwise the qform is used. If neither is coded (None), the axes are SimpleITK's
    and the origin is 0. ITK compares the axes by a singular value decomposition in float32: for an oblique sform of
    code 2 or more that mirrors its qform, rounding decides what ITK uses, and this function uses the sform.
    Raises ValueError if there is only an sform whose axes are not at right angles.
    """
    if sform is None:
        return np.diag([-1.0, -1.0, 1.0, 1.0]) if qform is None else qform
    lengths = np.linalg.norm(sform[:3, :3], axis=0)
    axes = sform[:3, :3] / lengths
    is_orthonormal = lengths.min() >= MIN_COLUMN and np.abs(axes @ axes.T - np.eye(3)).max() <= 1e-4
    if is_orthonormal and (qform is None or sform_code == 1 or agree(sform, qform)):
        return sform
    if qform is None:
        raise ValueError('wanted axes at right angles (an orthonormal sform) or a qform, found neither')
    return qform


def agree(sform: np.ndarray, qform: np.ndarray) -> bool:
    """Tell whether two affines have the same origin and, up to their signs, the same axes."""
    signs = np.append(np.sign((sform * qform)[:3, :3].sum(0)), 1)
    return bool((np.abs(sform * signs - qform) <= [1e-5, 1e-5, 1e-5, 1e-4]).all())
