"""Going through data that is read bit by bit, as far ahead as memory has room for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from time import perf_counter
from typing import Any

from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.measure.size import measure_known
from amorsize_dask.planning.execution import leave_out, stream_all
from amorsize_dask.scheduler import AmorsizeScheduler

#: Items of the first batch for each core. Smaller: cores have nothing to do while the
#: first items are measured; larger: more is read before anything is known.
FIRST_ITEMS_A_CORE = 4

#: Seconds that a batch is to take. Smaller: the end of each batch, where cores have
#: nothing to do, is a larger part of it; larger: more is read ahead.
BATCH_S = 2.0

#: Most times that a batch may be larger than the one before. Smaller: many small ones
#: at the start; larger: one quick item decides how much is read.
MAX_GROWTH = 8

#: Share of the memory that items may take which have been read. Smaller: batches of
#: large items are small; larger: less is left for what is made of them.
READ_FRACTION = 0.25


def stream_read(
    scheduler: AmorsizeScheduler,
    func: Callable[[Any], Any],
    data: Iterable[Any],
    *,
    batch_size: int | None = None,
    memory_fraction: float = 1.0,
    results: Mapping[int, Any] | None = None,
    max_workers: int | None = None,
    tell: Callable[[int, int, float], None] | None = None,
) -> Generator[Any, None, None]:
    """Read a batch, yield its results, and choose the size of the next one.

    Parameters
    ----------
    scheduler : AmorsizeScheduler
        What runs it.
    func : callable
        Called with one item.
    data : iterable
        It may be endless.
    batch_size : int, optional
        Items of a batch, >= 1; by default what takes `BATCH_S` and has room.
    memory_fraction : float, optional
        Share of the available memory that may be taken, above 0 and up to 1.
    results : mapping of int to value, optional
        Results of items that are known already, by their places.
    max_workers : int, optional
        Most threads or processes.
    tell : callable, optional
        Called after each batch with the items so far, those of the batch and its
        seconds.
    """
    machine = measure_machine()
    size = batch_size or FIRST_ITEMS_A_CORE * machine.n_cores
    items_left = iter(data)
    left = dict(results or {})
    n_done = 0
    while items := list(islice(items_left, size)):
        start = perf_counter()
        item_bytes = measure_known(items) / len(items)
        n = len(items)
        known = {i: left.pop(n_done + i) for i in range(n) if n_done + i in left}
        others = leave_out(items, known)
        del items
        values = stream_all(scheduler, func, others, max_workers=max_workers)
        del others
        with closing(values):
            yield from merge(values, known, n)
        seconds = perf_counter() - start
        n_done += n
        if tell is not None:
            tell(n_done, n, seconds)
        if batch_size is None:
            by_time = size * min(MAX_GROWTH, BATCH_S / max(seconds, 1e-6))
            read_bytes = READ_FRACTION * memory_fraction * machine.memory_bytes
            size = max(1, int(min(by_time, read_bytes / item_bytes)))


def merge(
    values: Iterator[Any], known: dict[int, Any], n: int
) -> Generator[Any, None, None]:
    """Yield n results in order, given those that are known and the others in order."""
    for place in range(n):
        yield known.pop(place) if place in known else next(values)
