"""Start a Dask cluster on this machine."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """Run a scheduler and two workers; yield the path of the scheduler file, and end all of them afterwards."""
    scheduler_file, processes = folder / 'scheduler.json', []
    worker_options = ['--nworkers=2', '--nthreads=1', '--no-dashboard', f'--local-directory={folder}']
    try:
        for kind, options in (
            ('scheduler', ['--host=127.0.0.1', '--port=0', '--no-dashboard']),
            ('worker', worker_options),
        ):
            command = [sys.executable, '-m', f'distributed.cli.dask_{kind}', f'--scheduler-file={scheduler_file}']
            processes.append(
                subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            while not scheduler_file.exists():
                time.sleep(0.1)
        yield str(scheduler_file)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
