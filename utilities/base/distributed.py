"""The processes that torchrun started for one run: the number of this one, and the exchange of values between them.

A run that was not started by torchrun, or by a launcher that sets the same environment variables, is one process of
rank 0. PyTorch is imported only where several processes run, so that scripts which do not need it start without it.
"""

from __future__ import annotations

import gc
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from utilities.base.errors import InputError, one_line
from utilities.base.log import log, log_warnings_only

if TYPE_CHECKING:
    import torch

COLLECTIVE_TIMEOUT = timedelta(days=1)  # a rank may compute one long case meanwhile; torchrun notices a rank that died
START_TIMEOUT = 600  # seconds within which all ranks must have started
END_TIMEOUT = timedelta(minutes=1)  # the main process waits so long for the others after all work is done
store: torch.distributed.Store | None = None  # set by initialise() where several ranks run


def is_launched() -> bool:
    """Return whether torchrun, or a launcher like it, started this process."""
    return 'RANK' in os.environ and 'WORLD_SIZE' in os.environ


def world_size() -> int:
    """Return the number of processes of this run, on all machines."""
    return int(os.environ['WORLD_SIZE']) if is_launched() else 1


def rank() -> int:
    """Return the number of this process among all processes of the run, from 0."""
    return int(os.environ['RANK']) if is_launched() else 0


def local_rank() -> int:
    """Return the number of this process among those on the same machine, from 0."""
    return int(os.environ.get('LOCAL_RANK', 0)) if is_launched() else 0


def local_world_size() -> int:
    """Return the number of processes of this run on this machine."""
    return int(os.environ.get('LOCAL_WORLD_SIZE', 1)) if is_launched() else 1


def launcher_id() -> str:
    """Identify the torchrun agent that started this process by host, process id and start time.

    The text is the same after torchrun restarted its ranks. It is '' without torchrun.
    """
    if 'TORCHELASTIC_RUN_ID' not in os.environ:
        return ''
    agent = os.getppid()
    fields_after_name = Path(f'/proc/{agent}/stat').read_text().rpartition(')')[2].split()
    start_time = fields_after_name[19]  # field 22 of proc(5), 'starttime'
    return f'{os.uname().nodename} {agent} {start_time}'


def is_main_process() -> bool:
    """Return whether this is rank 0, the process that writes files, draws and prints for the whole run."""
    return rank() == 0


def initialise(gpu: str) -> None:
    """Connect the ranks of this run: by NCCL if GPUs are used, else by gloo. Do nothing for a single process.

    gpu: the parameter of that name; '' means the CPU.
    Raises InputError if the other ranks are not found, and if a machine has more ranks than GPUs.
    """
    global store
    if world_size() == 1:
        return
    import torch

    # DistributedDataParallel imports this module, whose functions hold the process group of that moment as a default
    # argument. They would keep the group and its threads alive until the interpreter ends, so it is imported before.
    import torch.distributed.nn
    from torch import distributed

    if not is_main_process():
        log_warnings_only(rank())
    gpus = torch.cuda.device_count() if gpu else 0
    if gpus:
        if local_world_size() > gpus:
            raise InputError(
                f'--nproc_per_node: wanted at most the {gpus} GPUs of this machine, got {local_world_size()}'
            )
        torch.cuda.set_device(local_rank())
    try:
        store = rendezvous(next(distributed.rendezvous('env://'))[0])
        distributed.init_process_group(
            'cpu:gloo,cuda:nccl' if gpus else 'gloo',
            store=store,
            rank=rank(),
            world_size=world_size(),
            timeout=COLLECTIVE_TIMEOUT,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f'rank {rank()} of {world_size()} does not find the others ({error}); start them with torchrun'
        ) from None


def rendezvous(store: torch.distributed.Store) -> torch.distributed.PrefixStore:
    """Return a part of torchrun's store that only the ranks of this start use.

    torchrun keeps one store over its restarts, so the store still holds the addresses of processes that are gone. Each
    rank therefore announces itself by a token that was never used before. The main process answers every token with its
    own, which becomes the prefix of all keys of this start.
    Raises RuntimeError if a rank does not start within START_TIMEOUT.
    """
    from torch.distributed import PrefixStore

    token = uuid4().hex
    if not is_main_process():
        store.set(f'token/{rank()}', token)
        prefix = store.get(f'prefix/{token}').decode()
        store.set(f'joined/{prefix}/{rank()}', '')
        return PrefixStore(prefix, store)
    missing = list(range(1, world_size()))
    deadline = time.monotonic() + START_TIMEOUT
    while missing := [other for other in missing if not store.check([f'joined/{token}/{other}'])]:
        if time.monotonic() > deadline:
            raise RuntimeError(f'ranks {missing} did not start within {START_TIMEOUT} s')
        for other in missing:
            if store.check([f'token/{other}']):
                other_token = store.get(f'token/{other}').decode()
                store.set(f'prefix/{other_token}', token)
        time.sleep(0.05)
    return PrefixStore(token, store)


def finish() -> None:
    """Wait until all ranks end, then destroy the process group and the store with all their threads.

    A thread of gloo that still runs while the interpreter shuts down may release the last reference to a tensor. Python
    then refuses it the global interpreter lock, and the process ends by SIGABRT. For the same reason the caller must
    not hold a DistributedDataParallel any more, since that keeps the process group alive.
    Raises RuntimeError if another rank is lost before it has finished its work.
    """
    global store
    if store is None:
        return
    from torch import distributed

    all_reduce_max(0)  # This is a barrier: the main process may still be saving.
    gc.collect()  # An object in a reference cycle may hold the process group.
    distributed.destroy_process_group()
    if is_main_process():
        wait_for_other_ranks(store)  # The main process may host the store, so it leaves last.
    else:
        store.set(f'finished/{rank()}', '')
    store = None


def wait_for_other_ranks(store: torch.distributed.Store) -> None:
    """Wait until the other ranks no longer use the store, at most END_TIMEOUT. All work of the run is done by then."""
    try:
        store.wait([f'finished/{other}' for other in range(1, world_size())], END_TIMEOUT)
    except RuntimeError as error:
        log.debug(f'a rank did not report its end within {END_TIMEOUT.seconds} s: {one_line(error)}')


def is_lost_rank(error: RuntimeError) -> bool:
    """Return whether the error means that another rank of this run is gone."""
    if world_size() == 1:
        return False
    from torch import distributed

    return isinstance(error, distributed.DistError) or 'gloo' in str(error)


def first_to_report(line: str) -> bool:
    """Return whether no other rank of this run has reported this line before, so that it is printed once."""
    if store is None:
        return local_rank() == 0
    try:
        return store.add(f'reported {line}', 1) == 1
    except RuntimeError:  # The process that served the store is gone.
        return True


def broadcast(value: Any) -> Any:
    """Return the main process's value on every rank."""
    if world_size() == 1:
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values, 0, device=torch.device('cpu'))
    return values[0]


def all_gather(value: Any) -> list:
    """Return the values of all ranks, in the order of the ranks, on every rank."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all ranks, on every rank. The tensor itself may be overwritten."""
    if world_size() > 1:
        from torch import distributed

        distributed.all_reduce(tensor)
    return tensor


def all_reduce_max(number: int) -> int:
    """Return the largest of the ranks' numbers, on every rank."""
    if world_size() == 1:
        return number
    import torch

    tensor = torch.tensor(number)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return tensor.item()


def next_index(counter: str) -> int:
    """Return the next number, from 0, of a counter that all ranks share: every number goes to one rank alone."""
    return store.add(counter, 1) - 1
