"""Draw samples from the training set."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utilities.base.errors import InputError
from utilities.image.preprocess import normalise
from utilities.run.manifest import settings_of_cases
from utilities.volumes.cases import Case, find_cases
from utilities.volumes.read_write import SliceReader, read_header

# What to set, in the messages of find_cases.
FOLDER_ADVICE = 'training_set_path, or run first: python data_prepare/get_training_set.py'


class Dataset(torch.utils.data.Dataset):
    """Draw runs of consecutive slices from the training set that data_prepare/get_training_set.py wrote.

    A sample is a pair of tensors: the CT, float32 (1, size, y, x), HU divided by max(|lower|, |upper|), and the label,
    uint8 (size, y / down_scale, x / down_scale). `dataset[index]` draws the first slice at random;
    `dataset[index, start_fraction]` takes the slice at this fraction, 0 to below 1, of all possible first slices.
    Headers are read once; of an uncompressed file a sample reads only its own slices.

    Args:
        ct_folder: folder of the CTs.
        label_folder: folder of the labels.
        size: number of slices in a sample.
        lower: lower end of the intensity window in HU.
        upper: upper end of the intensity window in HU.
        down_scale: in-plane size of a CT divided by that of its label.
        samples_per_case: number of samples that are drawn from each case.

    Raises:
        InputError: A folder is missing or empty; a CT has no label, a label of another shape, or fewer slices than
            `size`.
    """

    def __init__(
        self,
        ct_folder: Path | str,
        label_folder: Path | str,
        size: int,
        lower: float = -200,
        upper: float = 200,
        down_scale: float = 0.5,
        samples_per_case: int = 1,
    ) -> None:
        self.size, self.lower, self.upper, self.samples_per_case = size, lower, upper, samples_per_case
        self.cases = find_cases(ct_folder, FOLDER_ADVICE, label_folder)
        self.geometries = {}  # of the labels, by the name of the case
        self.depths, self.ct_readers, self.label_readers = {}, {}, {}  # by the name of the case
        for case in self.cases:
            self.add_case(case, label_folder, down_scale)

    def add_case(self, case: Case, label_folder: Path | str, down_scale: float) -> None:
        """Read the headers of a case and check that its files belong together."""
        if case.label is None:
            raise InputError(f'{case.ct}: no label in {label_folder}; run data_prepare/get_training_set.py again')
        ct_shape, _ = read_header(case.ct)
        label_shape, geometry = read_header(case.label)
        wanted_shape = ct_shape[0], round(ct_shape[1] / down_scale), round(ct_shape[2] / down_scale)
        if label_shape != wanted_shape:
            raise InputError(
                f'{case.label}: wanted {wanted_shape} voxels (z, y, x) with down_scale {down_scale:g}, '
                f'got {label_shape}'
            )
        if ct_shape[0] < self.size:
            raise InputError(f'{case.ct}: wanted {self.size} slices or more, got {ct_shape[0]}; lower size')
        self.geometries[case.name], self.depths[case.name] = geometry, ct_shape[0]
        self.ct_readers[case.name], self.label_readers[case.name] = SliceReader(case.ct), SliceReader(case.label)

    def __len__(self) -> int:
        return len(self.cases) * self.samples_per_case

    def __getitem__(self, key: int | tuple[int, float]) -> tuple[torch.Tensor, torch.Tensor]:
        index, start_fraction = key if isinstance(key, tuple) else (key, torch.rand((), dtype=torch.float64).item())
        name = self.case_name(index)
        first = int(start_fraction * (self.depths[name] - self.size + 1))
        ct, label = self.read_slices(name, first, first + self.size)
        return torch.from_numpy(ct)[None], torch.from_numpy(label)

    def case_name(self, index: int) -> str:
        """Return the name of the case that a sample is drawn from."""
        return self.cases[index % len(self.cases)].name

    def case_depths(self) -> list[list]:
        """Return [name, number of slices] of each case; a training that is resumed compares them."""
        return [[case.name, self.depths[case.name]] for case in self.cases]

    def read_case(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return all slices of a case: the normalised CT, float32 (z, y, x), and the label, uint8 (z, Y, X)."""
        name = self.cases[index].name
        return self.read_slices(name, 0, self.depths[name])

    def read_slices(self, name: str, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the slices `first` to `end` - 1 of a case: the normalised CT and the label. Raises InputError."""
        ct = normalise(self.ct_readers[name].read(first, end), self.lower, self.upper)
        return ct, np.require(self.label_readers[name].read(first, end), np.uint8, 'W')

    def hold_out(self, count: int, seed: int) -> 'Dataset | None':
        """Move `count` random cases, chosen by the seed, into a Dataset of their own.

        Returns the new Dataset, or None if `count` is 0. Raises InputError if no case would remain in this one.
        """
        if not count:
            return None
        if count >= len(self.cases):
            raise InputError(
                f'parameter validation_cases: wanted fewer than the {len(self.cases)} cases of training_set_path, '
                f'got {count}'
            )
        chosen = set(np.random.default_rng([seed, 11]).permutation(len(self.cases))[:count].tolist())
        held_out = copy.copy(self)
        held_out.cases = [case for index, case in enumerate(self.cases) if index in chosen]
        self.cases = [case for index, case in enumerate(self.cases) if index not in chosen]
        return held_out


def require_settings(folder: Path | str, **wanted: Any) -> None:
    """Raise InputError unless all cases of a training set were made with the wanted settings.

    A training set without records, which another program made, is accepted.
    """
    recorded = settings_of_cases(folder)
    if len(recorded) > 1 or None in recorded:
        raise InputError(
            f'{folder}: holds cases of several settings or half-written ones; run '
            'data_prepare/get_training_set.py again'
        )
    for name, value in wanted.items():
        if recorded and recorded[0].get(name) != value:
            raise InputError(
                f'{folder}: was made with {name} {recorded[0].get(name)}, now it is {value}; set it back, or run '
                'data_prepare/get_training_set.py again'
            )
