"""Save and resume trainings: last.pth, best.pth and the weights of single epochs in module_dir."""

import math
import random
import re
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utilities.base import distributed
from utilities.base.errors import InputError
from utilities.inference import checkpoint
from utilities.run.parameter_rules import settings_of_stage, with_current_names
from utilities.training import save_checkpoint
from utilities.training.curve import COLUMNS

NETWORK_FILE = re.compile(r'net[\w.-]+\.pth')
MAX_PENDING_WRITES = 3  # files that may wait to be written; each holds a copy of the weights


class TrainingState:
    """Save a training in module_dir, and resume it as if it had never stopped.

    A thread writes the files in order while the training continues; `wait_for_writes` waits for them. An error of that
    thread is raised by a later call. Under torchrun all ranks call the same methods; only the main process reads and
    writes.

    Args:
        module_dir: folder for last.pth, best.pth and the net*.pth of single epochs.
        network: the network in training.
        optimizer: its Adam optimizer.
        scaler: its gradient scaler.
        parameters: the settings of the run, stored in last.pth and compared when a training is resumed.
        samples: [case, slices] of each case of the training set, stored and compared like the parameters.

    Attributes:
        epoch: number of finished epochs.
        batch: number of finished batches of the epoch in progress.
        step: number of finished steps.
        best: lowest loss given to `save_best`.
        saved: names of the net*.pth that this training wrote; `save_network` removes no other file.
    """

    def __init__(
        self,
        module_dir: Path | str,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        parameters: dict,
        samples: list[list],
    ) -> None:
        self.folder, self.network, self.optimizer, self.scaler = Path(module_dir), network, optimizer, scaler
        self.parameters, self.samples = parameters, samples
        self.epoch = self.batch = self.step = 0
        self.best, self.saved = math.inf, []
        self.writer, self.pending_writes = ThreadPoolExecutor(1), deque()

    def resume(self, mode: str) -> list[list[float]] | None:
        """Restore last.pth; return the rows of the curve so far, or None if there is no such file.

        Args:
            mode: the parameter `resume`. 'auto' refuses another training set and other parameters that change the
                result; 'changed' accepts them; '' refuses any last.pth, because the earlier training would be lost,
                unless it comes from this very run, restarted by torchrun.

        Raises:
            InputError: last.pth is refused, or damaged.
        """
        state = distributed.broadcast(self.read_last(mode) if distributed.is_main_process() else None)
        if not distributed.is_main_process():
            if state is None:
                self.seed_this_rank()
            else:
                self.restore(state)
        return None if state is None else state['curve'].tolist()

    def read_last(self, mode: str) -> dict | None:
        """Read and restore last.pth; return its content, or None if there is no such file. Raises InputError."""
        path = self.folder / 'last.pth'
        if not path.exists():
            return None
        launcher = distributed.launcher_id()
        state = checkpoint.load_checkpoint(path) if mode or launcher else None
        is_restart = bool(launcher) and isinstance(state, dict) and state.get('launch') == launcher
        if not mode and not is_restart:
            raise InputError(
                f'{path}: an earlier training is here; resume it with --resume=auto, or set module_dir to a new folder'
            )
        try:
            differences = self.differences(state)
            if not differences or mode == 'changed':
                self.restore(state)
                return state
        except Exception as error:  # A damaged or forged file may raise anything.
            raise InputError(
                f'{path}: cannot be resumed from ({checkpoint.describe_load_error(error)}); set module_dir to a new '
                'folder'
            ) from None
        raise InputError(
            f'{path}: was trained with {"; ".join(differences)}; set this back, or resume it with --resume=changed'
        )

    def differences(self, state: dict) -> list[str]:
        """Describe what differs between a saved state and this run and changes the result: settings and cases."""
        before = with_current_names(state['parameters'])
        differences = [
            f'{name} {before[name]!r}, now {value!r}'
            for name, value in settings_of_stage(self.parameters, 'training').items()
            if name in before and before[name] != value
        ]
        if state['samples'] != self.samples:
            differences.append(f'{len(state["samples"])} cases in training_set_path, now {len(self.samples)} or others')
        return differences

    def restore(self, state: dict) -> None:
        """Restore a state that `save` wrote. Raises an error and changes no weights if its structure differs."""
        self.require_same_structure(state)
        generators = [state['random'], *state.get('others', [])]
        if distributed.is_main_process() or len(generators) == distributed.world_size():
            set_random(generators[distributed.rank()])
        else:
            self.seed_this_rank(state['step'])
        self.network.load_state_dict(state['network'])
        # The optimizer's parameter groups hold only its settings, which follow from those of this run.
        groups = self.optimizer.state_dict()['param_groups']
        self.optimizer.load_state_dict({'state': state['optimizer'], 'param_groups': groups})
        if self.uses_saved_scaler(state):
            self.scaler.load_state_dict(state['scaler'])
        self.epoch, self.batch, self.step = state['epoch'], state['batch'], state['step']
        self.best, self.saved = state['best'], list(state['saved'])

    def require_same_structure(self, state: dict) -> None:
        """Raise ValueError unless a state has the structure of this training and its numbers fit together.

        A damaged or forged state may also raise any other error.
        """
        weights = [tensor.detach() for group in self.optimizer.param_groups for tensor in group['params']]
        generators = random_state()
        other_ranks = state.get('others', [])  # Files of earlier versions have no such entry.
        expected = {
            'epoch': 0,
            'batch': 0,
            'step': 0,
            'best': 0.0,
            'network': self.network.state_dict(),
            'optimizer': {
                index: {'step': torch.zeros(()), 'exp_avg': tensor, 'exp_avg_sq': tensor}
                for index, tensor in enumerate(weights)
            },
            'scaler': self.scaler.state_dict() if self.uses_saved_scaler(state) else state['scaler'],
            # The training may be resumed on a machine with another number of GPUs.
            'random': {**generators, 'cuda': state['random']['cuda']},
            'others': [{**generators, 'cuda': other['cuda']} for other in other_ranks],
            'curve': torch.empty(state['step'], len(COLUMNS), dtype=torch.float64, device='meta'),
        }
        # NaN marks a value of the curve that was not measured; all other numbers must be finite.
        curve = state['curve'].nan_to_num(posinf=math.inf, neginf=-math.inf)
        got = {**state, 'others': other_ranks, 'curve': curve}
        different = [name for name in expected if not same_structure(got[name], expected[name])]
        if different:
            raise ValueError(f'wanted the state of this network, got another {", ".join(different)}')
        batches_in_curve = int((curve[:, COLUMNS.index('epoch')] == state['epoch'] + 1).sum())
        if min(state['epoch'], state['batch'], state['step']) < 0 or batches_in_curve != state['batch']:
            raise ValueError('wanted numbers of steps that agree with the curve, got others')
        if not all(map(NETWORK_FILE.fullmatch, state['saved'])):
            raise ValueError(f'wanted names such as net50-0.1-0.1.pth, got {state["saved"]!r:.80}')

    def uses_saved_scaler(self, state: dict) -> bool:
        """Return whether both trainings use float16; with precision 'auto' that depends on the GPU."""
        return self.scaler.is_enabled() and bool(state['scaler'])

    def seed_this_rank(self, step: int = 0) -> None:
        """Seed the random generators of a rank whose state is not saved, so that each rank has its own dropout."""
        seeds = np.random.SeedSequence([self.parameters['seed'], step, distributed.rank()])
        seed_random(int(seeds.generate_state(1)[0]))

    def save(self, curve: Sequence[Sequence[float]]) -> None:
        """Save the training and the rows of its curve in last.pth.

        Raises InputError and keeps the last good state if weights are not finite.
        """
        if not all(checkpoint.is_finite(weights) for weights in self.network.parameters()):
            raise InputError(
                f'step {self.step}: weights are NaN or infinite; lower learning_rate; last.pth still holds the last '
                'good state: resume it with --resume=auto'
            )
        generators = distributed.all_gather(random_state())
        content = {
            'network': self.network.state_dict(),
            'optimizer': self.optimizer.state_dict()['state'],
            'scaler': self.scaler.state_dict(),
            'random': generators[0],
            'others': generators[1:],
            'launch': distributed.launcher_id(),
            'epoch': self.epoch,
            'batch': self.batch,
            'step': self.step,
            'best': self.best,
            'saved': list(self.saved),
            'curve': torch.tensor(curve, dtype=torch.float64),
            'parameters': self.parameters,
            'samples': self.samples,
        }
        self.write('last.pth', content)

    def save_network(self, name: str, keep: int = 0) -> None:
        """Save the weights under a name; remove all but the newest `keep` files saved this way (0 keeps all)."""
        self.write(name, self.network.state_dict())
        self.saved = [*(other for other in self.saved if other != name), name]
        while keep and len(self.saved) > keep:
            old_path = self.folder / self.saved.pop(0)
            if distributed.is_main_process():
                self.pending_writes.append(self.writer.submit(old_path.unlink, missing_ok=True))

    def save_best(self, loss: float) -> None:
        """Save the weights in best.pth if `loss` is the lowest so far.

        The loss is the mean loss of the output head over the epoch, or 1 - the validation Dice.
        """
        if loss < self.best:
            self.best = loss
            self.write('best.pth', self.network.state_dict())

    def write(self, name: str, content: dict) -> None:
        """Let the thread write a copy of the content. Raises the OSError of a file that could not be written before."""
        if not distributed.is_main_process():
            return
        while self.pending_writes and (self.pending_writes[0].done() or len(self.pending_writes) > MAX_PENDING_WRITES):
            self.pending_writes.popleft().result()
        task = self.writer.submit(save_checkpoint.save_checkpoint, self.folder / name, copy_to_cpu(content))
        self.pending_writes.append(task)

    def wait_for_writes(self) -> None:
        """Wait until all files are written. Raises OSError."""
        while self.pending_writes:
            self.pending_writes.popleft().result()


