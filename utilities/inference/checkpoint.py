"""Weights and training states on disk. Files are read with weights_only: no code in them runs."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path

import torch

from utilities.base.errors import InputError
from utilities.base.natural_sorting import natural_key


def load_checkpoint(path):
    """What `save` wrote, on the CPU. Raises InputError for anything else, a file with a flipped bit too."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f'{path}: no such file; set module_path, or train first with python train_ds.py')
    try:
        if zipfile.is_zipfile(path):
            require_intact(path)
        with warnings.catch_warnings(action='ignore'):
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # whatever a damaged file makes of an unpickler
        raise InputError(f'{path}: is no checkpoint, or damaged ({describe_load_error(error)})') from None


def require_intact(path):
    """torch does not look at the check sums that it writes."""
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError('its content is compressed')
        if damaged := archive.testzip():
            raise ValueError(f'wrong check sum of {damaged}')


def describe_load_error(error):
    """One line."""
    if isinstance(error, pickle.UnpicklingError):  # torch's text advises to run what the file holds
        asked = re.search(r'GLOBAL (\S+)', str(error))
        return f'it holds more than weights: it asks for {asked[1]}' if asked else 'it holds no weights'
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def load_weights(network, path):
    """Load weights into a network: a state dict, with or without DataParallel's prefix `module.`, or the last.pth of a training.

    `path` is a .pth file, or a folder, of which the newest net*.pth counts. Returns the file. Raises InputError that names the keys or
    shapes that do not fit, and the weights that are not finite.
    """
    path = newest_weights(path) if Path(path).is_dir() else Path(path)
    state = load_checkpoint(path)
    if isinstance(state, dict) and isinstance(state.get('network'), dict):
        state = state['network']
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InputError(f'{path}: wanted the weights of ResUNet by name, got something else')
    state = {str(name).removeprefix('module.'): tensor for name, tensor in state.items()}
    wanted = network.state_dict()
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shared = [name for name in wanted if name in state]
    shapes = [
        f'{name} wanted {tuple(wanted[name].shape)}, got {tuple(state[name].shape)}'
        for name in shared
        if wanted[name].shape != state[name].shape
    ]
    kinds = [
        f'{name} {state[name].dtype} {state[name].layout} {state[name].device}'
        for name in shared
        if not state[name].is_floating_point() or state[name].layout != torch.strided or state[name].is_meta
    ]
    infinite = [name for name in shared if not is_finite(state[name])] if not shapes and not kinds else []
    found = {
        'missing': missing,
        'unknown': unknown,
        'wrong shape': shapes,
        'not dense numbers': kinds,
        'NaN or infinite': infinite,
    }
    faults = [f'{what} ({len(names)}): {", ".join(names[:3])}' for what, names in found.items() if names]
    if faults:
        raise InputError(f'{path}: not the weights of this network; ' + '; '.join(faults))
    network.load_state_dict(state)
    return path


def is_finite(tensor):
    return bool(torch.isfinite(tensor).all())


def newest_weights(folder):
    files = sorted(Path(folder).glob('net*.pth'), key=lambda p: (p.stat().st_mtime_ns, natural_key(p.name)))
    if not files:
        raise InputError(f'{folder}: holds no net*.pth; set module_path, or train first with python train_ds.py')
    return files[-1]
