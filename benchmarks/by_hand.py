"""Ways to do a job by hand, as an expert would for this machine.

Each is a context: pools and executors are started before the clock, as they are for the
schedulers that can have one.
"""

# Workers import the modules of the workloads, which import this one: what only the
# caller needs is imported where it is used.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from dask.system import CPU_COUNT
from workload import ByHand, Job


@contextmanager
def loop() -> Iterator[Callable[[Job], Any]]:
    """Call the function for one item after the other."""
    yield lambda job: job.finish(map(job.function, job.items))


def threads(n_threads: int) -> ByHand:
    """Return the way through an executor of so many threads."""

    @contextmanager
    def way() -> Iterator[Callable[[Job], Any]]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(n_threads) as executor:
            yield lambda job: job.finish(executor.map(job.function, job.items))

    return way


def pool(chunk_size: int, *, n_times_cores: int = 1) -> ByHand:
    """Return the way through a `multiprocessing.Pool`.

    Parameters
    ----------
    chunk_size : int
        Items that are sent to a worker at once, >= 1.
    n_times_cores : int
        Workers for each core, >= 1: more than one for work that waits.
    """

    @contextmanager
    def way() -> Iterator[Callable[[Job], Any]]:
        with _open_pool(n_times_cores) as workers:
            yield lambda job: job.finish(
                workers.imap(job.function, job.items, chunk_size)
            )

    return way


def longest_first(cost: Callable[[Any], float]) -> ByHand:
    """Return the way through a pool that starts with the items that cost most."""

    @contextmanager
    def way() -> Iterator[Callable[[Job], Any]]:
        with _open_pool(1) as workers:

            def run(job: Job) -> Any:
                items = job.items
                order = sorted(range(len(items)), key=lambda i: -cost(items[i]))
                found = workers.imap(job.function, [items[i] for i in order])
                results = dict(zip(order, found, strict=True))
                return job.finish(results[i] for i in range(len(items)))

            yield run

    return way


def parts(merge: Callable[[Iterable[Any]], Any], n_a_core: int = 1) -> ByHand:
    """Return the way through a pool whose workers merge the results of their items.

    Parameters
    ----------
    merge : callable
        Makes one result of several, so that the job's `finish` gives the same for it.
    n_a_core : int
        Parts that the items are cut into, for each core, >= 1.
    """

    @contextmanager
    def way() -> Iterator[Callable[[Job], Any]]:
        with _open_pool(1) as workers:

            def run(job: Job) -> Any:
                size = -(-len(job.items) // (CPU_COUNT * n_a_core))
                starts = range(0, len(job.items), size)
                slices = [job.items[start : start + size] for start in starts]
                do = partial(_merge_part, job.function, merge)
                return job.finish(workers.imap(do, slices))

            yield run

    return way


def _merge_part(
    function: Callable[[Any], Any], merge: Callable[[Any], Any], items: Any
) -> Any:
    return merge(map(function, items))


def one_blas_thread(way: ByHand) -> ByHand:
    """Return a way whose threads or workers have one BLAS thread each."""

    @contextmanager
    def limited() -> Iterator[Callable[[Job], Any]]:
        from threadpoolctl import threadpool_limits

        # Before workers are forked, which inherit it.
        with threadpool_limits(1), way() as do:
            yield do

    return limited


def threads_into_pool(
    n_threads: int,
    wait: Callable[[Any], Any],
    calculate: Callable[[Any], Any],
) -> ByHand:
    """Return the way that waits in threads and computes in a pool.

    `wait` and `calculate`, one after the other, are the job's function.
    """

    @contextmanager
    def way() -> Iterator[Callable[[Job], Any]]:
        from concurrent.futures import ThreadPoolExecutor

        with _open_pool(1) as workers, ThreadPoolExecutor(n_threads) as executor:

            def run(job: Job) -> Any:
                # The thread waits for the worker too: it has nothing else to do.
                return job.finish(
                    executor.map(
                        lambda item: workers.apply(calculate, (wait(item),)), job.items
                    )
                )

            yield run

    return way


def _open_pool(n_times_cores: int) -> AbstractContextManager[Any]:
    import multiprocessing

    return multiprocessing.Pool(CPU_COUNT * n_times_cores)
