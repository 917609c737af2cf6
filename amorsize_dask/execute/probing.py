"""What handing out tasks costs here, seen in runs of tasks that do nothing.

All that a batch takes is in it: the core, the loop, waking who runs it, and what is
measured there. The bare round trip of a few bytes, or of a queue, is a fraction of it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import process_time, sleep, thread_time
from typing import Any

from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Lane, Limits, Machine
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.loop import Execution
from amorsize_dask.execute.pool import WorkerPool

#: Runs of each kind, of which the one that took the least counts. Smaller: others that
#: have thrown out what a core had at hand count as costs; larger: more than the tens of
#: milliseconds that it takes, once on each machine.
N_ROUNDS = 2

#: Batches that are handed to one worker. Smaller: what a run takes by itself, which is
#: taken off, is most of it; larger: see above.
N_BATCHES = 16

#: Threads that are started in a run, and the seconds for which each waits. Fewer: they
#: are less in each other's way than a hundred are; more: see above. Shorter waits: the
#: first ones are done before the last is started, which then isn't; longer: see above.
N_THREADS = 32
NAP_S = 0.002

#: Numbers that a task sorts as texts. Fewer: it throws out less than tasks do; more: it
#: takes longer than a millisecond.
N_SORTED = 3000

#: Bytes that such a run may take. Smaller: some memory is short; larger: nothing.
MEMORY_BYTES = 1_000_000_000


def measure_thread_costs(pool: WorkerPool) -> tuple[float, float]:
    """Measure what it takes to start a thread and to have it run a batch.

    In CPU seconds, which others don't change: threads of one process do all of that one
    after the other.

    Parameters
    ----------
    pool : WorkerPool
        Which a run has, though no process is taken.

    Returns
    -------
    thread_start_s, hand_off_s : float
        Seconds for each of many threads, and for each of many batches.

    Raises
    ------
    LaneError
        If the system can't start another thread.
    """

    def measure(n_workers: int, n_tasks: int, node: Callable[[Any], None]) -> float:
        return _find_least(
            lambda: _run(pool, Lane.THREADS, n_workers, n_tasks, node), process_time
        )

    batches_s = measure(1, N_BATCHES + 1, _do_nothing) - measure(1, 1, _do_nothing)
    threads_s = measure(N_THREADS, N_THREADS, _nap) - measure(1, 1, _nap)
    hand_off_s = batches_s / N_BATCHES
    return threads_s / (N_THREADS - 1) - hand_off_s, hand_off_s


def measure_batch_s(pool: WorkerPool) -> float:
    """Return what a worker process takes for a batch beside its tasks.

    In CPU seconds, between the end of a task and the beginning of the next. The tasks
    do something, else all that the worker needs would be at hand.

    Parameters
    ----------
    pool : WorkerPool
        With an idle worker.

    Raises
    ------
    AmorsizeError
        If it was lost.
    """
    times = sorted(_run(pool, Lane.PROCESSES, 1, N_BATCHES + 1, _work))
    gaps_s = [float(start - end) for (_, end), (start, _) in pairwise(times)]
    return median(gaps_s)


def _find_least(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Return the least that a call takes, of some, by a clock."""
    found = []
    for _ in range(N_ROUNDS):
        start = clock()
        call()
        found.append(clock() - start)
    return min(found)


def _run(
    pool: WorkerPool, lane: Lane, n_workers: int, n_tasks: int, node: Any
) -> list[Any]:
    """Run tasks each of which is a batch; return their results."""
    graph = Graph(
        dependencies=[()] * n_tasks,
        stage_of=[0] * n_tasks,
        n_stages=1,
        wanted=frozenset(range(n_tasks)),
    )
    tasks = TaskGraph(
        graph=graph,
        keys=list(range(n_tasks)),
        nodes=[node] * n_tasks,
        arguments=[()] * n_tasks,
        constants={},
        aliases={},
        stages=[""],
    )
    # As many workers as cores are started where nothing is known of the tasks.
    machine = Machine(
        n_cores=n_workers, n_physical_cores=n_workers, memory_bytes=MEMORY_BYTES
    )
    limits = Limits(lanes=(lane,), max_workers=n_workers, max_batch_size=1)
    scheduling = Scheduling(graph, machine, limits, n_warm=1)
    execution = Execution(tasks, scheduling, pool)
    execution.run()
    return [execution.store.values[task] for task in range(n_tasks)]


def _do_nothing(_: Any) -> None:
    """Stand for a task."""


def _nap(_: Any) -> None:
    sleep(NAP_S)


def _work(_: Any) -> tuple[float, float]:
    """Take a millisecond, and some of what a core has at hand; tell when that was."""
    start_s = thread_time()
    sorted(map(str, range(N_SORTED)))
    return start_s, thread_time()
