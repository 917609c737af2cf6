"""Functions over data that is read bit by bit: lists, generators, endless ones.

What the guide of amorsize calls by these names. `process_in_batches` runs the work;
the other two measure some items and say how it could be run by hand.
"""

from __future__ import annotations

import pickle
from collections.abc import (
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
    Sized,
)
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, islice
from threading import get_native_id
from time import perf_counter
from typing import Any, TypeVar

import click
from dask.bag import from_sequence
from dask.sizeof import sizeof

from amorsize_dask.arguments import check_seconds
from amorsize_dask.core.batching import choose_batch_size
from amorsize_dask.core.model import Lane, Limits
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.placement import place
from amorsize_dask.core.statistics import StageStatistics
from amorsize_dask.core.units import format_seconds
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.batch import BatchResult, run_batch
from amorsize_dask.measure.clock import RunDelay
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.measure.size import measure_pickled
from amorsize_dask.scheduler import AmorsizeScheduler

T = TypeVar("T")
R = TypeVar("R")

#: Items of the first batch for each core. Smaller: cores have nothing to do while the
#: first items are measured; larger: more is read before anything is known.
FIRST_ITEMS_A_CORE = 4

#: Partitions of a batch for each core. Smaller: results come, and wait, in larger
#: pieces; larger: each costs as much as many short calls.
PARTITIONS_A_CORE = 64

#: Seconds that a batch is to take. Smaller: the end of each batch, where cores have
#: nothing to do, is a larger part of it; larger: more is read ahead.
BATCH_S = 2.0

#: Most times that a batch may be larger than the one before. Smaller: many small ones
#: at the start; larger: one quick item decides how much is read.
MAX_GROWTH = 8

#: Share of the memory that items may take which have been read. Smaller: batches of
#: large items are small; larger: less is left for what is made of them.
READ_FRACTION = 0.25

#: Items that are measured. Smaller: one that is unlike the others decides; larger: it
#: takes longer than it is worth.
SAMPLE_ITEMS = 5
MOST_SAMPLE_ITEMS = 10

#: Seconds of measuring after which no further item is tried.
SAMPLE_S = 1.0

#: Items that data of unknown length is taken to have: it wouldn't be streamed if they
#: were few.
UNKNOWN_ITEMS = 1_000_000

