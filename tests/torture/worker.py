"""Read files with the real readers, one after the other, and print a line of JSON before each and one after it.

python tests/torture/worker.py volumes|references|checkpoints|states|settings     with a JSON list of files on standard
input
"""

import json
import resource
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utilities.base.errors import InputError, one_line


def volumes():
    """Read volumes with our readers; what was read is left beside the file, to be compared."""
    import numpy as np

    from utilities.volumes.read_write import SliceReader, read_ct, read_header, read_label, read_volume

    def through(path):
        shape, _ = read_header(path)
        first_slices = SliceReader(path).read(0, min(2, shape[0]))
        array, geometry = read_volume(path)
        if not np.array_equal(first_slices, array[:2], equal_nan=True):
            raise AssertionError('the slices are not those of the volume')
        read_ct(path, -200, 200), read_label(path)
        np.savez(path.with_name(f'{path.name}.ours.npz'), array=array, **vars(geometry))

    return through


def references():
    """Read volumes with SimpleITK and nibabel; what was read is left beside the file, to be compared."""
    import numpy as np

    from tests.torture.mutants import itk_reading

    return lambda path: np.savez(path.with_name(f'{path.name}.reference.npz'), **itk_reading(path))


def checkpoints():
    import torch

    from utilities.inference.checkpoint import load_checkpoint, load_weights

    def through(path):
        load_checkpoint(path)
        load_weights(torch.nn.Linear(3, 2), path)

    return through


def states():
    """Files last.pth, each in a folder of its own: resume, a step, the curve, save."""
    import torch

    from utilities.training.curve import Curve
    from utilities.training.training_state import TrainingState

    def through(path):
        network = torch.nn.Linear(3, 2)
        optimizer = torch.optim.Adam(network.parameters())
        state = TrainingState(
            path.parent, network, optimizer, torch.amp.GradScaler('cpu', enabled=False), {'seed': 0}, [['volume-0', 8]]
        )
        rows = state.resume('auto')
        network(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        Curve(path.with_name('loss.csv'), rows).write_csv()
        state.epoch, state.step, state.batch = state.epoch + 1, state.step + 1, 0
        state.save_best(0.5)
        state.save_network('net9.pth', keep=1)
        state.save(rows)
        state.wait_for_writes()

    return through


def settings():
    from utilities.run import settings

    return lambda path: settings.read_settings([f'--parameters={path}'])


def require_one_line(error):
    """The message, as scripts print it, must be one line that can be printed and read."""
    text = one_line(error)
    if not text.strip() or len(text) > 1000 or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise AssertionError(f'not one clear line: {text[:1000]!r}')


def peak():
    """Most memory held since `forget_peak`, bytes."""
    return next(int(line.split()[1]) * 1024 for line in open('/proc/self/status') if line.startswith('VmHWM'))


def forget_peak():
    Path('/proc/self/clear_refs').write_text('5')


def main():
    through = {
        'volumes': volumes,
        'references': references,
        'checkpoints': checkpoints,
        'states': states,
        'settings': settings,
    }[sys.argv[1]]()
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30,) * 2)
    for name in json.load(sys.stdin):
        print(json.dumps({'file': name}), flush=True)
        forget_peak()
        start = time.monotonic()
        try:
            through(Path(name))
            outcome = 'read'
        except InputError as error:
            try:
                require_one_line(error)
                outcome = 'refused'
            except AssertionError as unclear:
                outcome = str(unclear)
        except BaseException as error:  # every other way to end is what we look for
            ours = [frame for frame in traceback.extract_tb(error.__traceback__) if '.venv' not in frame.filename][-1]
            outcome = (
                f'traceback: {type(error).__name__} in {Path(ours.filename).name}, {ours.name}: {str(error)[:300]}'
            )
        print(
            json.dumps({'file': name, 'outcome': outcome, 'seconds': time.monotonic() - start, 'memory': peak()}),
            flush=True,
        )


if __name__ == '__main__':
    main()
