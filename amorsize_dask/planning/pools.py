"""Pools that aren't ours: how many processes and what chunks suit them, and using one.

A `multiprocessing.Pool` hands out chunks of one size, each when a process asks for
one. With N items of t seconds and deviation s each, chunks of k items, n processes that
take b seconds to boot, x seconds to move an item and r to move a chunk::

    b + max( rounds(N / k, n, k (t + x) + r, s sqrt(k)),     the processes
             f = N x + N r / 2 k,                            the caller feeds them
             (N (c t + x) + N r / k + f) / cores )           all that is computed

of which c is the share of t that an item computes. Where it is known what each item
takes, chunks are handed out in thought instead: long items are mostly beside each
other, and a last chunk of them takes long.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from heapq import heapreplace
from math import ceil
from multiprocessing.pool import Pool, ThreadPool
from typing import Any

import cloudpickle

from amorsize_dask.core.cost import rounds_s, usable_cores
from amorsize_dask.core.model import (
    WAITING_FRACTION,
    Costs,
    Lane,
    Limits,
    Machine,
    Workload,
)
from amorsize_dask.core.placement import (
    GAIN_FRACTION,
    WORKER_GAIN_FRACTION,
    memory_ceiling,
)
from amorsize_dask.errors import ArgumentError
from amorsize_dask.measure.rss import read_rss

#: Seconds until the first process of a pool is at work, and each further one. Measured
#: on Linux; "forkserver" is what our own workers use, of which the costs are known.
FORK_S = (0.015, 0.005)
SPAWN_S = (0.1, 0.04)

#: Resident bytes of a process of which the page tables are copied in a second, which
#: each fork does: 10 ms for 1 GB.
FORKED_BYTES_PER_S = 100e9

#: Bytes a second that a pool's pipes move, as a share of what passes through files to
#: our own workers: 300 MB of results took 0.7 to 1.2 s, and 0.2 to 0.25 s in files.
#: Smaller: pools aren't recommended that would be faster; larger: a pool takes twice as
#: long as a loop, as `large_results` of `benchmarks/plans.py` did.
PIPED_FRACTION = 0.25

#: Sizes of chunks that are tried where it is known what each item takes. Closer: it
#: takes longer to try them than it saves; farther apart: the best isn't among them.
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

#: Most chunks for each process that are tried as a size. Smaller: uneven items end
#: unevenly; larger: the messages cost as much as what they even out.
MOST_CHUNKS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChoice:
    """What suits a `multiprocessing.Pool`."""

    n_jobs: int
    chunksize: int
    #: Seconds for all items, starting the pool included; of one process: of a loop.
    predicted_s: float
    #: Seconds to start one process, and why it is one process if that isn't for speed.
    spawn_s: float


def choose_pool(
    workload: Workload,
    machine: Machine,
    limits: Limits,
    *,
    target_chunk_s: float,
    function_bytes: int = 0,
    allowed: bool = True,
    may_wait: bool = False,
    costs: Costs | None = None,
    each_s: Sequence[float] | None = None,
) -> PoolChoice:
    """Choose processes and chunks for a pool.

    Parameters
    ----------
    workload : Workload
        All items, each a task.
    machine : Machine
        The host.
    limits : Limits
        What the user allows.
    target_chunk_s : float
        Seconds that a chunk should take at most, > 0.
    function_bytes : int, optional
        Bytes of the function, which is sent with each chunk.
    allowed : bool, optional
        Whether more than one process may be chosen at all.
    may_wait : bool, optional
        Whether it may be chosen for a function that mostly waits, too. Threads are for
        that, unless it holds the GIL so much when it doesn't.
    costs : Costs, optional
        What the pool costs; by default what one of `multiprocessing` does here.
    each_s : sequence of float, optional
        Seconds of each item, in order, if that is known.

    Returns
    -------
    PoolChoice
        One process unless more are faster by `GAIN_FRACTION` than a loop: that is also
        the answer for functions that wait, by default.
    """
    costs = costs or find_pool_costs(machine.costs)
    machine = replace(machine, costs=costs)
    serial_s = workload.n_tasks * workload.mean_s
    most = 1
    if allowed and (may_wait or workload.cpu_fraction > WAITING_FRACTION):
        most = min(
            usable_cores(workload, machine),
            memory_ceiling(workload, machine, limits, Lane.PROCESSES, share=1.0),
            max(1, workload.n_tasks),
        )
        if limits.max_workers is not None:
            most = min(most, limits.max_workers)
    # Its processes measure and report nothing: a message takes no more than an echo.
    chunk_s = costs.echo_s + function_bytes / costs.bytes_per_s
    # An item is one of a list, however few there are.
    item_s = workload.mean_s + costs.item_s
    item_s += (workload.in_bytes + workload.out_bytes) / costs.bytes_per_s
    largest = max(1, int(min(target_chunk_s / max(item_s, 1e-9), workload.n_tasks)))

    def boot_s(n: int) -> float:
        return costs.boot_first_s + (n - 1) * costs.boot_next_s

    def share_s(size: int) -> float:
        """Return the seconds that feeding takes, or all that is computed on the cores.

        The caller has a core of its own only if there are more than processes.
        """
        extra_s = workload.n_tasks * (item_s - workload.mean_s)
        messages_s = ceil(workload.n_tasks / size) * chunk_s
        feed_s = extra_s + messages_s / 2
        computed_s = serial_s * workload.cpu_fraction + extra_s + messages_s
        return max(feed_s, (computed_s + feed_s) / machine.n_cores)

    def predict(n: int, size: int) -> float:
        n_chunks = ceil(workload.n_tasks / size)
        chunk = size * item_s + chunk_s
        crew_s = rounds_s(n_chunks, n, chunk, workload.std_s * size**0.5)
        return boot_s(n) + max(crew_s, share_s(size))

    def choose_size(n: int) -> tuple[float, int]:
        sizes = {
            max(1, min(largest, ceil(workload.n_tasks / (n * n_chunks))))
            for n_chunks in range(1, MOST_CHUNKS + 1)
        }
        best_s = min(predict(n, size) for size in sizes)
        # The smallest of those that are as good: it evens out what isn't foreseen.
        good_s = best_s / (1 - WORKER_GAIN_FRACTION)
        return next((s, k) for k in sorted(sizes) if (s := predict(n, k)) <= good_s)

    found = {n: choose_size(n) for n in range(1, most + 1)}
    best_s = min(seconds for seconds, _ in found.values())
    n_jobs = next(
        n
        for n, (seconds, _) in found.items()
        if seconds <= best_s / (1 - WORKER_GAIN_FRACTION)
    )
    if each_s is not None and n_jobs > 1:
        least = workload.n_tasks / (MOST_CHUNKS * n_jobs)
        found[n_jobs] = _choose_chunks(
            each_s,
            n_jobs,
            {found[n_jobs][1], *(size for size in SIZES if least <= size <= largest)},
            extra_s=item_s - workload.mean_s,
            chunk_s=chunk_s,
            share_s=share_s,
        )
        found[n_jobs] = found[n_jobs][0] + boot_s(n_jobs), found[n_jobs][1]
    if n_jobs == 1 or found[n_jobs][0] > (1 - GAIN_FRACTION) * serial_s:
        n_jobs = 1
    seconds, chunksize = found[n_jobs]
    return PoolChoice(
        n_jobs=n_jobs,
        chunksize=chunksize,
        predicted_s=serial_s if n_jobs == 1 else seconds,
        spawn_s=costs.boot_next_s,
    )


def _choose_chunks(
    each_s: Sequence[float],
    n: int,
    sizes: Iterable[int],
    *,
    extra_s: float,
    chunk_s: float,
    share_s: Callable[[int], float],
) -> tuple[float, int]:
    """Return what a pool takes with the best size of chunks, and that size.

    Each chunk, in order, goes to the process that is free first; `share_s` is what all
    takes at least with chunks of a size.
    """
    predicted: dict[int, float] = {}
    for size in sorted(sizes):
        free_at = [0.0] * n
        for start in range(0, len(each_s), size):
            some = each_s[start : start + size]
            chunk = sum(some) + len(some) * extra_s + chunk_s
            heapreplace(free_at, free_at[0] + chunk)
        predicted[size] = max(*free_at, share_s(size))
    # Not the smallest of those that are as good: what smaller ones would even out is
    # known, and each chunk is felt on cores that are all busy.
    return min((seconds, size) for size, seconds in predicted.items())


def find_start_method() -> str:
    """Return how `multiprocessing` starts processes here, without settling it."""
    method = multiprocessing.get_start_method(allow_none=True)
    return method or multiprocessing.get_all_start_methods()[0]


def find_pool_costs(costs: Costs) -> Costs:
    """Return what a `multiprocessing.Pool` costs where our own workers cost `costs`."""
    method = find_start_method()
    costs = replace(costs, bytes_per_s=PIPED_FRACTION * costs.bytes_per_s)
    if method == "forkserver":
        return costs
    first_s, next_s = FORK_S if method == "fork" else SPAWN_S
    copy_s = read_rss() / FORKED_BYTES_PER_S if method == "fork" else 0.0
    return replace(costs, boot_first_s=first_s + copy_s, boot_next_s=next_s + copy_s)


def find_main_problem(func: Callable[..., Any]) -> str | None:
    """Return why a pool's processes wouldn't find a function of ``__main__``, if so."""
    main = sys.modules.get("__main__")
    if getattr(func, "__module__", None) != "__main__" or hasattr(main, "__file__"):
        return None
    if find_start_method() == "fork":
        return None
    return "new processes can't import a function of an interactive session"


def describe_pool(
    n_jobs: int, n_threads: int, chunksize: int, kind: str
) -> dict[str, int]:
    """Return the arguments to make a pool of some kind with."""
    match kind:
        case "multiprocessing":
            return {"processes": n_jobs}
        case "concurrent.futures":
            return {"max_workers": n_jobs}
        case "threads":
            return {"max_workers": n_threads}
        case "joblib":
            return {"n_jobs": n_jobs, "batch_size": chunksize}
    expected = "expected 'multiprocessing', 'concurrent.futures', 'threads' or 'joblib'"
    raise ArgumentError("kind", kind, expected)


class SentByValue:
    """A function that is pickled by cloudpickle, whoever pickles it."""

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self._func = func

    def __call__(self, item: Any) -> Any:
        """Call the function."""
        return self._func(item)

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (cloudpickle.dumps(self._func),)


def check_pool(pool: Any) -> None:
    """Make sure that it is a pool of a known kind.

    Raises
    ------
    ArgumentError
        If it isn't.
    """
    if not (isinstance(pool, Pool | Executor) or _is_joblib(pool)):
        expected = (
            "expected a multiprocessing.Pool, an executor of concurrent.futures or a "
            "joblib.Parallel"
        )
        raise ArgumentError("pool", pool, expected)
    if not getattr(pool, "return_ordered", True):
        expected = "expected one that returns results in order, not as they come"
        raise ArgumentError("pool", pool, expected)


def _is_joblib(pool: Any) -> bool:
    return type(pool).__module__.partition(".")[0] == "joblib" and callable(pool)


def map_with(
    pool: Any, func: Callable[[Any], Any], items: Sequence[Any], chunksize: int
) -> list[Any]:
    """Call a function with items in somebody's pool; return the results in order.

    Raises
    ------
    BaseException
        What the function or the pool raises.
    """
    if not len(items):
        return []
    if isinstance(pool, ThreadPool):
        # Its threads fetch single items as fast as chunks.
        return pool.map(func, items, chunksize=1)
    if isinstance(pool, Pool):
        return pool.map(func, items, chunksize=chunksize)
    if isinstance(pool, Executor):
        return list(pool.map(func, items, chunksize=chunksize))
    # What `joblib.delayed` makes of a call.
    return list(pool((func, (item,), {}) for item in items))