def copy_to_cpu(content: Any) -> Any:
    """Return nested dicts with their tensors copied to the CPU; other values are not copied."""
    if isinstance(content, torch.Tensor):
        return content.detach().to('cpu', copy=True)
    if isinstance(content, dict):
        return type(content)((key, copy_to_cpu(value)) for key, value in content.items())
    return content


def same_structure(value: Any, expected: Any) -> bool:
    """Return whether nested values agree in types, keys, lengths, dtypes and shapes.

    The tensors of `value` must also be dense and finite.
    """
    if type(value) is not type(expected):
        return False
    if isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same_structure(value[key], expected[key]) for key in expected)
    if isinstance(expected, (list, tuple)):
        return len(value) == len(expected) and all(map(same_structure, value, expected))
    if isinstance(expected, torch.Tensor):
        is_dense = value.layout == torch.strided and not value.is_meta
        same_shape = (value.dtype, value.shape) == (expected.dtype, expected.shape)
        return is_dense and same_shape and checkpoint.is_finite(value)
    return True


def seed_random(seed: int) -> None:
    """Seed every random generator of this process."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def random_state() -> dict:
    """Return the state of every random generator of this process, in types that torch.load reads with weights_only."""
    name, keys, *rest = np.random.get_state()
    return {
        'torch': torch.get_rng_state(),
        'cuda': [torch.cuda.get_rng_state(gpu) for gpu in usable_gpus()],
        'python': random.getstate(),
        'numpy': (name, keys.tolist(), *rest),
    }


def usable_gpus() -> Sequence[int]:
    """Return the indices of the GPUs that this process may use: under torchrun only its own."""
    if distributed.world_size() > 1 and torch.cuda.is_available():
        return [distributed.local_rank()]
    return range(torch.cuda.device_count())


def set_random(state: dict) -> None:
    """Restore every random generator of this process; those of GPUs only if the number of GPUs is the same."""
    torch.set_rng_state(state['torch'])
    if len(state['cuda']) == len(usable_gpus()):
        for gpu, gpu_state in zip(usable_gpus(), state['cuda']):
            torch.cuda.set_rng_state(gpu_state, gpu)
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
