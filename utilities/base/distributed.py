"""The processes that torchrun started for one run: which of them this is, and what they tell each other.

Without torchrun, or a launcher that sets its variables, a run is one process: the first of one.
"""

import os
import time
from datetime import timedelta
from uuid import uuid4

from utilities.base.errors import InputError
from utilities.base.log import log_warnings_only

COLLECTIVE_TIMEOUT = timedelta(days=1)  # the wait for a rank that is at a long case; torchrun notices one that is lost
START_TIMEOUT = 600  # seconds until all ranks must have started
store = None


def is_launched():
    return 'RANK' in os.environ and 'WORLD_SIZE' in os.environ


def world_size():
    return int(os.environ['WORLD_SIZE']) if is_launched() else 1


def rank():
    return int(os.environ['RANK']) if is_launched() else 0


def local_rank():
    """Number of this process among those on its machine."""
    return int(os.environ.get('LOCAL_RANK', 0)) if is_launched() else 0


def local_world_size():
    return int(os.environ.get('LOCAL_WORLD_SIZE', 1)) if is_launched() else 1


def launcher_id():
    """Which torchrun started this process, the same after a restart; '' where none did."""
    if 'TORCHELASTIC_RUN_ID' not in os.environ:
        return ''
    started = open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[19]
    return f'{os.uname().nodename} {os.getppid()} {started}'


def is_main_process():
    """The one process that writes, shows and tells."""
    return rank() == 0


def initialise(gpu):
    """Meet the other ranks: over NCCL where GPUs are used (gpu is not '' and there are some), over gloo on CPUs.

    Raises InputError if they are not found, and for more processes on a machine than it has GPUs.
    """
    global store
    if world_size() == 1:
        return
    import torch
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


def rendezvous(store):
    """The store under a name of this start alone.

    torchrun keeps one store over its restarts, with the addresses of processes that are gone. So each rank says hello by a name never used
    before, and the first answers to that name with its own.
    """
    from torch.distributed import PrefixStore

    name = uuid4().hex
    if not is_main_process():
        store.set(f'hello/{rank()}', name)
        first = store.get(f'welcome/{name}').decode()
        store.set(f'here/{first}/{rank()}', '')
        return PrefixStore(first, store)
    missing, end = list(range(1, world_size())), time.monotonic() + START_TIMEOUT
    while missing := [other for other in missing if not store.check([f'here/{name}/{other}'])]:
        if time.monotonic() > end:
            raise RuntimeError(f'none of {missing} came within {START_TIMEOUT} s')
        for other in missing:
            if store.check([f'hello/{other}']):
                store.set(f'welcome/{store.get(f"hello/{other}").decode()}', name)
        time.sleep(0.05)
    return PrefixStore(name, store)


def finish():
    """The end of this rank; the others go on."""
    if store is not None:
        from torch import distributed

        distributed.destroy_process_group()


def is_lost_rank(error):
    """Does a RuntimeError mean that another rank is gone?"""
    if world_size() == 1:
        return False
    from torch import distributed

    return isinstance(error, distributed.DistError) or 'gloo' in str(error)


def first_to_report(line):
    """Return whether no other rank of this run has reported this line before, so that it is printed once."""
    if store is None:
        return local_rank() == 0
    try:
        return store.add(f'reported {line}', 1) == 1
    except RuntimeError:  # the process that kept the store is gone
        return True


def broadcast(value):
    """The first rank's value, on every rank."""
    if world_size() == 1:
        return value
    import torch

    box = [value]
    torch.distributed.broadcast_object_list(box, 0, device=torch.device('cpu'))
    return box[0]


def all_gather(value):
    """The values of all ranks in their order, on every rank."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_reduce_sum(tensor):
    """Sum of a tensor over all ranks, on every rank; the tensor may be changed."""
    if world_size() > 1:
        from torch import distributed

        distributed.all_reduce(tensor)
    return tensor


def all_reduce_max(number):
    """The largest of a whole number over all ranks, on every rank."""
    if world_size() == 1:
        return number
    import torch

    tensor = torch.tensor(number)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return tensor.item()


def next_index(name):
    """0, 1, 2, ... of a counter: each number goes to one rank alone."""
    return store.add(name, 1) - 1
