"""The formats of volumes. A new format is one module of this folder and one line of FORMATS."""

from pathlib import Path

from utilities.volumes.formats.metaimage import MetaImage
from utilities.volumes.formats.nifti import Nifti
from utilities.volumes.formats.nrrd import Nrrd
from utilities.volumes.formats.shared import Header, VolumeFormat

FORMATS = {ending: format for format in (Nifti(), Nrrd(), MetaImage()) for ending in format.endings}
ENDINGS = tuple(FORMATS)


def ending(path: Path) -> str | None:
    """Return the ending of a file that is listed as a volume, in lower case; None for any other file."""
    return next((e for e in ENDINGS if path.name.lower().endswith(e)), None)


def stem(path: Path) -> str:
    """Return the name of a volume without its ending: volume-1.nii.gz -> volume-1."""
    return path.name[: -len(ending(path))]


def format_of(path: Path) -> VolumeFormat:
    return FORMATS[ending(path)]


def read_file_header(path: Path) -> Header:
    """Return what the header of a file says, checked against the file's size.

    Raises InputError for what is not a 3D volume.
    """
    return format_of(path).read_header(path)
