"""What a training needs to go on as if it had never stopped, in module_dir: last.pth, best.pth and the networks of single epochs."""

import math
import random
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from utilities.base import distributed
from utilities.base.errors import InputError
from utilities.inference import checkpoint
from utilities.run.parameter_rules import settings_of_stage, with_current_names
from utilities.training import save_checkpoint
from utilities.training.curve import COLUMNS

OURS = re.compile(r'net[\w.-]+\.pth')
QUEUE = 3  # files, at most, that wait to be written: each holds a copy of the weights


class TrainingState:
    """epoch: finished ones; batch: finished ones of the epoch in progress; step: all finished ones.

    Files are written by a thread, in order, while the training goes on; `finish` waits for them. What hindered one is raised by a later
    call. `parameters` (a dict) and `samples` (a list of [case, slices]) are stored, and compared on resuming. The files in `saved` are ours
    to remove, no others. Under torchrun all ranks resume and save at the same place; the first alone reads and writes.
    """

    def __init__(self, module_dir, network, optimizer, scaler, parameters, samples):
        self.folder, self.network, self.optimizer, self.scaler = Path(module_dir), network, optimizer, scaler
        self.parameters, self.samples = parameters, samples
        self.epoch = self.batch = self.step = 0
        self.best, self.saved = math.inf, []
        self.thread, self.writing = ThreadPoolExecutor(1), deque()

    def resume(self, resume):
        """Take up last.pth as the parameter `resume` says; returns the curve so far, or None where there is no such file.

        'auto': refuse other parameters that change the result, or other samples; 'changed': go on with them; '': refuse, since the
        earlier training would be lost, unless it is this very run that torchrun started again. Raises InputError.
        """
        state = distributed.broadcast(self.found(resume) if distributed.is_main_process() else None)
        if state is None:
            if not distributed.is_main_process():
                self.seed_of_its_own(0)
            return None
        if not distributed.is_main_process():
            self.take(state)
        return state['curve'].tolist()

    def found(self, resume):
        """The state in last.pth, taken up; None where there is no such file."""
        path = self.folder / 'last.pth'
        if not path.exists():
            return None
        state = checkpoint.load_checkpoint(path) if resume or distributed.launcher_id() else {}
        try:
            if not resume and not (distributed.launcher_id() and state.get('launch') == distributed.launcher_id()):
                refused = (
                    'an earlier training is here; go on with it by --resume=auto, or set module_dir to a new folder'
                )
            elif (differences := self.differences(state)) and resume != 'changed':
                refused = (
                    f'was trained with {"; ".join(differences)}; set this back, or go on with it by --resume=changed'
                )
            else:
                self.take(state)
                return state
        except Exception as error:  # whatever a damaged or made-up state makes of it
            refused = (
                f'cannot be resumed from ({checkpoint.describe_load_error(error)}); set module_dir to a new folder'
            )
        raise InputError(f'{path}: {refused}')

    def take(self, state):
        """Take up a state that `save` wrote. ValueError, and nothing of it is taken, for one of another build."""
        numbers = {name: state[name] for name in ('epoch', 'batch', 'step')}
        weights = [parameter.detach() for group in self.optimizer.param_groups for parameter in group['params']]
        # a scaler is there with fp16 alone, and 'auto' may mean another precision on this GPU
        scaled = self.scaler.is_enabled() and state['scaler']
        wanted = {
            'network': self.network.state_dict(),
            'scaler': self.scaler.state_dict() if scaled else state['scaler'],
            **dict.fromkeys(numbers, 0),
            'best': 0.0,
            'optimizer': {
                i: {'step': torch.zeros(()), 'exp_avg': each, 'exp_avg_sq': each} for i, each in enumerate(weights)
            },
            'random': {**random_state(), 'cuda': state['random']['cuda']},
            'others': [{**random_state(), 'cuda': other['cuda']} for other in state.get('others', [])],
            'curve': torch.empty(numbers['step'], len(COLUMNS), dtype=torch.float64, device='meta'),
        }
        # NaN is what was not measured
        held = {'others': [], **state, 'curve': state['curve'].nan_to_num(posinf=math.inf, neginf=-math.inf)}
        wrong = [name for name, like in wanted.items() if not same_structure(held[name], like)]
        in_progress = state['curve'][:, COLUMNS.index('epoch')] == numbers['epoch'] + 1
        if (
            wrong
            or min(numbers.values()) < 0
            or int(in_progress.sum()) != numbers['batch']
            or not all(map(OURS.fullmatch, state['saved']))
        ):
            raise ValueError(
                f'wanted the state of this network, got another {", ".join(wrong) or "kind of numbers or names"}'
            )
        generators = [held['random'], *held['others']]
        if distributed.is_main_process() or len(generators) == distributed.world_size():
            set_random(generators[distributed.rank()])
        else:
            self.seed_of_its_own(numbers['step'])
        self.network.load_state_dict(state['network'])
        # the groups hold settings alone, which the parameters give
        self.optimizer.load_state_dict(
            {'state': state['optimizer'], 'param_groups': self.optimizer.state_dict()['param_groups']}
        )
        if scaled:
            self.scaler.load_state_dict(state['scaler'])
        self.epoch, self.batch, self.step = numbers.values()
        self.best, self.saved = state['best'], list(state['saved'])

    def seed_of_its_own(self, step):
        """Another dropout than the first rank's."""
        seed_random(
            int(np.random.SeedSequence([self.parameters['seed'], step, distributed.rank()]).generate_state(1)[0])
        )

    def differences(self, state):
        """What of `state` changes the result and is not as now, in words."""
        before = with_current_names(state['parameters'])
        found = [
            f'{name} {before[name]!r}, now {value!r}'
            for name, value in settings_of_stage(self.parameters, 'training').items()
            if name in before and before[name] != value
        ]
        if state['samples'] != self.samples:
            found.append(f'{len(state["samples"])} cases in training_set_path, now {len(self.samples)} or others')
        return found

    def save(self, curve):
        """last.pth. Raises InputError for weights that are not finite: what lies there is the last good state."""
        if not all(checkpoint.is_finite(weights) for weights in self.network.parameters()):
            raise InputError(
                f'step {self.step}: weights are NaN or infinite; lower learning_rate; the last good state is kept, to go on '
                'by --resume=auto'
            )
        random, *others = distributed.all_gather(random_state())
        self.write(
            'last.pth',
            {
                'network': self.network.state_dict(),
                'optimizer': self.optimizer.state_dict()['state'],
                'scaler': self.scaler.state_dict(),
                'random': random,
                'others': others,
                'launch': distributed.launcher_id(),
                'epoch': self.epoch,
                'batch': self.batch,
                'step': self.step,
                'best': self.best,
                'saved': list(self.saved),
                'curve': torch.tensor(curve, dtype=torch.float64),
                'parameters': self.parameters,
                'samples': self.samples,
            },
        )

    def save_network(self, name, keep=0):
        """The weights alone; afterwards the newest `keep` of those saved so remain (0: all)."""
        self.write(name, self.network.state_dict())
        self.saved = [*(other for other in self.saved if other != name), name]
        while keep and len(self.saved) > keep:
            old = self.folder / self.saved.pop(0)
            if distributed.is_main_process():
                self.writing.append(self.thread.submit(old.unlink, missing_ok=True))

    def save_best(self, loss):
        """best.pth, the weights of the epoch with the lowest `loss`: the mean of the output head's, or 1 - validation Dice."""
        if loss < self.best:
            self.best = loss
            self.write('best.pth', self.network.state_dict())

    def write(self, name, content):
        """Have a copy of the content written. Raises the OSError of an earlier file."""
        if not distributed.is_main_process():
            return
        while self.writing and (self.writing[0].done() or len(self.writing) > QUEUE):
            self.writing.popleft().result()
        self.writing.append(self.thread.submit(save_checkpoint.save_checkpoint, self.folder / name, copied(content)))

    def finish(self):
        """Wait until all is on disk. Raises OSError."""
        while self.writing:
            self.writing.popleft().result()


