"""Read checkpoints and settings files that try to run a program: nothing may run, and one line must refuse them."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.torture.mutants import add, through_readers
from tests.torture.trial import SMALL, Clock, Ended, Row, run


class Bomb:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable, *arguments):
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self.call


def payloads(mark: Path) -> dict[str, Bomb]:
    """Return objects by name that create the file `mark` when they are unpickled."""
    code = f'open({str(mark)!r}, "w").close()'
    inner = io.BytesIO()
    torch.save(Bomb(exec, code), inner)
    return {
        'system': Bomb(os.system, f'touch {mark}'),
        'exec': Bomb(exec, code),
        'open': Bomb(open, str(mark), 'w'),
        'eval': Bomb(eval, f'__import__("os").mknod({str(mark)!r})'),
        'mknod': Bomb(os.mknod, str(mark)),
        'popen': Bomb(os.popen, f'touch {mark}'),
        'torch inside': Bomb(torch.storage._load_from_bytes, inner.getvalue()),
        'pickle inside': Bomb(pickle.loads, pickle.dumps(Bomb(exec, code))),
    }


def containers(payload: Bomb, weight: torch.Tensor) -> dict[str, bytes]:
    """Return checkpoint files around a payload, by name, in every form that torch or pickle reads."""
    files = {}
    for position, value in (
        ('alone', payload),
        ('in a dict', {'weight': payload, 'bias': weight}),
        ('as a key', [{'epoch': 1}, payload]),
    ):
        for protocol in (0, 2, 5):
            files[f'pickle {protocol} {position}'] = pickle.dumps(value, protocol)
        files[f'zip {position}'] = save_with_torch(value, is_zip=True)
        files[f'old {position}'] = save_with_torch(value, is_zip=False)
    files['tar'] = make_tar(payload)
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload], object), allow_pickle=True)
    files['npy'] = buffer.getvalue()
    return files


def save_with_torch(value: object, is_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def make_tar(payload: Bomb) -> bytes:
    """Return the payload in the tar format of the first versions of torch."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            data = pickle.dumps(payload, 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def malicious_settings(mark: Path) -> list[str]:
    """Return the texts of settings files that would create the file `mark` if they were executed."""
    name = str(mark)
    return [
        f'{line}\n'
        for line in (
            f'seed = open({name!r}, "w")',
            f'open({name!r}, "w")',
            f'import os; os.mknod({name!r})',
            f'seed = __import__("os").mknod({name!r})',
            f'seed = exec("open({name!r}, \'w\')")',
            f'seed = [open({name!r}, "w") for _ in [1]]',
            f'loss = f"{{open({name!r}, chr(119))}}"',
            f'seed = (lambda: open({name!r}, "w"))()',
            f'def f(x=open({name!r}, "w")): pass',
            f'class A(metaclass=open({name!r}, "w")): pass',
            f'@open({name!r}, "w")\ndef f(): pass',
            f'seed = 1 if open({name!r}, "w") else 2',
            f'with open({name!r}, "w"): pass',
            f'seed: open({name!r}, "w") = 1',
            f'seed = (a := open({name!r}, "w"))',
            f'loss = "{{}}".format(open({name!r}, "w"))',
            f'seed = {{1: open({name!r}, "w")}}',
            f'assert open({name!r}, "w")',
            f'seed = 0\nseed += open({name!r}, "w")',
            f'# -*- coding: utf-7 -*-\nseed = open({name!r}, "w")',
        )
    ]


def write_checkpoints(folder: Path, mark: Path, short: bool) -> list[Path]:
    """Write every payload in every form of a checkpoint file; return their paths."""
    files = []
    for name, bomb in payloads(mark).items():
        if short and name != 'exec':
            continue
        for form, data in containers(bomb, torch.zeros(2)).items():
            files.append(folder / f'{name} {form}.pth'.replace(' ', '-'))
            files[-1].write_bytes(data)
    return files


def write_settings(folder: Path, mark: Path) -> list[Path]:
    """Write the malicious settings files; return their paths."""
    files = []
    for number, text in enumerate(malicious_settings(mark)):
        files.append(folder / f'{number}.py')
        files[-1].write_text(text)
    return files


def require_that_payloads_work(folder: Path, mark: Path) -> None:
    """Raise RuntimeError unless the checkpoints create the file `mark` when they are read without care."""
    pickle.loads((folder / 'exec-pickle-2-alone.pth').read_bytes())
    torch.load(folder / 'exec-zip-in-a-dict.pth', weights_only=False)
    if not mark.exists():
        raise RuntimeError('the malicious checkpoints do nothing: this part would show nothing')
    mark.unlink()


def judge(ended: Ended, mark: Path, what: str) -> str:
    """Return what is wrong with a script that was given a malicious file, '' if it refused the file in one line."""
    if mark.exists():
        mark.unlink()
        return f'{what}: a file was created'
    return ended.fault() or ('' if ended.code == 1 else f'{what}: the file was accepted')


def run_with_checkpoint(base: Path, folder: Path, path: Path, parameter: str) -> Ended:
    """Run val.py or train_ds.py with a checkpoint as module_path, as pretrained_path, or as the state to resume."""
    (folder / 'module').mkdir(parents=True)
    if parameter == 'resume':
        (folder / 'module/last.pth').write_bytes(path.read_bytes())
    overrides = dict(
        SMALL,
        training_set_path=base / 'train',
        test_ct_path=base / 'data/test/CT',
        test_seg_path=base / 'data/test/seg',
        Epoch=1,
        module_dir='module',
    )
    overrides[parameter] = 'auto' if parameter == 'resume' else path
    return run('val.py' if parameter == 'module_path' else 'train_ds.py', folder, 60, **overrides)


def part(base: Path, folder: Path, keep: Path, clock: Clock, short: bool) -> list[Row]:
    """Return the rows of malicious checkpoints and settings files, through the readers and some through the scripts."""
    folder.mkdir(parents=True)
    mark = folder / 'created'
    files, settings_files = write_checkpoints(folder, mark, short), write_settings(folder, mark)
    require_that_payloads_work(folder, mark)

    checkpoints = Row('malicious checkpoints', wanted=len(files))
    settings = Row('malicious settings files', wanted=len(settings_files))
    through_readers(checkpoints, 'checkpoints', files, keep, clock)
    through_readers(settings, 'settings', settings_files, keep, clock)
    for row in (checkpoints, settings):
        if mark.exists():
            row.faults.append(f'one of them created {mark}')
            mark.unlink()

    some_files = files[:1] if short else [path for path in files if path.name.startswith('exec')][::2]
    for number, path in enumerate(some_files):
        parameter = ('module_path', 'pretrained_path', 'resume')[number % 3]
        ended = run_with_checkpoint(base, folder / f'run-{number}', path, parameter)
        checkpoints.wanted += 1
        add(checkpoints, path, judge(ended, mark, parameter), keep)
    for path in settings_files[: 1 if short else 4]:
        ended = run('data_prepare/analyse_dataset.py', folder, 60, parameters=path)
        settings.wanted += 1
        add(settings, path, judge(ended, mark, 'parameters'), keep)
    is_created = any('created' in fault for row in (checkpoints, settings) for fault in row.faults)
    checkpoints.remark = settings.remark = 'a file was created' if is_created else 'nothing was created'
    return [checkpoints, settings]
