"""Ways of calling a function with each item of a list.

Each starts from nothing, and what it starts has ended when it returns: that is part of
what it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

from dask.bag import from_sequence

from amorsize_dask.batches import process_in_batches
from amorsize_dask.scheduler import AmorsizeScheduler

#: Chunks that each worker of a pool gets, as `multiprocessing.Pool.map` has it.
CHUNKS_A_WORKER = 4

Function = Callable[[Any], Any]


class Strategy(NamedTuple):
    """A way of calling a function with each item."""

    #: What it is called, for people.
    name: str
    #: Takes the function and the items, returns the results in order.
    run: Callable[[Function, Sequence[Any]], list[Any]]


def run_serially(func: Function, items: Sequence[Any]) -> list[Any]:
    """Call it in a loop."""
    return [func(item) for item in items]


def run_in_threads(func: Function, items: Sequence[Any], n_threads: int) -> list[Any]:
    """Call it in a pool of threads, in the pool's own chunks."""
    with ThreadPool(n_threads) as pool:
        return pool.map(func, items)


def run_in_processes(
    func: Function, items: Sequence[Any], n_jobs: int, chunksize: int | None = None
) -> list[Any]:
    """Call it in worker processes, as a pool of them does, with a chunk at a time.

    They are this scheduler's own, and not a `multiprocessing.Pool`'s: these need
    functions that can be found by their names, and guards in scripts.

    Parameters
    ----------
    func : callable
        Called with an item.
    items : sequence
        What to call it with.
    n_jobs : int
        Worker processes, >= 1.
    chunksize : int, optional
        Items that are sent together, >= 1. By default as `multiprocessing.Pool.map`
        has it.
    """
    if not len(items):
        return []
    if chunksize is None:
        chunksize = ceil(len(items) / (CHUNKS_A_WORKER * n_jobs))
    starts = range(0, len(items), chunksize)
    chunks = [list(items[start : start + chunksize]) for start in starts]
    bag = from_sequence(chunks, partition_size=1).map(partial(run_serially, func))
    with AmorsizeScheduler(n_jobs, lanes=("processes",), isolate=True) as scheduler:
        parts: list[list[Any]] = bag.compute(scheduler=scheduler)
    return [value for part in parts for value in part]


def run_in_batches(func: Function, items: Sequence[Any]) -> list[Any]:
    """Call it by `process_in_batches`."""
    return list(process_in_batches(func, items))


def run_measured(func: Function, items: Sequence[Any]) -> list[Any]:
    """Call it as this scheduler decides."""
    with AmorsizeScheduler() as scheduler:
        return run_in_bag(func, items, scheduler)


def run_in_bag(func: Function, items: Sequence[Any], scheduler: Any) -> list[Any]:
    """Call it as a bag, in the partitions that Dask makes, by any of its schedulers."""
    if not len(items):
        return []
    values: list[Any] = from_sequence(items).map(func).compute(scheduler=scheduler)
    return values
