"""Count how many small runs of 2 and 3 ranks end with status 0, on a machine that is kept busy.

Each rank does what a short training does at its end: some steps of a DistributedDataParallel module and collective
calls on the CPU. Then rank 0 saves for longer than the others, and all ranks end as every script does. A rank also
fails if a thread of gloo or of the store is alive when the interpreter ends, since such a thread may abort the process.

    python tests/torture/rank_ends.py

    --runs=200         number of runs, of 2 and 3 ranks in turn
    --torchrun=60      number of them that torchrun starts; the ranks of the others are forked from this process
    --busy=2           processes that keep the CPU busy meanwhile
    --max_in_flight=3  runs at the same time

Prints the number of runs that ended with status 0, and the output of those that did not. Exit status: 0 if all did.
"""

import argparse
import atexit
import importlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch

from utilities.base import distributed
from utilities.run.script import run_script

STEPS = 5
SAVING_TIME = 0.5  # seconds that rank 0 takes to save
RUN_TIMEOUT = 180  # seconds
THREADS_OF_THE_GROUP = {'pt_gloo_runloop', 'gloo_tcp_loop', 'pt_tcpstore_uv'}
STATUS_WITH_THREADS = 70  # exit status of a rank that has such a thread at its end


def main(para: SimpleNamespace) -> None:
    """Train a small module for some steps, as one rank."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(4)))
    network = torch.nn.parallel.DistributedDataParallel(layers)
    # torch imports this module through torch._dynamo at this point unless it was imported before
    importlib.import_module('torch.distributed.nn')
    for _ in range(STEPS):
        network.zero_grad()
        network(torch.rand(2, 64)).square().mean().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 1e-3 * parameter.grad
        distributed.all_reduce_sum(torch.ones(5))
        distributed.all_reduce_max(0)
    distributed.all_gather(torch.get_rng_state())
    if distributed.is_main_process():
        time.sleep(SAVING_TIME)


def act_as_rank() -> None:
    """Run `main` as the rank that the environment names, and end the process."""
    atexit.register(require_no_threads)
    torch.set_num_threads(1)
    sys.argv = sys.argv[:1]
    run_script(main, __doc__, under_torchrun=True)


def require_no_threads() -> None:
    """End with STATUS_WITH_THREADS if a thread of the process group or of the store is alive."""
    names = [(task / 'comm').read_text().strip() for task in Path('/proc/self/task').iterdir()]
    alive = sorted(THREADS_OF_THE_GROUP.intersection(names))
    if alive:
        os.write(2, f'rank {distributed.rank()}: alive when the interpreter ends: {", ".join(alive)}\n'.encode())
        os._exit(STATUS_WITH_THREADS)


@dataclass
class Run:
    """A run in progress: its processes, the statuses of those that ended, and what all of them wrote."""

    name: str
    output: IO[bytes]
    start_time: float = field(default_factory=time.monotonic)
    processes: set[int] = field(default_factory=set)
    statuses: list[int] = field(default_factory=list)

    def collect_ended_processes(self) -> None:
        """Note the statuses of processes that ended; kill all of them after RUN_TIMEOUT."""
        for process in list(self.processes):
            if time.monotonic() - self.start_time > RUN_TIMEOUT:
                os.kill(process, signal.SIGKILL)
            ended_process, status = os.waitpid(process, os.WNOHANG)
            if ended_process:
                self.processes.remove(process)
                self.statuses.append(os.waitstatus_to_exitcode(status))

    def describe_failure(self) -> str:
        """Return the statuses and the output, or '' if all processes ended with status 0."""
        if not any(self.statuses):
            return ''
        self.output.seek(0)
        return f'{self.name}: statuses {self.statuses}\n{self.output.read().decode(errors="replace")}'


def start_run(world_size: int, by_torchrun: bool) -> Run:
    """Start torchrun, or the ranks without it."""
    if by_torchrun:
        run = Run(f'torchrun, {world_size} ranks', tempfile.TemporaryFile())
        torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={world_size}']
        run.processes.add(fork_process(run, lambda: os.execv(sys.executable, [*torchrun, __file__])))
        return run
    run = Run(f'{world_size} ranks', tempfile.TemporaryFile())
    with socket.create_server(('localhost', 0)) as server:
        port = server.getsockname()[1]
    for rank in range(world_size):
        variables = {'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': world_size, 'LOCAL_WORLD_SIZE': world_size}
        variables |= {'MASTER_ADDR': 'localhost', 'MASTER_PORT': port}
        run.processes.add(fork_process(run, act_as_rank, **variables))
    return run


def fork_process(run: Run, function: Callable[[], None], **variables: object) -> int:
    """Start a process that calls a function with these environment variables; return its id.

    It writes to the output of the run.
    """
    process = os.fork()
    if process:
        return process
    os.environ.update({name: str(value) for name, value in variables.items()})
    os.environ.update(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
    for stream in (1, 2):
        os.dup2(run.output.fileno(), stream)
    for name in [name for name in sys.modules if name.startswith('torch.distributed.nn')]:
        del sys.modules[name]  # so that this process imports it at the same point as one that was not forked
    function()
    os._exit(STATUS_WITH_THREADS)  # not reached: the function ends the process


def run_all(runs: int, by_torchrun: int, max_in_flight: int) -> int:
    """Do the runs and return how many failed; the first `by_torchrun` of them are started by torchrun."""
    to_start = [(2 + number % 2, number < by_torchrun) for number in range(runs)]
    in_flight: list[Run] = []
    ended = failed = 0
    while to_start or in_flight:
        while to_start and len(in_flight) < max_in_flight:
            in_flight.append(start_run(*to_start.pop(0)))
        for run in list(in_flight):
            run.collect_ended_processes()
            if run.processes:
                continue
            in_flight.remove(run)
            ended += 1
            if failure := run.describe_failure():
                failed += 1
                print(failure, flush=True)
            if ended % 20 == 0:
                print(f'{ended} of {runs} runs ended, {failed} of them not with status 0', flush=True)
            run.output.close()
        time.sleep(0.02)
    return failed


def start_busy_process() -> int:
    """Return the id of a new process that keeps a core busy until it is killed."""
    process = os.fork()
    while not process:
        if os.getppid() == 1:
            os._exit(0)
    return process


def run_from_command_line() -> int:
    """Do what the command line says, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (('runs', 200), ('torchrun', 60), ('busy', 2), ('max_in_flight', 3)):
        parser.add_argument(f'--{name}', type=int, default=default)
    options = parser.parse_args()
    importlib.import_module('torch._dynamo')  # once for all ranks that are forked
    busy_processes = [start_busy_process() for _ in range(options.busy)]
    start_time = time.monotonic()
    try:
        failed = run_all(options.runs, options.torchrun, options.max_in_flight)
    finally:
        for process in busy_processes:
            os.kill(process, signal.SIGKILL)
    print(
        f'{options.runs - failed} of {options.runs} runs ended with status 0, {options.torchrun} of them by torchrun, '
        f'in {time.monotonic() - start_time:.0f} s'
    )
    return 1 if failed else 0


if __name__ == '__main__':
    if distributed.is_launched():
        act_as_rank()
    sys.exit(run_from_command_line())
