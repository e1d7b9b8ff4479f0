"""Weights and training states on disk. Files are read with weights_only: no code in them runs."""
import pickle
from pathlib import Path

import torch

from utilities.errors import InputError
from utilities.volume import natural, whole_file


def save(path, content):
    with whole_file(path) as part:
        torch.save(content, part)


def load(path):
    """What `save` wrote, on the CPU. Raises InputError for anything else."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f'{path}: no such file; set module_path, or train first with python train_ds.py')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        raise InputError(f'{path}: is no checkpoint ({str(error).splitlines()[0][:120] if str(error) else "empty"})') from None


def load_weights(network, path):
    """Load a state dict into a network, with or without DataParallel's prefix `module.`.

    `path` is a .pth file, or a folder, of which the newest net*.pth counts. Returns the file. Raises InputError that names the keys or shapes
    that do not fit.
    """
    path = newest(path) if Path(path).is_dir() else Path(path)
    state = load(path)
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InputError(f'{path}: wanted the weights of ResUNet by name, got something else')
    state = {str(name).removeprefix('module.'): tensor for name, tensor in state.items()}
    wanted = network.state_dict()
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [f'{name} wanted {tuple(wanted[name].shape)}, got {tuple(state[name].shape)}'
              for name in wanted if name in state and wanted[name].shape != state[name].shape]
    faults = [f'{what} ({len(names)}): {", ".join(names[:3])}' for what, names in
              (('missing', missing), ('unknown', unknown), ('wrong shape', shapes)) if names]
    if faults:
        raise InputError(f'{path}: not the weights of this network; ' + '; '.join(faults))
    network.load_state_dict(state)
    return path


def newest(folder):
    files = sorted(Path(folder).glob('net*.pth'), key=lambda p: (p.stat().st_mtime_ns, natural(p.name)))
    if not files:
        raise InputError(f'{folder}: holds no net*.pth; set module_path, or train first with python train_ds.py')
    return files[-1]