def copied(content):
    """`content` with its tensors copied to the CPU."""
    if isinstance(content, torch.Tensor):
        return content.detach().to('cpu', copy=True)
    return (
        type(content)((key, copied(value)) for key, value in content.items()) if isinstance(content, dict) else content
    )


def same_structure(value, like):
    """Has a value the build of another, its types, keys, lengths and shapes, and are its tensors finite?"""
    if not isinstance(value, type(like)) or isinstance(value, bool):
        return False
    if isinstance(like, dict):
        return value.keys() == like.keys() and all(same_structure(value[key], like[key]) for key in like)
    if isinstance(like, (list, tuple)):
        return len(value) == len(like) and all(map(same_structure, value, like))
    if isinstance(like, torch.Tensor):
        dense = value.layout == torch.strided and not value.is_meta
        return dense and (value.dtype, value.shape) == (like.dtype, like.shape) and checkpoint.is_finite(value)
    return True


def seed_random(seed):
    """Every random generator of this process."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def random_state():
    """State of every random generator of this process, in types that weights_only reads."""
    name, keys, *rest = np.random.get_state()
    return {
        'torch': torch.get_rng_state(),
        'cuda': [torch.cuda.get_rng_state(gpu) for gpu in gpus()],
        'python': random.getstate(),
        'numpy': (name, keys.tolist(), *rest),
    }


def gpus():
    """Numbers of the GPUs that this process may use: under torchrun its own, to touch no other's memory."""
    return (
        [distributed.local_rank()]
        if distributed.world_size() > 1 and torch.cuda.is_available()
        else range(torch.cuda.device_count())
    )


def set_random(state):
    torch.set_rng_state(state['torch'])
    if len(state['cuda']) == len(gpus()):
        for gpu, one in zip(gpus(), state['cuda']):
            torch.cuda.set_rng_state(one, gpu)
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
