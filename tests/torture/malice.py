"""Checkpoints and settings files that would run a program: nothing is run, and one line refuses them."""

import io
import os
import pickle
import tarfile

import numpy as np
import torch

from tests.torture.mutants import add, through_readers
from tests.torture.trial import SMALL, Row, run


class Bomb:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def payloads(mark):
    """Objects that create the file `mark` when they are unpickled, by name."""
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


def containers(content, weight):
    """A checkpoint file around an object, in every form that torch or pickle reads: {name: bytes}."""
    found = {}
    for place, value in (
        ('alone', content),
        ('in a dict', {'weight': content, 'bias': weight}),
        ('as a key', [{'epoch': 1}, content]),
    ):
        for protocol in (0, 2, 5):
            found[f'pickle {protocol} {place}'] = pickle.dumps(value, protocol)
        for old in (False, True):
            buffer = io.BytesIO()
            torch.save(value, buffer, _use_new_zipfile_serialization=not old)
            found[f'{"old" if old else "zip"} {place}'] = buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            data = pickle.dumps(content, 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    found['tar'] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.array([content], object), allow_pickle=True)
    found['npy'] = buffer.getvalue()
    return found


def malicious_settings(mark):
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


def part(base, folder, keep, clock, short):
    """Rows of malicious checkpoints and settings files, through the readers, and some through the scripts themselves."""
    folder.mkdir(parents=True)
    mark = folder / 'created'
    files, texts = [], []
    for name, bomb in payloads(mark).items():
        if short and name != 'exec':
            continue
        for form, data in containers(bomb, torch.zeros(2)).items():
            files.append(folder / f'{name} {form}.pth'.replace(' ', '-'))
            files[-1].write_bytes(data)
    for number, text in enumerate(malicious_settings(mark)):
        texts.append(folder / f'{number}.py')
        texts[-1].write_text(text)
    pickle.loads((folder / 'exec-pickle-2-alone.pth').read_bytes())
    torch.load(folder / 'exec-zip-in-a-dict.pth', weights_only=False)
    if not mark.exists():
        raise RuntimeError('the malicious checkpoints do nothing: this part would show nothing')
    mark.unlink()

    checkpoints, settings = (
        Row('malicious checkpoints', wanted=len(files)),
        Row('malicious settings files', wanted=len(texts)),
    )
    through_readers(checkpoints, 'checkpoints', files, keep, clock)
    through_readers(settings, 'settings', texts, keep, clock)
    for row in (checkpoints, settings):
        if mark.exists():
            row.faults.append(f'one of them created {mark}')
            mark.unlink()
    some = files[:1] if short else [path for path in files if path.name.startswith('exec')][::2]
    common = dict(
        SMALL,
        training_set_path=base / 'train',
        test_ct_path=base / 'data/test/CT',
        test_seg_path=base / 'data/test/seg',
    )
    for number, path in enumerate(some):
        place = folder / f'run-{number}'
        (place / 'module').mkdir(parents=True)
        way = ('module_path', 'pretrained_path', 'resume')[number % 3]
        if way == 'resume':
            (place / 'module/last.pth').write_bytes(path.read_bytes())
        ended = run(
            'val.py' if way == 'module_path' else 'train_ds.py',
            place,
            60,
            **common,
            Epoch=1,
            module_dir='module',
            **{way: 'auto' if way == 'resume' else path},
        )
        checkpoints.wanted += 1
        add(
            checkpoints,
            path,
            f'{way}: a file was created'
            if mark.exists()
            else ended.fault() or ('' if ended.code == 1 else f'{way}: taken as good'),
            keep,
        )
        mark.unlink(missing_ok=True)
    for path in texts[: 1 if short else 4]:
        settings.wanted += 1
        ended = run('data_prepare/analyse_dataset.py', folder, 60, parameters=path)
        add(
            settings,
            path,
            'a file was created' if mark.exists() else ended.fault() or ('' if ended.code == 1 else 'taken as good'),
            keep,
        )
        mark.unlink(missing_ok=True)
    created = any('created' in fault for row in (checkpoints, settings) for fault in row.faults)
    checkpoints.remark = settings.remark = 'a file was created' if created else 'nothing was created'
    return [checkpoints, settings]
