"""Functions over data that is read bit by bit: lists, generators, endless ones.

What the guide of amorsize calls by these names. `process_in_batches` runs the work;
the other two measure some items and say how it could be run by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeVar

import click

from amorsize_dask.arguments import check_count, check_function, check_seconds
from amorsize_dask.core.model import Limits
from amorsize_dask.core.units import format_seconds
from amorsize_dask.errors import ArgumentError
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.measure.size import measure_known
from amorsize_dask.planning.data import UNKNOWN_ITEMS, find_length
from amorsize_dask.planning.optimize import CHUNK_S
from amorsize_dask.planning.pools import choose_pool
from amorsize_dask.planning.putting_together import find_speedup
from amorsize_dask.planning.reading import stream_read
from amorsize_dask.planning.sample import take_sample
from amorsize_dask.planning.sending import describe_function
from amorsize_dask.planning.trial import Trial
from amorsize_dask.scheduler import AmorsizeScheduler, check_scheduler

T = TypeVar("T")
R = TypeVar("R")

#: Items that are measured. Smaller: one that is unlike the others decides; larger: it
#: takes longer than it is worth.
SAMPLE_ITEMS = 5
MOST_SAMPLE_ITEMS = 10

#: Seconds of measuring after which no further item is tried.
SAMPLE_S = 1.0


def process_in_batches(
    func: Callable[[T], R],
    data: Iterable[T],
    batch_size: int | None = None,
    max_memory_percent: float = 0.8,
    verbose: bool = False,
    scheduler: AmorsizeScheduler | None = None,
) -> list[R] | Generator[R, None, None]:
    """Call a function with each item, some of them at a time.

    Items are read when their batch begins, each once. Results come in order.

    Parameters
    ----------
    func : callable
        Called with one item.
    data : iterable
        A sequence, or anything that can be gone through once. It may be endless.
    batch_size : int, optional
        Items of a batch, >= 1. By default as many as take about `BATCH_S` seconds and
        a quarter of the memory.
    max_memory_percent : float, optional
        Share of the available memory that may be taken, above 0 and up to 1.
    verbose : bool, optional
        Tell of each batch on stderr.
    scheduler : AmorsizeScheduler, optional
        What runs it. By default one that is closed at the end, with that limit.

    Returns
    -------
    list or iterator
        Of data whose length is known a list, when all is done. Of other data an
        iterator; nothing is read before its first value is asked for, and nothing runs
        any more when it is closed.

    Raises
    ------
    ArgumentError
        Before anything has started.
    BaseException
        What `func` raises, as itself. Later items of that batch have been read.

    Examples
    --------
    >>> process_in_batches(abs, [-1, -2])
    [1, 2]
    >>> from itertools import count, islice
    >>> list(islice(process_in_batches(abs, count(-2)), 3))
    [2, 1, 0]
    """
    check_function("func", func)
    _check_iterable("data", data)
    if batch_size is not None:
        batch_size = check_count("batch_size", batch_size, 1)
    _check_fraction(max_memory_percent)
    if scheduler is not None:
        check_scheduler(scheduler)
    results = _process(
        func, data, batch_size, float(max_memory_percent), verbose, scheduler
    )
    if find_length(data) is None:
        return results
    with closing(results):
        return list(results)


def _process(
    func: Callable[[T], R],
    data: Iterable[T],
    batch_size: int | None,
    fraction: float,
    verbose: bool,
    scheduler: AmorsizeScheduler | None,
) -> Generator[R, None, None]:
    with ExitStack() as stack:
        if scheduler is None:
            made = AmorsizeScheduler(memory_limit=fraction)
            scheduler = stack.enter_context(made)
        values = stream_read(
            scheduler,
            func,
            data,
            batch_size=batch_size,
            memory_fraction=fraction,
            tell=_tell if verbose else None,
        )
        stack.enter_context(closing(values))
        yield from values


def _tell(n_done: int, n: int, seconds: float) -> None:
    text = f"{n_done} items, the last {n} in {format_seconds(seconds)}"
    click.echo(text, err=True)


def estimate_safe_batch_size(
    sample_func: Callable[[T], Any],
    sample_data: Iterable[T],
    max_memory_percent: float = 0.6,
) -> int:
    """Estimate how many items' results fit into memory together.

    Runs the function on up to `MOST_SAMPLE_ITEMS` items here and keeps nothing of it.

    Parameters
    ----------
    sample_func : callable
        Called with one item.
    sample_data : iterable
        Some items; no more are read than are tried.
    max_memory_percent : float, optional
        Share of the available memory that may be taken, above 0 and up to 1.

    Returns
    -------
    int
        At least 1: the memory, less what a task takes while it runs on each core, over
        what an item and its result take at most.

    Raises
    ------
    ArgumentError
        For arguments that can't be used, and if there is no item.
    BaseException
        What the function raises.
    """
    check_function("sample_func", sample_func)
    _check_iterable("sample_data", sample_data)
    _check_fraction(max_memory_percent)
    machine = measure_machine()
    kept_bytes, passing_bytes, n_tried, seconds = 1, 0, 0, 0.0
    with Trial(sample_func) as trial:
        for item in islice(sample_data, MOST_SAMPLE_ITEMS):
            found = trial.call([n_tried], [item])
            if found.failure is not None:
                raise found.failure[1]
            (value,), (outcome,) = found.values, found.outcomes
            passing_bytes = max(passing_bytes, outcome.peak_bytes or 0)
            kept_bytes = max(kept_bytes, measure_known(item) + measure_known(value))
            seconds += outcome.seconds
            n_tried += 1
            del value, found
            if seconds > SAMPLE_S:
                break
    if not n_tried:
        raise ArgumentError("sample_data", sample_data, "expected one item or more")
    left_bytes = max_memory_percent * machine.memory_bytes
    left_bytes -= machine.n_cores * passing_bytes
    return max(1, int(left_bytes / kept_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingPlan:
    """How to go through data with a pool's ``imap``."""

    #: Processes; 1 if a loop is faster.
    n_jobs: int
    #: Items that are sent at once.
    chunksize: int
    #: The data with nothing missing: what was read to measure is in it again.
    data: Iterable[Any]
    #: Mean seconds of an item, as measured.
    item_s: float
    #: How many times as fast as a loop it is predicted to be, >= 1.
    estimated_speedup: float
    #: Why, for people.
    reason: str


