"""The threads of libraries in a worker of a cluster."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin
from threadpoolctl import threadpool_limits


class InnerThreads(WorkerPlugin):
    """A plugin of a worker that limits the threads of libraries such as BLAS.

    Dask imports NumPy before a worker's environment is set, which is too late for a
    library that reads it when it is loaded. In the calling process there is no
    environment of the worker's own; there the limits go when the worker does.

    Parameters
    ----------
    n_threads : int
        Threads inside of each task, >= 1.
    """

    name = "amorsize-inner-threads"

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        # Workers in the calling process share one plugin.
        self._limits: list[Any] = []

    def setup(self, worker: Any) -> None:
        """Set the limits of the libraries that are loaded."""
        self._limits.append(threadpool_limits(self.n_threads))

    def teardown(self, worker: Any) -> None:
        """Put back what was there."""
        if self._limits:
            self._limits.pop().restore_original_limits()

    def __reduce__(self) -> tuple[Any, ...]:
        return InnerThreads, (self.n_threads,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InnerThreads) and self.n_threads == other.n_threads

    def __hash__(self) -> int:
        return hash((InnerThreads, self.n_threads))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_threads})"
