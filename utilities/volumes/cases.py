"""Find the CT volumes of a folder, pair them with their labels, and name what is made from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utilities.base.errors import InputError
from utilities.base.natural_sorting import natural_key
from utilities.volumes.formats import ENDINGS, ending, read_file_header, stem


@dataclass(frozen=True)
class Case:
    """A CT with its label, if it has one, and its true `spacing` (x, y, z) in mm, if the headers give a wrong one."""

    ct: Path
    label: Path | None
    spacing: tuple[float, float, float] | None = None

    @property
    def name(self) -> str:
        return stem(self.ct)

    @property
    def files(self) -> list[Path]:
        """The files that hold the case: of a volume in two files (.hdr, .nhdr, .mhd) both."""
        volumes = [self.ct] if self.label is None else [self.ct, self.label]
        return [file for volume in volumes for file in files_of(volume)]

    @property
    def voxels(self) -> int:
        """Number of voxels of the CT according to its header; 0 if that cannot be read."""
        try:
            return math.prod(read_file_header(self.ct).shape)
        except InputError:
            return 0


def files_of(path: Path) -> list[Path]:
    """Return the files of a volume: its own, and that of its voxels where this is another one."""
    try:
        return list(dict.fromkeys([path, read_file_header(path).data_path]))
    except InputError:
        return [path]


def output_name(name: str, word: str) -> str:
    """Return the name of an output: volume-1 -> word-1; a name without 'volume' gets the word in front."""
    return name.replace('volume', word) if 'volume' in name else f'{word}-{name}'


def label_name(ct_name: str) -> str:
    """Return the name of a CT's label: volume-1 -> segmentation-1; the CT's own name if 'volume' is not in it."""
    return ct_name.replace('volume', 'segmentation')


def find_volumes(folder: Path | str, parameter: str) -> dict[str, Path]:
    """Return the volumes of a folder as list_volumes does.

    Raises InputError, which names the parameter that holds the folder, if the folder is missing or holds none.
    """
    if not Path(folder).is_dir():
        advice = f'set {parameter}'
        if parameter in ('train_ct_path', 'test_ct_path'):
            advice += ', or make phantoms to try with: python data_prepare/make_phantom.py'
        raise InputError(f'{folder}: no such folder; {advice}')
    volumes = list_volumes(folder)
    if not volumes:
        raise InputError(f'{folder}: wanted volumes ({", ".join(ENDINGS)}), found none; set {parameter}')
    return volumes


def list_volumes(folder: Path | str) -> dict[str, Path]:
    """Return the volumes of a folder, but no hidden files, as {name without ending: path} in natural order.

    Raises InputError if two files differ only by their ending.
    """
    volumes = {}
    for path in Path(folder).iterdir():
        if path.is_file() and not path.name.startswith('.') and ending(path):
            if stem(path) in volumes:
                raise InputError(f'{path}: the same case as {volumes[stem(path)].name}; keep one of the two')
            volumes[stem(path)] = path
    return {name: volumes[name] for name in sorted(volumes, key=natural_key)}


def find_cases(
    ct_folder: Path | str,
    ct_parameter: str,
    label_folder: Path | str,
    spacing_override: Mapping[str, Sequence[float]] = {},
) -> list[Case]:
    """Return every CT of a folder with its label.

    The label of volume-N is segmentation-N, whatever the two endings; that of any other CT has the CT's own name.

    CTs and labels may lie in one folder, as LiTS is distributed: what is called segmentation is not a CT.

    Args:
        ct_folder: holds the CTs.
        ct_parameter: the parameter that error messages name for it.
        label_folder: holds the labels; it may be missing.
        spacing_override: true spacing, {case name: (x, y, z) in mm}.

    Raises:
        InputError: if the folder holds no CT, or if the outputs of two cases would have the same name.
    """
    labels = list_volumes(label_folder) if Path(label_folder).is_dir() else {}
    is_one_folder = Path(label_folder).resolve() == Path(ct_folder).resolve()
    cases = {}
    for name, ct in find_volumes(ct_folder, ct_parameter).items():
        if name.startswith('segmentation'):
            continue
        # In one folder a name without 'volume' would find the CT itself.
        label = None if is_one_folder and 'volume' not in name else labels.get(label_name(name))
        case = Case(ct, label, spacing_of(name, spacing_override))
        other = cases.setdefault(output_name(name, 'pred'), case)
        if other is not case:
            raise InputError(
                f'{ct}: its outputs would have the names of those of {other.ct.name}; rename one of the two'
            )
    if not cases:
        raise InputError(f'{ct_folder}: wanted CT volumes, found only labels (segmentation-N); set {ct_parameter}')
    return list(cases.values())


def spacing_of(name: str, spacing_override: Mapping[str, Sequence[float]]) -> tuple[float, float, float] | None:
    return tuple(float(s) for s in spacing_override[name]) if name in spacing_override else None
