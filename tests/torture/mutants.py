"""Give malformed volumes, checkpoints and settings to readers and scripts: each ends in success or one clear line."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
import torch

from tests.torture import mutate
from tests.torture.trial import ENVIRONMENT, HANG, MEMORY, ROOT, SMALL, Row, run
from utilities.training.training_state import TrainingState
from utilities.volumes.formats import ENDINGS

SINGLE_FILES = ('.nii.gz', '.nii', '.nrrd', '.mha')
PAIRS = ('.hdr', '.nhdr', '.mhd')
TEXT_FORMATS = ('.nrrd', '.nhdr', '.mha', '.mhd')
NIFTI2 = {
    'ct-nifti2.nii': nibabel.Nifti2Image,
    'ct-nifti2.nii.gz': nibabel.Nifti2Image,
    'ct-nifti2-pair.hdr': nibabel.Nifti2Pair,
}
SHAPE = (12, 16, 16)
SPACING = (2.0, 2.0, 12.0)  # x, y, z, mm; SMALL has slices of 12 mm
CHUNK = 60  # mutants in one run of a script
PREDICT = dict(SMALL, stride=8)


def sound_files(folder):
    """Write a sound CT (int16 and float32) and label in every format; return {name: bytes} without the data files."""
    z, y, x = np.indices(SHAPE)
    liver = (z - 6) ** 2 / 9 + (y - 8) ** 2 / 25 + (x - 8) ** 2 / 25 < 1
    ct = (liver * 100 + np.random.default_rng(0).normal(0, 20, SHAPE)).astype(np.int16)
    found = {}
    for word, array in (('ct', ct), ('float', ct.astype(np.float32)), ('label', liver.astype(np.uint8))):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING)
        for ending in ENDINGS:
            for is_compressed in (False, True) if ending in TEXT_FORMATS else (False,):
                stem = word if ending in SINGLE_FILES else f'{word}-{ending[1:]}'
                name = f'{stem}{"-packed" if is_compressed else ""}{ending}'
                sitk.WriteImage(image, str(folder / name), is_compressed)
                found[name] = (folder / name).read_bytes()
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])
    for name, kind in NIFTI2.items():
        nibabel.save(kind(ct.T, affine), folder / name)
        found[name] = (folder / name).read_bytes()
    return found


def data_file_of(path):
    """Return the file beside a sound header that holds its voxels, None if they lie in the same file."""
    return next((other for other in path.parent.glob(f'{path.stem}.*') if other.name != path.name), None)


def is_compressed(name):
    return '-packed' in name or name.endswith('.gz')


def volume_mutants(folder, word, sound, sound_folder, count, seed):
    """Write `count` mutants of the sound files of this word, by their numbers; hypothesis draws a third of them.

    Returns the mutants, the name of the sound file that each was made of, and the set of those of which only compressed
    voxels were changed. A mutant in two files has a folder of its own.
    """
    rng = np.random.default_rng([seed, len(word)])
    folder.mkdir(parents=True)
    kinds = [name for name in sound if name.startswith(word if word == 'label' else ('ct', 'float'))]
    drawn = mutate.nifti_mutants(int16_nifti(sound, word), seed, count // 3)
    files, sound_of, flipped = [], {}, set()
    for number in range(count):
        if number % 3 == 0 and drawn:
            ending, data = drawn.pop()
            files.append(folder / f'{number}{ending}')
            files[-1].write_bytes(data)
            sound_of[files[-1]] = f'{word}.nii'
            continue
        name = kinds[rng.integers(len(kinds))]
        data_file = data_file_of(sound_folder / name) if name.endswith(PAIRS) else None
        files.append(folder / str(number) / name if data_file else folder / f'{number}{name[name.index(".") :]}')
        files[-1].parent.mkdir(exist_ok=True)
        sound_of[files[-1]] = name
        header, voxels = sound[name], data_file.read_bytes() if data_file else b''
        if is_compressed(name) and rng.random() < 0.4:
            flipped.add(files[-1])
            if data_file:
                voxels = mutate.payload_flipped(data_file.name, voxels, rng)
            else:
                header = mutate.payload_flipped(name, header, rng)
        elif data_file and rng.random() < 0.2:
            voxels = mutate.bytes_mutated(voxels, rng, len(voxels))
        else:
            header = mutate.volume_mutated(name, header, rng)
        files[-1].write_bytes(header)
        if data_file:
            files[-1].with_name(data_file.name).write_bytes(voxels)
    return files, sound_of, flipped


def add_misreadings(row, files, sound_of, flipped, sound_folder, keep, clock):
    """Compare what was read with independent readings, and count what differs from all of them as faults.

    The readings are those of SimpleITK and nibabel in a process of its own, which may crash or refuse, and that of the
    sound file, which alone counts where only compressed voxels were changed: a checksum must notice each change.
    """
    read = [path for path in files if ours_of(path).exists()]
    through_readers(Row('references'), 'references', [path for path in read if path not in flipped], keep, clock)
    # SimpleITK does not read NIfTI-2
    identity = {'spacing': SPACING, 'origin': (0, 0, 0), 'direction': np.eye(3).ravel()}
    sound = {name: identity | itk_reading(sound_folder / name) for name in set(sound_of.values())}
    compared = 0
    for path in read:
        ours, references = np.load(ours_of(path)), [sound[sound_of[path]]]
        if reference_of(path).exists():
            references.append(dict(np.load(reference_of(path))))
        elif path not in flipped:
            continue
        compared += 1
        for name in ours:
            if not any(agrees(ours[name], wanted) for r in references for key, wanted in r.items() if name in key):
                add(row, path, 'altered voxels' if path in flipped else f'{name} differs from every reference', keep)
                row.tried -= 1
                break
    row.remark += f'; {compared:,} of them compared'
    flips_read = sum(path in flipped for path in read)
    row.remark += (
        f'; {len(flipped):,} with flipped bits: {flips_read:,} read as before, {len(flipped) - flips_read:,} refused'
    )


def agrees(ours, wanted):
    return ours.shape == np.shape(wanted) and np.allclose(ours, wanted, 1e-5, 1e-4, True)


def itk_reading(path):
    """Return the values (z, y, x) and the geometry of a volume as SimpleITK reads them, and the values as nibabel does.

    What one of the two refuses is left out; raises RuntimeError if nothing is left.
    """
    found = {}
    try:
        image = sitk.ReadImage(str(path))
        found['array'] = sitk.GetArrayFromImage(image)
        found.update(spacing=image.GetSpacing(), origin=image.GetOrigin(), direction=image.GetDirection())
    except RuntimeError:
        pass
    try:
        found['nibabel array'] = np.asarray(nibabel.load(path).dataobj).T
    except Exception:  # whatever nibabel raises about a malformed file, it gives no reading to compare with
        pass
    if not found:
        raise RuntimeError(f'{path}: neither SimpleITK nor nibabel reads it')
    return found


def ours_of(path):
    return path.with_name(f'{path.name}.ours.npz')


def reference_of(path):
    return path.with_name(f'{path.name}.reference.npz')


def int16_nifti(sound, word):
    """The sound NIfTI-1 file of a word with 16-bit voxels."""
    if word != 'label':
        return sound['ct.nii']
    data = sound['label.nii']
    head = bytearray(data[:352])
    head[70:74] = b'\x04\0\x10\0'
    return bytes(head) + np.frombuffer(data[352:], np.uint8).astype('<i2').tobytes()


def through_readers(row, kind, files, keep, clock):
    """Read files in worker.py; if it dies or hangs, the file under way is at fault and a new process reads the rest."""
    files, outcomes = list(files), Counter()
    while files and not clock.over():
        process = subprocess.Popen(
            [sys.executable, ROOT / 'tests/torture/worker.py', kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )
        process.stdin.write(json.dumps([str(path) for path in files]))
        process.stdin.close()
        watch = threading.Timer(clock.left() + HANG, process.kill)
        watch.start()
        begun, done, alarm, hung = None, 0, None, []
        for line in process.stdout:
            told = json.loads(line)
            if alarm:
                alarm.cancel()
                alarm = None
            if 'outcome' not in told:
                begun = told['file']
                alarm = threading.Timer(HANG, stop_hanging, (process, begun, hung))
                alarm.start()
                continue
            begun, done = None, done + 1
            outcomes[told['outcome']] += 1
            fault = told['outcome'] if told['outcome'] not in ('read', 'refused') else ''
            if told['memory'] > MEMORY:
                fault = f'memory: {told["memory"] / 2**20:.0f} MiB'
            add(row, told['file'], fault, keep)
        process.wait()
        if alarm:
            alarm.cancel()
        watch.cancel()
        if begun and (hung or not clock.over()):
            add(row, begun, f'hung over {HANG} s' if hung else f'reader ended with status {process.returncode}', keep)
            done += 1
        elif not begun and done < len(files) and not clock.over():
            raise RuntimeError(f'worker.py {kind} ended with status {process.returncode} before its files')
        files = files[done:]
    row.remark = f'{outcomes["read"]:,} read, {outcomes["refused"]:,} refused'


def stop_hanging(process, path, hung):
    hung.append(path)
    process.kill()


def add(row, path, fault, keep):
    """Count a file; a faulty one is kept beside the results."""
    row.tried += 1
    if fault:
        keep.mkdir(parents=True, exist_ok=True)
        kept = keep / re.sub(r'\W+', '-', row.what) / '-'.join(Path(path).parts[-2:])
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(path, kept)
        row.faults.append(f'{kept}: {fault}')


def digest(folder):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob('*'))
        if path.is_file()
    }


class Consumer:
    """A script that takes a folder of mutants as cases.

    `lay` puts a mutant as case number i; `done` tells whether the case was written.
    """

    def __init__(self, what, script, lay, done, **overrides):
        self.what, self.script, self.lay, self.done, self.overrides = what, script, lay, done, overrides


def consumers(sound, module):
    """The four scripts that read volumes."""

    def put(path, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def ending(path):
        return path.name[path.name.index('.') :]

    def as_training(folder, number, mutant, word):
        put(
            folder / f'data/train/CT/volume-{number}{ending(mutant) if word == "ct" else ".nii"}',
            mutant.read_bytes() if word == 'ct' else sound['ct.nii'],
        )
        put(
            folder / f'data/train/seg/segmentation-{number}{ending(mutant) if word == "label" else ".nii"}',
            mutant.read_bytes() if word == 'label' else sound['label.nii'],
        )

    def as_test(folder, number, mutant, word):
        put(
            folder / f'data/test/CT/volume-{number}{ending(mutant) if word == "ct" else ".nii"}',
            mutant.read_bytes() if word == 'ct' else sound['ct.nii'],
        )
        if word == 'label':
            put(folder / f'data/test/seg/segmentation-{number}{ending(mutant)}', mutant.read_bytes())

    def as_mask(folder, number, mutant, word):
        put(folder / f'data/test/CT/volume-{number}.nii', sound['ct.nii'])
        put(folder / f'pred/pred-{number}{ending(mutant)}', mutant.read_bytes())
        put(folder / f'pred/manifest/volume-{number}.json', b'{}')

    def file_of(pattern):
        return lambda folder, number: (folder / pattern.format(number)).exists()

    def in_table(folder, number):
        table = folder / 'check.csv'
        return table.exists() and any(
            f'volume-{number}' in re.split(r'[^\w-]', line) for line in table.read_text(errors='replace').splitlines()
        )

    return [
        Consumer(
            'get_training_set.py', 'data_prepare/get_training_set.py', as_training, file_of('train/ct/volume-{}.nii')
        ),
        Consumer('check_dataset.py', 'data_prepare/check_dataset.py', as_training, in_table),
        Consumer('val.py', 'val.py', as_test, file_of('pred/pred-{}.nii'), module_path=module),
        Consumer('3D-CRF.py', 'Densecrf/3D-CRF.py', as_mask, file_of('crf/crf-{}.nii')),
    ]


def through_script(row, consumer, mutants, word, sound, folder, keep, clock):
    """Run a script on mutants between two sound cases; if it ends badly, halve them until the culprit is found."""
    if clock.over() or not mutants:
        return
    folder.mkdir(parents=True)
    sound_mutant = folder / ('label.nii' if word == 'label' else 'ct.nii')
    sound_mutant.write_bytes(sound[sound_mutant.name])
    for number, mutant in enumerate([sound_mutant, *mutants, sound_mutant]):
        consumer.lay(folder, number, mutant, word)
    before = digest(folder)
    ended = run(consumer.script, folder, HANG + 0.1 * len(mutants), **{**PREDICT, **consumer.overrides})
    last = len(mutants) + 1
    told = '\n'.join(ended.error)
    changed = [
        path.name
        for path, was in before.items()
        if 'manifest' not in path.parts and (not path.exists() or digest_one(path) != was)
    ]
    fault = ended.fault() or (f'inputs changed: {changed}' if changed else '')
    lost = [n for n in (0, last) if not consumer.done(folder, n)]
    if not fault and lost:
        fault = f'sound cases not done: {lost}'
    missing = (
        []
        if fault
        else [n for n in range(1, last) if not consumer.done(folder, n) and not re.search(rf'volume-{n}\b', told)]
    )
    parts = [path.name for path in folder.rglob('.part-*')]
    if not fault and parts:
        fault = f'part left behind: {parts[0]}'
    shutil.rmtree(folder)
    if fault and len(mutants) > 1:
        # suspects: the cases of a traceback, and the one that was under way; if it is none of them, halves
        named = re.findall(r'volume-(\d+): \w+(?:Error|Exception):', told) + re.findall(r'volume-(\d+)', ended.err)[-1:]
        alone = [mutants[n - 1] for n in sorted({int(n) for n in named}) if 0 < n < last]
        rest = [mutant for mutant in mutants if mutant not in alone]
        middle = len(rest) // 2
        for group in [*([mutant] for mutant in alone), *([rest] if alone else [rest[:middle], rest[middle:]])]:
            through_script(row, consumer, group, word, sound, folder, keep, clock)
        return
    for number, mutant in enumerate(mutants, 1):
        add(row, mutant, fault or ('neither written nor named' if number in missing else ''), keep / word)


def digest_one(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sound_checkpoints(folder):
    """Small checkpoints as torch writes them: {name: bytes}; of the zip and of the older form."""
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    found = {}
    for name, content in (
        ('net', network.state_dict()),
        ('last', {'network': network.state_dict(), 'optimizer': optimizer.state_dict(), 'epoch': 1}),
    ):
        for old in (False, True):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=not old)
            found[f'{name}{"-old" * old}.pth'] = buffer.getvalue()
    return found


def odd_contents():
    """Checkpoints that torch reads and that are no weights of a ResUNet: what they hold, by name."""
    itself = []
    itself.append(itself)
    weight, bias = torch.zeros(2, 3), torch.zeros(2)
    pairs = {
        'vast': torch.zeros(1).expand(2**40),
        'integers': weight.long(),
        'complex': weight * 1j,
        'nan': weight * float('nan'),
        'sparse': weight.to_sparse(),
        'none': None,
        'scalar': torch.tensor(1.0),
        'boolean': weight > 0,
        'meta': weight.to('meta'),
    }
    return {
        'number': 1,
        'nothing': None,
        'text': 'x' * 10000,
        'list': [weight],
        'itself': itself,
        'tensor': weight,
        'empty': {},
        'numbered': {1: weight},
        'nested': {'weight': {'weight': weight}},
        'control': {'a\n\x1b[31m\ud800': weight},
        'many': {str(number): weight for number in range(5000)},
        **{name: {'weight': value, 'bias': bias} for name, value in pairs.items()},
    }


def checkpoint_mutants(folder, count, seed):
    rng = np.random.default_rng([seed, 99])
    folder.mkdir(parents=True)
    sound, files = sound_checkpoints(folder), []
    for name, content in odd_contents().items():
        files.append(folder / f'odd-{name}.pth')
        torch.save(content, files[-1])
    names = sorted(sound)
    while len(files) < count:
        name = names[rng.integers(len(names))]
        files.append(folder / f'{len(files)}-{name}')
        files[-1].write_bytes(mutate.bytes_mutated(sound[name], rng, len(sound[name])))
    return files


def settings_mutants(folder, count, seed):
    rng = np.random.default_rng([seed, 98])
    folder.mkdir(parents=True)
    sound = '\n'.join(f'{key} = {value!r}' for key, value in SMALL.items()).encode()
    files = []
    for number in range(count):
        files.append(folder / f'{number}.py')
        files[-1].write_bytes(mutate.settings_mutated(sound, rng))
    return files


ELSEWHERE = ['../../sound.txt'] * 3  # names of files to remove
WRONG = [
    -1,
    0,
    1.5,
    True,
    10**30,
    -(2**63),
    float('nan'),
    'x',
    None,
    [],
    {},
    [[1, 2], [3]],
    ELSEWHERE,
    torch.zeros(3),
    torch.zeros(2, 10),
    torch.zeros(1).expand(2**40),
    torch.zeros(3, 2).to_sparse(),
]


def state_mutants(file, count, rng):
    """Yield (name, bytes) of mutants of a last.pth: contents that no training writes, every fourth with other bytes."""
    data, state = file.read_bytes(), torch.load(file, weights_only=True)
    places = list(leaves(state))
    depths = sorted({len(place) for place in places})
    for number in range(count):
        if number % 4 == 3:
            yield f'bytes-{number}.pth', mutate.bytes_mutated(data, rng, 60000)
            continue
        depth = rng.choice(depths)
        chosen = [place for place in places if len(place) == depth]
        place, wrong = chosen[rng.integers(len(chosen))], WRONG[rng.integers(len(WRONG))]
        if number == 0:
            place, wrong = ('saved',), ELSEWHERE  # the one that could do harm is never left to chance
        buffer = io.BytesIO()
        torch.save(replaced(state, place, wrong), buffer)
        yield f'{"-".join(map(str, place))}-{number}.pth', buffer.getvalue()


def small_states(folder, count, seed):
    """Write mutants of a small training's state, each as last.pth in its own folder, and a file that none may touch."""
    folder.mkdir(parents=True)
    (folder / 'sound.txt').write_text('not ours')
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = TrainingState(
        folder, network, optimizer, torch.amp.GradScaler('cpu', enabled=False), {'seed': 0}, [['volume-0', 8]]
    )
    state.epoch, state.step, state.best = 1, 1, 0.7
    state.save_network('net1.pth')
    state.save([[1, 1, 0.5, 0.5, 0.5, 0.5, 1.0, 0.33, 1e-4, 0.1]])
    state.wait_for_writes()
    files = []
    for name, data in state_mutants(folder / 'last.pth', count, np.random.default_rng([seed, 96])):
        files.append(folder / 'mutants' / name.removesuffix('.pth') / 'last.pth')
        files[-1].parent.mkdir(parents=True)
        files[-1].write_bytes(data)
    return files


