"""Training set -> samples."""

import copy

import numpy as np
import torch

from utilities.base.errors import InputError
from utilities.image.preprocess import normalise
from utilities.run.manifest import settings_of_cases
from utilities.volumes.cases import find_cases
from utilities.volumes.read_write import SliceReader, read_header


class Dataset(torch.utils.data.Dataset):
    """Random runs of `size` consecutive slices from the training set that get_training_set.py wrote.

    One item: CT as float32 (1, size, y, x), HU divided by max(|lower|, |upper|), and labels as uint8
    (size, y / down_scale, x / down_scale). Headers are read once; of an uncompressed file a sample reads its own slices alone.
    `samples_per_case` items are drawn from each case. An index draws its first slice at random; a key (index, place), place from 0 to
    below 1, names it. Raises InputError for a folder that is missing or empty, a CT
    without label, sizes that do not belong together, and fewer slices than `size`.
    """

    def __init__(self, ct_dir, seg_dir, size, lower=-200, upper=200, down_scale=0.5, samples_per_case=1):
        self.size, self.lower, self.upper, self.samples_per_case = size, lower, upper, samples_per_case
        self.cases = find_cases(
            ct_dir, 'training_set_path, or run first: python data_prepare/get_training_set.py', seg_dir
        )
        self.volumes, self.geometries = [], {}
        for case in self.cases:
            if case.label is None:
                raise InputError(f'{case.ct}: no label in {seg_dir}; run data_prepare/get_training_set.py again')
            shape, (label_shape, self.geometries[case.name]) = read_header(case.ct)[0], read_header(case.label)
            wanted = (shape[0], round(shape[1] / down_scale), round(shape[2] / down_scale))
            if label_shape != wanted:
                raise InputError(
                    f'{case.label}: wanted {wanted} voxels (z, y, x) with down_scale {down_scale:g}, got {label_shape}'
                )
            if shape[0] < size:
                raise InputError(f'{case.ct}: wanted {size} slices or more, got {shape[0]}; lower size')
            self.volumes.append((shape[0], SliceReader(case.ct), SliceReader(case.label)))

    def __len__(self):
        return len(self.cases) * self.samples_per_case

    def name(self, index):
        """Name of a sample's case."""
        return self.cases[index % len(self.cases)].name

    def depths(self):
        """[name, slices] of each case: by these a training knows its training set again."""
        return [[case.name, depth] for case, (depth, *_) in zip(self.cases, self.volumes)]

    def hold_out(self, number, seed):
        """Take `number` cases, chosen by the seed, out of this Dataset; returns them as one of their own, None for 0.

        Raises InputError if no case would be left.
        """
        if not number:
            return None
        if number >= len(self.cases):
            raise InputError(
                f'parameter validation_cases: wanted fewer than the {len(self.cases)} cases of training_set_path, got '
                f'{number}'
            )
        chosen = set(np.random.default_rng([seed, 11]).permutation(len(self.cases))[:number].tolist())
        pairs = list(zip(self.cases, self.volumes))
        other = copy.copy(self)
        other.cases, other.volumes = map(list, zip(*(pair for i, pair in enumerate(pairs) if i in chosen)))
        self.cases, self.volumes = map(list, zip(*(pair for i, pair in enumerate(pairs) if i not in chosen)))
        return other

    def whole(self, index):
        """All slices of a case: (CT (z, y, x), labels), as in an item, as arrays."""
        depth, ct, label = self.volumes[index]
        return normalise(ct.read(0, depth), self.lower, self.upper), np.asarray(label.read(0, depth), np.uint8)

    def __getitem__(self, key):
        index, place = key if isinstance(key, tuple) else (key, float(torch.rand((), dtype=torch.float64)))
        depth, ct, label = self.volumes[index % len(self.cases)]
        first = int(place * (depth - self.size + 1))
        ct, label = (volume.read(first, first + self.size) for volume in (ct, label))
        return torch.from_numpy(normalise(ct, self.lower, self.upper))[None], torch.from_numpy(
            np.require(label, np.uint8, 'W')
        )


def require_settings(folder, **wanted):
    """Raise InputError unless all cases of a training set were made with the wanted settings. One without records is taken as it is."""
    found = settings_of_cases(folder)
    if len(found) > 1 or None in found:
        raise InputError(
            f'{folder}: holds cases of several settings or half-written ones; run data_prepare/get_training_set.py again'
        )
    for name, value in wanted.items():
        if found and found[0].get(name) != value:
            raise InputError(
                f'{folder}: was made with {name} {found[0].get(name)}, now it is {value}; set it back, or run '
                'data_prepare/get_training_set.py again'
            )
