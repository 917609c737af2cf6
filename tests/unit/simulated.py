"""Graphs and machines for tests that run the core on a simulated machine."""

from __future__ import annotations

from collections.abc import Sequence

from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Cluster, Machine


def bag(n_tasks: int) -> Graph:
    """Return a graph of independent tasks of one stage."""
    return staged([0] * n_tasks)


def staged(
    stage_of: Sequence[int],
    dependencies: Sequence[Sequence[int]] | None = None,
    caller_stages: Sequence[int] = (),
) -> Graph:
    """Return a graph with the given stages, whose last tasks are wanted."""
    if dependencies is None:
        dependencies = [()] * len(stage_of)
    needed = {task for needs in dependencies for task in needs}
    return Graph(
        dependencies=dependencies,
        stage_of=stage_of,
        n_stages=max(stage_of, default=0) + 1,
        wanted=frozenset(range(len(stage_of))) - needed,
        caller_stages=frozenset(caller_stages),
    )


def machine(n_cores: int = 4, memory_bytes: int = 16 * 10**9) -> Machine:
    """Return a machine with the core's default costs."""
    return Machine(n_cores=n_cores, n_physical_cores=n_cores, memory_bytes=memory_bytes)


def cluster(n_workers: int = 4, n_threads: int = 4, **costs: float) -> Cluster:
    """Return a cluster with a core for each thread, with the core's default costs."""
    return Cluster(
        n_workers=n_workers,
        n_threads=n_threads,
        n_cores=n_threads,
        memory_bytes=16 * 10**9,
        **costs,  # type: ignore[arg-type]
    )