def leaves(value, place=()):
    """Keys that lead to everything in nested dicts and lists, of long lists to the first few things."""
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, (list, tuple)) else ()
    )
    for key, inner in items:
        yield (*place, key)
        yield from leaves(inner, (*place, key))


def replaced(value, place, by):
    """A copy of nested dicts and lists with something else at one place."""
    if not place:
        return by
    items = value.items() if isinstance(value, dict) else enumerate(value)
    copy = [(key, replaced(inner, place[1:], by) if key == place[0] else inner) for key, inner in items]
    return dict(copy) if isinstance(value, dict) else [inner for _, inner in copy]


def checkpoint_scripts(row, trained, base, folder, count, seed, keep, clock):
    """Mutants of a real checkpoint through val.py, train_ds.py --pretrained_path and train_ds.py --resume=auto."""
    rng = np.random.default_rng([seed, 97])
    network = next(trained.glob('net*.pth')).read_bytes()
    states = state_mutants(trained / 'last.pth', count, rng)
    for number in range(count):
        if clock.over():
            return
        way = ('resume', 'resume', 'pretrained', 'val')[number % 4]
        name, data = next(states) if way == 'resume' else (f'{number}.pth', mutate.bytes_mutated(network, rng, 60000))
        place = folder / str(number)
        (place / 'module').mkdir(parents=True)
        file = place / ('module/last.pth' if way == 'resume' else name)
        file.write_bytes(data)
        before = digest_one(file)
        common = dict(SMALL, Epoch=2, module_dir='module', training_set_path=base / 'train')
        if way == 'val':
            ended = run(
                'val.py',
                place,
                HANG,
                **{**SMALL, 'stride': 8},
                module_path=file,
                test_ct_path=base / 'data/test/CT',
                test_seg_path=base / 'data/test/seg',
            )
        else:
            ended = run(
                'train_ds.py',
                place,
                HANG + 20,
                **common,
                **({'resume': 'auto'} if way == 'resume' else {'pretrained_path': file}),
            )
        fault = ended.fault()
        if not fault and ended.code == 1 and digest_one(file) != before:
            fault = 'refused, and changed'
        if fault:
            shutil.copy(file, place / name)
        add(row, place / name if fault else file, f'{way}: {fault}' if fault else '', keep)
        shutil.rmtree(place)


