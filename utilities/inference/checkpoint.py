"""Read weights and training states. Files are read with weights_only, so no code in them is run."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from utilities.base.errors import InputError
from utilities.base.natural_sorting import natural_key

# Prefixes of names that DataParallel, torch.compile, DeepSupervision and Lightning add, in any order.
PREFIXES = re.compile(r'^((module|_orig_mod|network|model)\.)+')


def load_checkpoint(path: Path | str) -> Any:
    """Return the content of a file that torch.save wrote, its tensors on the CPU.

    Raises InputError for a file that cannot be read, is damaged, even by one flipped bit, or holds objects that
    weights_only does not allow.
    """
    try:
        if zipfile.is_zipfile(path):
            require_intact(path)
        with warnings.catch_warnings(action='ignore'):
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # A damaged file may raise anything.
        raise InputError(f'{path}: is no checkpoint, or damaged ({describe_load_error(error)})') from None


def require_intact(path: Path | str) -> None:
    """Raise ValueError if a check sum in a zip archive is wrong, or if it is compressed and could unpack to any size.

    torch.load does not compare the check sums that torch.save writes.
    """
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError('its content is compressed')
        if damaged := archive.testzip():
            raise ValueError(f'wrong check sum of {damaged}')


def describe_load_error(error: Exception) -> str:
    """Describe in one line why a checkpoint could not be read."""
    if isinstance(error, pickle.UnpicklingError):  # PyTorch's message recommends running the code in the file.
        requested = re.search(r'GLOBAL (\S+)', str(error))
        return f'it holds more than weights: it asks for {requested[1]}' if requested else 'it holds no weights'
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def load_weights(
    network: torch.nn.Module, path: Path | str, advice: str = 'set module_path, or train first with python train_ds.py'
) -> Path:
    """Load weights into a network and return the file that holds them.

    The file may hold the weights alone, or in one entry of a dict beside other entries, like the last.pth of a training
    ('network') and many checkpoints of other programs ('state_dict', 'model_state_dict', 'model').

    Args:
        network: the network; it is not changed if an error is raised.
        path: a file, or a folder whose newest net*.pth is taken.
        advice: what the error message recommends if there is no such file.

    Raises:
        InputError: there is no such file; the file holds no weights or several candidates; or names, shapes or types
            that the network does not have; or weights that are not finite.
    """
    path = newest_weights(path, advice) if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise InputError(f'{path}: no such file; {advice}')
    weights = find_weights(load_checkpoint(path), path)
    expected = network.state_dict()
    shared = [name for name in expected if name in weights]
    wrong_shapes = [
        f'{name} wanted {tuple(expected[name].shape)}, got {tuple(weights[name].shape)}'
        for name in shared
        if expected[name].shape != weights[name].shape
    ]
    wrong_types = [
        f'{name} {weights[name].dtype} {weights[name].layout} {weights[name].device}'
        for name in shared
        if not weights[name].is_floating_point() or weights[name].layout != torch.strided or weights[name].is_meta
    ]
    faults = {
        'missing': sorted(expected.keys() - weights.keys()),
        'unknown': sorted(weights.keys() - expected.keys()),
        'wrong shape': wrong_shapes,
        'not dense numbers': wrong_types,
    }
    if not wrong_shapes and not wrong_types:
        faults['NaN or infinite'] = [name for name in shared if not is_finite(weights[name])]
    found = [f'{fault} ({len(names)}): {", ".join(names[:3])}' for fault, names in faults.items() if names]
    if found:
        raise InputError(f'{path}: not the weights of this network; {"; ".join(found)}')
    network.load_state_dict(weights)
    return path


def find_weights(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in the content of a checkpoint, by their names without the prefixes of PREFIXES.

    Raises InputError if there are none, or several candidates.
    """
    if is_state_dict(content):
        weights = content
    else:
        entries = content if isinstance(content, dict) else {}
        candidates = [name for name, entry in entries.items() if is_state_dict(entry) and entry]
        if len(candidates) != 1:
            found = f'several candidates: {", ".join(map(str, candidates))}' if candidates else 'something else'
            raise InputError(
                f'{path}: wanted the weights of ResUNet by name, alone or in one entry of the checkpoint, got {found}'
            )
        weights = content[candidates[0]]
    unprefixed = {PREFIXES.sub('', name): tensor for name, tensor in weights.items()}
    if len(unprefixed) < len(weights):
        raise InputError(f'{path}: wanted the weights of one network, got several with the same names')
    return unprefixed


def is_state_dict(value: Any) -> bool:
    """Return whether a value is a dict of tensors by name."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    )


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether no element of a tensor is NaN or infinite."""
    return bool(torch.isfinite(tensor).all())


def newest_weights(folder: Path | str, advice: str) -> Path:
    """Return the net*.pth of a folder that was written last. Raises InputError if there is none."""
    paths = sorted(Path(folder).glob('net*.pth'), key=lambda path: (path.stat().st_mtime_ns, natural_key(path.name)))
    if not paths:
        raise InputError(f'{folder}: holds no net*.pth; {advice}')
    return paths[-1]
