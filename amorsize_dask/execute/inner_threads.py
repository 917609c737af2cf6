"""Threads that libraries start inside of tasks: BLAS, OpenMP."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

from threadpoolctl import ThreadpoolController

from amorsize_dask.measure.cores import count_cores

#: If none of these is loaded, there are no inner threads to look for; looking takes
#: some milliseconds, since it walks all libraries of the process.
THREADED_MODULES = ("numpy", "scipy", "sklearn", "torch", "numba")


def limit_inner_threads(n_workers: int) -> AbstractContextManager[object]:
    """Share the cores out between the inner threads of `n_workers` tasks at once.

    Otherwise each task would use as many threads as there are cores, and they would
    wait for each other. Where the user has set fewer, it stays at that.
    """
    if n_workers < 2 or not any(name in sys.modules for name in THREADED_MODULES):
        return nullcontext()
    controller = ThreadpoolController()
    share = max(1, count_cores() // n_workers)
    most: dict[str, int] = {}
    for library in controller.info():
        prefix, n = library["prefix"], library["num_threads"]
        most[prefix] = min(share, n, most.get(prefix, n))
    limits: AbstractContextManager[object] = controller.limit(limits=most)
    return limits
