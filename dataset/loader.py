"""Samples -> batches, in an order that depends on nothing but the seed and the number of the epoch."""

import atexit
import multiprocessing
import signal
from itertools import islice

import numpy as np
import torch

from utilities.base import distributed
from utilities.base.errors import InputError
from utilities.base.log import log


class Loader:
    """Batches of a Dataset, read by `num_workers` processes ahead of their use (0: by this one).

    Which samples an epoch holds, in which order and from which slices on, is a function of (seed, epoch): a training can go on
    in the middle of an epoch, with another number of workers or ranks, and sees what it would have seen. Under torchrun each rank reads its
    share of each batch, in parts of at most `micro_batch_size` samples (0: in one). A worker that is killed, as for want of memory, costs a warning
    and one worker; the batches stay the same.
    """

    def __init__(self, samples, batch_size, seed=0, num_workers=0, pin_memory=False, micro_batch_size=0):
        self.samples, self.batch_size, self.seed, self.micro_batch_size = samples, batch_size, seed, micro_batch_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.todo, self.loader = [], None  # keys of the parts to come
        atexit.register(end_workers)

    def __len__(self):
        return -(-len(self.samples) // self.batch_size)

    def keys(self, epoch):
        """Keys of the epoch's batches: lists of (sample, place of its first slice in 0 to below 1)."""
        rng = np.random.default_rng([self.seed, epoch])
        order, places = rng.permutation(len(self.samples)).tolist(), rng.random(len(self.samples)).tolist()
        keys = list(zip(order, places))
        return [keys[i : i + self.batch_size] for i in range(0, len(keys), self.batch_size)]

    def parts(self, batch):
        """Keys of the parts of a batch that this rank computes, and the share of each of its samples in the batch."""
        own, share = batch[distributed.rank() :: distributed.world_size()], 1 / len(batch)
        if not own:  # fewer samples than ranks: one to be there with, which counts nothing
            own, share = batch[:1], 0.0
        micro_batch_size = self.micro_batch_size or len(own)
        return [own[i : i + micro_batch_size] for i in range(0, len(own), micro_batch_size)], share

    def epoch(self, epoch, first=0):
        """(names of the cases, parts) of each batch from the `first` on: all names, and of this rank's parts (CT, labels, share).

        CT and labels are the Dataset's, with the samples of the part in front; share (samples, 1): of each in the mean over the batch.
        Raises InputError for a file that cannot be read.
        """
        batches = self.keys(epoch)[first:]
        arriving = self.read([keys for batch in batches for keys in self.parts(batch)[0]])
        for batch in batches:
            keys, share = self.parts(batch)
            parts = [(ct, label, torch.full((len(ct), 1), share)) for ct, label in islice(arriving, len(keys))]
            yield [self.samples.name(index) for index, _ in batch], parts

    def read(self, todo):
        """(CT, labels) of each list of keys, in order."""
        while todo:
            self.todo[:] = todo
            try:
                for ct, label in self.started():
                    todo.pop(0)
                    yield ct, label
            except InputError as error:  # a worker's comes wrapped in its traceback
                raise InputError(str(error).splitlines()[-1].split('InputError: ', 1)[-1]) from None
            except (
                RuntimeError,
                ConnectionError,
                EOFError,
                FileNotFoundError,
            ) as error:  # the others: killed while it handed a batch over
                if not self.num_workers or isinstance(error, RuntimeError) and 'DataLoader worker' not in str(error):
                    raise
                self.loader = None
                self.num_workers -= 1
                log.warning(
                    f'warning: a process that reads samples was killed; going on with {self.num_workers} (num_workers). Was it '
                    'out of memory, or /dev/shm full?'
                )

    def started(self):
        """The loader's iterator over the keys in `todo`."""
        if self.loader is None:
            # its own generator: an epoch that is begun twice draws nothing from the one that dropout uses
            self.loader = torch.utils.data.DataLoader(
                self.samples,
                batch_sampler=self.todo,
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                pin_memory=self.pin_memory and torch.cuda.is_available(),
                generator=torch.Generator(),
                worker_init_fn=leave_signals,
            )
        batches = iter(self.loader)
        # PyTorch's handler would raise a worker's death in the middle of a step; without it, it shows when the worker's batch is due
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return batches


def leave_signals(_):
    """Ctrl-C and a batch system's SIGTERM reach every process of a run: the training decides when its workers end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def end_workers():
    """As they ignore SIGTERM, by which Python would end them when an error ends the run. They only read."""
    for worker in multiprocessing.active_children():
        worker.kill()