def optimize_streaming(
    func: Callable[[T], Any],
    data: Iterable[T],
    max_workers: int | None = None,
    target_chunk_duration: float = CHUNK_S,
) -> StreamingPlan:
    """Measure some items, and say how many processes and what chunks suit them.

    Parameters
    ----------
    func : callable
        Called here with up to `SAMPLE_ITEMS` of the items; whoever follows the plan
        calls it with these again.
    data : iterable
        A sequence, or anything that can be gone through once. It may be endless.
    max_workers : int, optional
        Most processes, >= 1.
    target_chunk_duration : float, optional
        Seconds that a chunk should take at most, > 0.

    Returns
    -------
    StreamingPlan

    Raises
    ------
    ArgumentError
        Before anything has been read.
    BaseException
        What the function raises.

    Examples
    --------
    >>> plan = optimize_streaming(abs, [-1, -2, -3])
    >>> plan.n_jobs, list(plan.data)
    (1, [-1, -2, -3])
    """
    check_function("func", func)
    _check_iterable("data", data)
    if max_workers is not None:
        max_workers = check_count("max_workers", max_workers, 1)
    check_seconds("target_chunk_duration", target_chunk_duration)
    items = iter(data)
    sample = list(islice(items, SAMPLE_ITEMS))
    whole: Iterable[T] = data if isinstance(data, Sequence) else chain(sample, items)
    n_known = find_length(data)
    n_items = UNKNOWN_ITEMS if n_known is None else n_known
    found = take_sample(func, sample, n_items, SAMPLE_ITEMS)
    for error in found.failures.values():
        raise error
    _, _, hindrance = describe_function(func)
    hindrance = hindrance or found.unpicklable
    workload = found.workload(n_items)
    pool = choose_pool(
        workload,
        measure_machine(),
        Limits(max_workers=max_workers),
        target_chunk_s=target_chunk_duration,
        allowed=hindrance is None and found.state is None,
    )
    return StreamingPlan(
        n_jobs=pool.n_jobs,
        chunksize=pool.chunksize if pool.n_jobs > 1 else 1,
        data=whole,
        item_s=workload.mean_s,
        estimated_speedup=find_speedup(n_items * workload.mean_s, pool.predicted_s),
        reason=hindrance or _explain(n_items, found.state, pool.n_jobs),
    )


def _explain(n_items: int, state: str | None, n_jobs: int) -> str:
    if not n_items:
        return "there are no items"
    if state is not None:
        return f"calls change what other calls see: {state}"
    if n_jobs == 1:
        return "a loop is as fast as processes are predicted to be"
    return f"{n_jobs} processes are predicted to be faster than a loop"


def _check_iterable(name: str, value: Any) -> None:
    if not isinstance(value, Iterable):
        raise ArgumentError(name, value, "expected something that can be gone through")


def _check_fraction(value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        expected = "expected a share of the available memory above 0 and up to 1"
        raise ArgumentError("max_memory_percent", value, expected)
