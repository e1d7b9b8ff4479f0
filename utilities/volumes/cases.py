"""Find the CT volumes of a folder, pair them with their labels, and name what is made from them."""

import math
from dataclasses import dataclass
from pathlib import Path

from utilities.base.errors import InputError
from utilities.base.natural_sorting import natural_key
from utilities.volumes import headers
from utilities.volumes.headers import ENDINGS, ending, stem


@dataclass(frozen=True)
class Case:
    """A CT and its label (None where there is none); `spacing` (x, y, z) in mm is the true one where their headers are wrong."""

    ct: Path
    label: Path | None
    spacing: tuple | None = None

    @property
    def name(self):
        return stem(self.ct)

    @property
    def files(self):
        return [self.ct] if self.label is None else [self.ct, self.label]

    @property
    def voxels(self):
        """Of the CT, by its header; 0 where that cannot be read."""
        try:
            return math.prod(headers.parse(self.ct, ending(self.ct)).shape)
        except InputError:
            return 0


def output_name(name, word):
    """volume-1 -> word-1; a name without 'volume' gets the word in front."""
    return name.replace('volume', word) if 'volume' in name else f'{word}-{name}'


def find_volumes(folder, parameter):
    """Image files in a folder by name (stem -> path), numbers in natural order.

    Raises InputError, which names the parameter that holds the folder, if it is missing or empty, or if two files
    differ only by their ending.
    """
    if not Path(folder).is_dir():
        phantoms = ', or make phantoms to try with: python data_prepare/make_phantom.py' * (
            parameter in ('train_ct_path', 'test_ct_path')
        )
        raise InputError(f'{folder}: no such folder; set {parameter}{phantoms}')
    found = list_volumes(folder)
    if not found:
        raise InputError(f'{folder}: wanted volumes ({", ".join(ENDINGS)}), found none; set {parameter}')
    return found


def list_volumes(folder):
    found = {}
    for path in Path(folder).iterdir():
        if path.is_file() and not path.name.startswith('.') and ending(path):
            if stem(path) in found:
                raise InputError(f'{path}: the same case as {found[stem(path)].name}; keep one of the two')
            found[stem(path)] = path
    return {name: found[name] for name in sorted(found, key=natural_key)}


def label_name(ct_name):
    """volume-1 -> segmentation-1; a CT's own name if 'volume' is not in it."""
    return ct_name.replace('volume', 'segmentation')


def find_cases(ct_folder, ct_parameter, label_folder, spacing_override={}):
    """Every CT of a folder with its label: volume-N -> segmentation-N, whatever the two endings; else the CT's own name.

    CT and labels may lie in one folder, as LiTS is handed out: what is called segmentation is no CT. spacing_override: true spacing
    {case name: (x, y, z) in mm}. Raises InputError where the results of two cases would have one name.
    """
    labels = list_volumes(label_folder) if Path(label_folder).is_dir() else {}
    one_folder = Path(label_folder).resolve() == Path(ct_folder).resolve()
    cases = [
        Case(
            ct,
            labels.get(label_name(name) if 'volume' in name or not one_folder else ''),
            spacing_of(name, spacing_override),
        )
        for name, ct in find_volumes(ct_folder, ct_parameter).items()
        if not name.startswith('segmentation')
    ]
    if not cases:
        raise InputError(f'{ct_folder}: wanted CT volumes, found only labels (segmentation-N); set {ct_parameter}')
    first = {}
    for case in cases:
        other = first.setdefault(output_name(case.name, 'pred'), case)
        if other is not case:
            raise InputError(
                f'{case.ct}: its results would have the names of those of {other.ct.name}; rename one of the two'
            )
    return cases


def spacing_of(name, spacing_override):
    return tuple(float(s) for s in spacing_override[name]) if name in spacing_override else None
