"""The environment variables and thread pools of a process: prepare() is the one place that sets them.

A script calls prepare() under `__main__` before it imports numpy or torch, since libraries read their variables when
they are loaded. Worker processes call it in their initialiser. This module imports neither library.
"""

import os
import sys

from threadpoolctl import threadpool_limits

# How many threads libraries use that are loaded later, in this process or in processes that it starts.
THREAD_VARIABLES = 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'
thread_limit: int | None = None  # set by limit_threads()


def prepare() -> None:
    """Set the environment variables and thread pools that every process of a run needs. It may be called again.

    BLAS uses one thread, whatever the user has set: the last bits of the spline zoom depend on how BLAS shares a
    product among threads, and these small products gain nothing from more.
    Every other variable keeps the value that the user has set.
    """
    os.environ['OPENBLAS_NUM_THREADS'] = '1'  # for BLAS libraries that are loaded later
    threadpool_limits(1, 'blas')  # for those that are loaded already
    # Without this, the process that cleans up after worker processes prints warnings when a run is stopped.
    os.environ.setdefault('PYTHONWARNINGS', 'ignore:resource_tracker')
    # How OpenMP threads wait for work (OMP_WAIT_POLICY, GOMP_SPINCOUNT) would be set here, by setdefault.


def limit_threads(number: int) -> None:
    """Use at most `number` threads (1 or more) in the pools of this process: ours, ITK's and PyTorch's.

    Thread pools that are at work now keep their size. The results of our own functions do not depend on the number.
    """
    global thread_limit
    thread_limit = number
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(number)))
    if 'SimpleITK' in sys.modules:
        sys.modules['SimpleITK'].ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    if 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(number)
