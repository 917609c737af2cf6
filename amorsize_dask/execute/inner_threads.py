"""Threads that libraries start inside of tasks: BLAS, OpenMP."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext

from threadpoolctl import threadpool_limits

#: If none of these is loaded, there are no inner threads to look for; looking takes
#: some milliseconds, since it walks all libraries of the process.
THREADED_MODULES = ("numpy", "scipy", "sklearn", "torch", "numba")


def limit_inner_threads(n_workers: int) -> AbstractContextManager[object]:
    """Share the cores out between the inner threads of `n_workers` tasks at once.

    Otherwise each task would use as many threads as there are cores, and they would
    wait for each other.
    """
    if n_workers < 2 or not any(name in sys.modules for name in THREADED_MODULES):
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(
        max(1, (os.cpu_count() or 1) // n_workers)
    )
    return limits
