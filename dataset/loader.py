"""Read batches of samples, in an order that depends only on the seed and the number of the epoch."""

import multiprocessing
import signal
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from dataset.dataset import Dataset
from utilities.base import distributed
from utilities.base.errors import InputError
from utilities.base.log import log

# What PyTorch raises when a worker process is killed, depending on what the worker was doing.
WORKER_ERRORS = RuntimeError, ConnectionError, EOFError, FileNotFoundError


class Loader:
    """Read the batches of a Dataset ahead of their use, in worker processes.

    The samples of an epoch, their order and their first slices are a function of (seed, epoch). So a training can be
    resumed in the middle of an epoch, with another number of workers or ranks, and sees the same samples. A worker
    that is killed, for example because memory ran out, only gives a warning; loading continues with one worker fewer.
    Call close() to end the workers.

    Args:
        samples: the Dataset.
        batch_size: number of samples in one step, over all ranks. Under torchrun each rank reads its share.
        seed: seed of the order of the samples and of their first slices.
        num_workers: number of worker processes; 0 reads in this process.
        pin_memory: copy the samples to page-locked memory, if there is a GPU.
        micro_batch_size: largest number of samples in a micro batch; 0 puts the share of this rank into one.
    """

    def __init__(
        self,
        samples: Dataset,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        micro_batch_size: int = 0,
    ) -> None:
        self.samples, self.batch_size, self.seed, self.micro_batch_size = samples, batch_size, seed, micro_batch_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        # The DataLoader, made at the first use, reads the keys in this list; the list is refilled for every epoch.
        self.loader, self.keys_to_read = None, []
        self.workers: list[multiprocessing.Process] = []

    def close(self) -> None:
        """End the worker processes and wait until they have ended. Reading another epoch starts new ones."""
        for worker in self.workers:
            worker.kill()  # Workers ignore SIGTERM. As they only read, nothing is lost.
            worker.join()
        self.workers.clear()
        self.loader = None

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.samples) // self.batch_size)

    def batch_keys(self, epoch: int) -> list[list[tuple[int, float]]]:
        """Return the keys (index, start_fraction) of the samples of each batch of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        indices = rng.permutation(len(self.samples)).tolist()
        keys = list(zip(indices, rng.random(len(self.samples)).tolist()))
        return [keys[i : i + self.batch_size] for i in range(0, len(keys), self.batch_size)]

    def micro_batch_keys(self, keys: list[tuple[int, float]]) -> tuple[list[list[tuple[int, float]]], float]:
        """Split the keys of a batch into the micro batches of this rank.

        Returns the keys of each micro batch, and the weight of each of its samples in the mean loss of the batch.
        """
        own_keys, weight = keys[distributed.rank() :: distributed.world_size()], 1 / len(keys)
        if not own_keys:  # Fewer samples than ranks: a dummy sample of weight 0, so that this rank joins the step.
            own_keys, weight = keys[:1], 0.0
        size = self.micro_batch_size or len(own_keys)
        return [own_keys[i : i + size] for i in range(0, len(own_keys), size)], weight

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[list[str], list[tuple[torch.Tensor, ...]]]]:
        """Iterate over the batches of an epoch, from the batch `first` on.

        Yields the names of the cases in the whole batch, and the micro batches of this rank: CT (n, 1, size, y, x),
        label (n, size, Y, X), and the weight of each sample in the mean loss of the batch (n, 1).
        Raises InputError for a file that cannot be read.
        """
        batches = self.batch_keys(epoch)[first:]
        micro_batches = self.read([keys for batch in batches for keys in self.micro_batch_keys(batch)[0]])
        for batch in batches:
            keys, weight = self.micro_batch_keys(batch)
            case_names = [self.samples.case_name(index) for index, _ in batch]
            yield (
                case_names,
                [(ct, label, torch.full((len(ct), 1), weight)) for ct, label in islice(micro_batches, len(keys))],
            )

    def read(self, keys: list[list[tuple[int, float]]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Iterate over CT and label of each micro batch, given its keys. Continues if a worker process is killed."""
        while keys:
            self.keys_to_read[:] = keys
            try:
                for ct, label in self.start_reading():
                    keys.pop(0)
                    yield ct, label
            except InputError as error:  # The error of a worker contains the worker's traceback.
                raise InputError(str(error).splitlines()[-1].split('InputError: ', 1)[-1]) from None
            except WORKER_ERRORS as error:
                if not self.num_workers or (isinstance(error, RuntimeError) and 'DataLoader worker' not in str(error)):
                    raise
                self.loader = None
                self.num_workers -= 1
                log.warning(
                    f'warning: a process that reads samples was killed, perhaps because memory or /dev/shm was full; '
                    f'continuing with num_workers {self.num_workers}'
                )

    def start_reading(self) -> Iterator[list[torch.Tensor]]:
        """Start the workers, if they do not run yet, and iterate over the samples of `keys_to_read`."""
        if self.loader is None:
            self.loader = torch.utils.data.DataLoader(
                self.samples,
                batch_sampler=self.keys_to_read,
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                pin_memory=self.pin_memory and torch.cuda.is_available(),
                # Without a generator of its own, the loader would draw from the generator that dropout uses.
                generator=torch.Generator(),
                worker_init_fn=ignore_signals,
            )
        other_children = multiprocessing.active_children()
        samples = iter(self.loader)
        self.workers += [child for child in multiprocessing.active_children() if child not in other_children]
        # PyTorch's handler raises an error as soon as a worker dies, even in the middle of a step. Without the handler
        # the error is raised when the samples of that worker are needed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return samples


def ignore_signals(_worker: int) -> None:
    """Ignore, in a worker process, the signals that ask a run to stop: Loader.close() ends the workers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