def part(base, folder, keep, clock, seed, short):
    """All of it, in two lanes. base: a folder with the phantoms, training set and module of SMALL."""
    (folder / 'sound').mkdir(parents=True)
    sound = sound_files(folder / 'sound')
    many, some, few = (150, 24, 0) if short else (2400, 600, 30)
    read = Row('malformed volumes of all formats through the readers', wanted=many)
    checks, texts = (
        Row('malformed checkpoints through the reader', wanted=many // 4),
        Row('malformed settings files', wanted=many // 4),
    )
    states = Row('malformed states of a training, resumed from', wanted=many // 4)
    ct, ct_sound, ct_flipped = volume_mutants(folder / 'ct', 'ct', sound, folder / 'sound', many - many // 4, seed)
    label, label_sound, label_flipped = volume_mutants(
        folder / 'label', 'label', sound, folder / 'sound', many // 4, seed
    )
    through_readers(read, 'volumes', ct + label, keep, clock)
    add_misreadings(read, ct + label, ct_sound | label_sound, ct_flipped | label_flipped, folder / 'sound', keep, clock)
    through_readers(checks, 'checkpoints', checkpoint_mutants(folder / 'checkpoints', many // 4, seed), keep, clock)
    through_readers(texts, 'settings', settings_mutants(folder / 'settings', many // 4, seed), keep, clock)
    through_readers(states, 'states', small_states(folder / 'states', many // 4, seed), keep, clock)
    if not (folder / 'states/sound.txt').exists():
        states.faults.append('a file beside was removed')
    rows = [read, checks, states, texts]

    deep = Row('malformed checkpoints through val.py and train_ds.py (start, resume)', wanted=few)
    jobs = [lambda: checkpoint_scripts(deep, base / 'module', base, folder / 'deep', few, seed, keep, clock)]
    places = iter(range(10**6))
    for consumer in consumers(sound, base / 'module'):
        if short and consumer.script == 'val.py':
            continue
        count = some // 6 if consumer.script == 'val.py' else some
        words = ('label',) if consumer.what == '3D-CRF.py' else ('ct', 'label')
        row = Row(f'the same as cases of {consumer.what}', wanted=count)
        rows.append(row)
        for word in words:
            mutants = (ct if word == 'ct' else label)[: count // len(words)]
            for first in range(0, len(mutants), CHUNK):
                jobs.append(
                    lambda row=row, consumer=consumer, word=word, mutants=mutants[first : first + CHUNK]: (
                        through_script(row, consumer, mutants, word, sound, folder / f'run-{next(places)}', keep, clock)
                    )
                )
    rows += [deep] if few else []
    with ThreadPoolExecutor(2) as lanes:
        for job in [lanes.submit(job) for job in jobs]:
            job.result()
    return rows
