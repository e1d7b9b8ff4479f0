"""The processes that torchrun started for one run: which of them this is, and what they tell each other.

Without torchrun, or a launcher that sets its variables, a run is one process: the first of one.
"""
import os
import time
from datetime import timedelta
from uuid import uuid4

from utilities.errors import InputError
from utilities.log import only_warnings

PATIENCE = timedelta(days=1)  # the wait for a rank that is at a long case; torchrun notices one that is lost
MEETING = 600  # seconds until all ranks must have started
store = None


def launched():
    return 'RANK' in os.environ and 'WORLD_SIZE' in os.environ


def size():
    return int(os.environ['WORLD_SIZE']) if launched() else 1


def rank():
    return int(os.environ['RANK']) if launched() else 0


def local_rank():
    """Number of this process among those on its machine."""
    return int(os.environ.get('LOCAL_RANK', 0)) if launched() else 0


def local_size():
    return int(os.environ.get('LOCAL_WORLD_SIZE', 1)) if launched() else 1


def launch():
    """Which torchrun started this process, the same after a restart; '' where none did."""
    if 'TORCHELASTIC_RUN_ID' not in os.environ:
        return ''
    started = open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[19]
    return f'{os.uname().nodename} {os.getppid()} {started}'


def is_first():
    """The one process that writes, shows and tells."""
    return rank() == 0


def join(gpu):
    """Meet the other ranks: over NCCL where GPUs are used (gpu is not '' and there are some), over gloo on CPUs.

    Raises InputError if they are not found, and for more processes on a machine than it has GPUs.
    """
    global store
    if size() == 1:
        return
    import torch
    from torch import distributed
    if not is_first():
        only_warnings(rank())
    gpus = torch.cuda.device_count() if gpu else 0
    if gpus:
        if local_size() > gpus:
            raise InputError(f'--nproc_per_node: wanted at most the {gpus} GPUs of this machine, got {local_size()}')
        torch.cuda.set_device(local_rank())
    try:
        store = meet(next(distributed.rendezvous('env://'))[0])
        distributed.init_process_group('cpu:gloo,cuda:nccl' if gpus else 'gloo', store=store, rank=rank(), world_size=size(),
                                       timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise InputError(f'rank {rank()} of {size()} does not find the others ({error}); start them with torchrun') from None


def meet(store):
    """The store under a name of this start alone.

    torchrun keeps one store over its restarts, with the addresses of processes that are gone. So each rank says hello by a name never used
    before, and the first answers to that name with its own.
    """
    from torch.distributed import PrefixStore
    name = uuid4().hex
    if not is_first():
        store.set(f'hello/{rank()}', name)
        first = store.get(f'welcome/{name}').decode()
        store.set(f'here/{first}/{rank()}', '')
        return PrefixStore(first, store)
    missing, end = list(range(1, size())), time.monotonic() + MEETING
    while missing := [other for other in missing if not store.check([f'here/{name}/{other}'])]:
        if time.monotonic() > end:
            raise RuntimeError(f'none of {missing} came within {MEETING} s')
        for other in missing:
            if store.check([f'hello/{other}']):
                store.set(f'welcome/{store.get(f"hello/{other}").decode()}', name)
        time.sleep(0.05)
    return PrefixStore(name, store)


def leave():
    """The end of this rank; the others go on."""
    if store is not None:
        from torch import distributed
        distributed.destroy_process_group()


def is_loss(error):
    """Does a RuntimeError mean that another rank is gone?"""
    if size() == 1:
        return False
    from torch import distributed
    return isinstance(error, distributed.DistError) or 'gloo' in str(error)


def said(line):
    """Has another rank said this before? Then once is enough."""
    if store is None:
        return local_rank() > 0
    try:
        return store.add(f'said {line}', 1) > 1
    except RuntimeError:  # whoever kept the store is gone
        return False


def share(value):
    """The first rank's value, on every rank."""
    if size() == 1:
        return value
    import torch
    box = [value]
    torch.distributed.broadcast_object_list(box, 0, device=torch.device('cpu'))
    return box[0]


def gather(value):
    """The values of all ranks in their order, on every rank."""
    if size() == 1:
        return [value]
    from torch import distributed
    values = [None] * size()
    distributed.all_gather_object(values, value)
    return values


def total(tensor):
    """Sum of a tensor over all ranks, on every rank; the tensor may be changed."""
    if size() > 1:
        from torch import distributed
        distributed.all_reduce(tensor)
    return tensor


def largest(number):
    """The largest of a whole number over all ranks, on every rank."""
    if size() == 1:
        return number
    import torch
    tensor = torch.tensor(number)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return tensor.item()


def take(name):
    """0, 1, 2, ... of a counter: each number goes to one rank alone."""
    return store.add(name, 1) - 1