#: Seconds that a chunk of a pool's should take at most.
CHUNK_S = 0.2


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
    _check_function("func", func)
    _check_iterable("data", data)
    if batch_size is not None:
        _check_count("batch_size", batch_size)
    _check_fraction(max_memory_percent)
    results = _process(
        func, data, batch_size, float(max_memory_percent), verbose, scheduler
    )
    if not isinstance(data, Sized):
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
    """Read a batch, yield its results, and choose the size of the next one."""
    machine = measure_machine()
    size = batch_size or FIRST_ITEMS_A_CORE * machine.n_cores
    items_left = iter(data)
    with ExitStack() as stack:
        if scheduler is None:
            made = AmorsizeScheduler(memory_limit=fraction)
            scheduler = stack.enter_context(made)
        n_done = 0
        while items := list(islice(items_left, size)):
            start = perf_counter()
            item_bytes = sizeof(items) / len(items)
            n_partitions = min(len(items), PARTITIONS_A_CORE * machine.n_cores)
            bag = from_sequence(items, npartitions=n_partitions).map(func)
            del items
            with closing(scheduler.stream(bag)) as values:
                del bag
                yield from values
            seconds = perf_counter() - start
            n_done += size
            if verbose:
                text = f"{n_done} items, the last {size} in {format_seconds(seconds)}"
                click.echo(text, err=True)
            if batch_size is None:
                by_time = size * min(MAX_GROWTH, BATCH_S / max(seconds, 1e-6))
                read_bytes = READ_FRACTION * fraction * machine.memory_bytes
                size = max(1, int(min(by_time, read_bytes / item_bytes)))


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
    _check_function("sample_func", sample_func)
    _check_iterable("sample_data", sample_data)
    _check_fraction(max_memory_percent)
    machine = measure_machine()
    kept_bytes, passing_bytes, n_tried = 1, 0, 0
    for item, result in _try_out(sample_func, islice(sample_data, MOST_SAMPLE_ITEMS)):
        (value,), (outcome,) = result.values, result.outcomes
        passing_bytes = max(passing_bytes, outcome.peak_bytes or 0)
        kept_bytes = max(kept_bytes, sizeof(item) + sizeof(value))
        del value, result
        n_tried += 1
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
    _check_function("func", func)
    _check_iterable("data", data)
    if max_workers is not None:
        _check_count("max_workers", max_workers)
    check_seconds("target_chunk_duration", target_chunk_duration)
    items = iter(data)
    sample = list(islice(items, SAMPLE_ITEMS))
    whole: Iterable[T] = data if isinstance(data, Sequence) else chain(sample, items)
    n_items = len(data) if isinstance(data, Sized) else UNKNOWN_ITEMS
    statistics = StageStatistics()
    outcomes, in_bytes, hindrance = _measure(func, sample)
    if not outcomes:
        reason = "there are no items"
        return StreamingPlan(
            n_jobs=1,
            chunksize=1,
            data=whole,
            item_s=0.0,
            estimated_speedup=1.0,
            reason=reason,
        )
    statistics.add(outcomes, Lane.INLINE)
    statistics.add_in_bytes(in_bytes)
    lanes = (Lane.INLINE,) if hindrance else (Lane.INLINE, Lane.PROCESSES)
    limits = Limits(lanes=lanes, max_workers=max_workers)
    machine, workload = measure_machine(), statistics.workload(n_items)
    placement = place(workload, machine, limits, lanes=lanes)
    assert placement.predicted is not None
    chunksize = 1
    if placement.lane is Lane.PROCESSES:
        chunksize = choose_batch_size(
            n_items,
            placement.n_workers,
            workload.mean_s,
            machine.costs.round_trip_s,
            target_chunk_duration,
        )
    loop_s = n_items * workload.mean_s
    predicted_s = placement.predicted.makespan_s
    return StreamingPlan(
        n_jobs=placement.n_workers,
        chunksize=chunksize,
        data=whole,
        item_s=workload.mean_s,
        estimated_speedup=max(1.0, loop_s / predicted_s) if predicted_s else 1.0,
        reason=hindrance or placement.reason,
    )


def _measure(
    func: Callable[[T], Any], sample: Sequence[T]
) -> tuple[list[Outcome], float, str | None]:
    """Call a function with items; return outcomes, bytes in, and why not elsewhere."""
    outcomes: list[Outcome] = []
    in_bytes = 0
    hindrance: str | None = None
    try:
        pickle.dumps(func)
    except Exception as error:
        hindrance = f"the function can't be pickled: {type(error).__name__}: {error}"
    for item, result in _try_out(func, sample):
        (value,), (outcome,) = result.values, result.outcomes
        out_bytes = None
        try:
            in_bytes += measure_pickled(item).n_bytes
            out_bytes = measure_pickled(value).n_bytes
        except Exception as error:
            hindrance = f"an item or its result can't be pickled: {error}"
        outcomes.append(outcome._replace(out_bytes=out_bytes))
        del value, result
    return outcomes, in_bytes / max(1, len(outcomes)), hindrance


def _try_out(
    func: Callable[[T], Any], items: Iterable[T]
) -> Iterator[tuple[T, BatchResult]]:
    """Call a function with items one by one, until that has taken long enough."""
    start = perf_counter()
    with RunDelay(get_native_id()) as delay:
        for number, item in enumerate(items):
            task = number, lambda _, item=item: func(item), ()
            result = run_batch([task], {}, delay)
            if result.failure is not None:
                raise result.failure[1]
            yield item, result
            del result
            if perf_counter() - start > SAMPLE_S:
                break


def _check_function(name: str, value: Any) -> None:
    if not callable(value):
        raise ArgumentError(name, value, "expected a function")


def _check_iterable(name: str, value: Any) -> None:
    if not isinstance(value, Iterable):
        raise ArgumentError(name, value, "expected something that can be gone through")


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(name, value, "expected a whole number, 1 or more")


def _check_fraction(value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        expected = "expected a share of the available memory above 0 and up to 1"
        raise ArgumentError("max_memory_percent", value, expected)
