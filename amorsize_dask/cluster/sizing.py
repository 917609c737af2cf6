"""How many workers with how many threads a Dask cluster on one machine should have.

Decides by plain numbers, as the core does, and with its words for cores and memory. A
cluster has one shape for all its stages, w worker processes of t threads each, so each
shape is judged by what all stages take with it, one after the other. With the symbols
of `core.cost`, x being bytes over bytes per second::

    stage(w, t) = max( rounds(R, w t, t_task + x),     w t at once
                       R t_task g (1 + h) / w,         one GIL in each process
                       R t_task c / P )                P cores

Results that have no room beside running tasks go to disk and come back, which takes
twice their bytes over the same bytes per second.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from amorsize_dask.core.cost import rounds_s, usable_cores
from amorsize_dask.core.model import (
    GIL_HANDOVER,
    WAITING_FRACTION,
    Limits,
    Machine,
    Workload,
)
from amorsize_dask.core.placement import (
    MAX_WAITING_THREADS,
    MOST_ROUNDS,
    WORKER_GAIN_FRACTION,
)

#: Bytes that a worker process of a cluster takes before any task: 65 MB when it has
#: just started, and what libraries add. Smaller: of many workers the last has no room;
#: larger: small machines get fewer workers than would fit.
DISTRIBUTED_WORKER_BYTES = 100_000_000

#: Share of the available memory that is left to the calling process, which holds the
#: scheduler and takes the results. Smaller: large results push the workers out; larger:
#: tasks that would have fit wait.
RESERVE_FRACTION = 0.1

#: Least share of the time in which tasks are taken to hold the GIL that compute and
#: share a process, since less can't be measured. Smaller: a process on 64 cores gets 64
#: threads that turn out to wait for each other; larger: processes that nobody needs.
LEAST_GIL_FRACTION = 0.03

#: Share of the time for which the GIL of the calling process may be taken by tasks that
#: run there. Smaller: tasks of NumPy go to a process of their own, and their results
#: through sockets; larger: the scheduler, which is there as well, answers late.
CALLER_GIL_FRACTION = 0.5

#: Share of the memory that tasks and results in the calling process may take. Smaller:
#: see above; larger: memory that runs out takes the caller with it.
CALLER_MEMORY_FRACTION = 0.25

#: Dask's own thresholds, as shares of a worker's limit: where results go to disk by
#: their own sizes and by that of the process, where nothing new is started, and where
#: the worker is killed.
DASK_TARGET, DASK_SPILL, DASK_PAUSE, DASK_TERMINATE = 0.6, 0.7, 0.8, 0.95

#: Shares of the same for workers whose tasks take much of the limit. A peak that passes
#: is no reason to spill or to wait, so these lie as high as `DASK_TERMINATE` allows:
#: whoever is found above it, every tenth of a second, is killed.
PEAK_SPILL, PEAK_PAUSE = 0.85, 0.9

#: Least limit of a worker process: with less it would pause for good, or be killed as
#: soon as it is up.
LEAST_LIMIT_BYTES = int(DISTRIBUTED_WORKER_BYTES / DASK_SPILL)

#: Least share of the limit at which results go to disk. Smaller: every result does.
LEAST_TARGET = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """At which shares of its limit a worker spills by results, spills, and pauses."""

    target: float
    spill: float
    pause: float


#: What a worker has if it isn't told otherwise.
DASK_THRESHOLDS = Thresholds(target=DASK_TARGET, spill=DASK_SPILL, pause=DASK_PAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a cluster has to do and where: measured, nothing decided yet."""

    #: The work, stage by stage; at least one.
    stages: tuple[Workload, ...]
    machine: Machine
    limits: Limits
    #: Bytes of all results that are held until the end.
    held_bytes: float = 0.0
    #: Resident bytes of the calling process.
    caller_bytes: int = 0
    #: Whether workers are to be processes; ``None``: that is to be decided.
    processes: bool | None = None

    @property
    def budget_bytes(self) -> int:
        """Bytes for all workers together."""
        if self.limits.memory_limit_bytes is not None:
            return self.limits.memory_limit_bytes
        whole = self.machine.memory_bytes
        # The caller gets a copy of the results, while workers have them still.
        kept = max(RESERVE_FRACTION * whole, min(self.held_bytes, whole / 2))
        return max(1, int(whole - kept))

    @property
    def task_bytes(self) -> float:
        """Bytes that the largest task takes while it runs, arguments and result too."""
        return max(s.peak_bytes + s.in_bytes + s.out_bytes for s in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSize:
    """What was chosen."""

    n_workers: int
    threads_per_worker: int
    #: Whether workers are processes, or threads of the calling one.
    processes: bool
    #: Of each worker.
    memory_limit_bytes: int
    thresholds: Thresholds
    #: Threads that libraries may use inside of a task.
    n_inner_threads: int
    #: Seconds that the stages are predicted to take, without starting the cluster.
    predicted_s: float
    #: Whether tasks at their peaks fit into memory.
    fits: bool


def choose_size(needs: Needs) -> ClusterSize:
    """Choose the shape that is predicted to be fastest among those that fit.

    Of shapes that are within `WORKER_GAIN_FRACTION` of the fastest it takes the fewest
    processes, then the fewest threads. Workers run in the calling process where one
    worker will do, its tasks leave the GIL alone and take little memory: then nothing
    is started, and no result is sent anywhere.
    """
    shapes = {shape: predict_s(needs, *shape) for shape in _find_shapes(needs)}
    good_s = min(shapes.values()) / (1 - WORKER_GAIN_FRACTION)
    n_workers, n_threads = next(s for s in sorted(shapes) if shapes[s] <= good_s)
    processes = needs.processes
    if processes is None:
        processes = not _may_share_caller(needs, n_workers, n_threads)
    limit_bytes = needs.budget_bytes // n_workers
    if processes:
        limit_bytes = max(limit_bytes, LEAST_LIMIT_BYTES)
    else:
        # What the worker sees of itself is the whole process.
        limit_bytes += needs.caller_bytes
    base_bytes = DISTRIBUTED_WORKER_BYTES if processes else needs.caller_bytes
    n_at_once = n_workers * n_threads
    return ClusterSize(
        n_workers=n_workers,
        threads_per_worker=n_threads,
        processes=processes,
        memory_limit_bytes=limit_bytes,
        thresholds=choose_thresholds(
            base_bytes,
            n_threads * needs.task_bytes,
            needs.held_bytes,
            limit_bytes,
        ),
        n_inner_threads=max(1, needs.machine.n_physical_cores // n_at_once),
        predicted_s=shapes[n_workers, n_threads],
        fits=_fits(needs, n_workers, n_threads),
    )


def choose_thresholds(
    base_bytes: float, running_bytes: float, held_bytes: float, limit_bytes: float
) -> Thresholds:
    """Return thresholds that leave room for tasks at their peaks, and for results.

    Parameters
    ----------
    base_bytes : float
        What the process takes without any task.
    running_bytes : float
        What the tasks take that run at once.
    held_bytes : float
        What all results take: in the end they may all come together in one worker.
    limit_bytes : float
        The worker's limit, > 0.
    """
    is_light = running_bytes <= (DASK_SPILL - DASK_TARGET) * limit_bytes
    if is_light and base_bytes + held_bytes <= DASK_TARGET * limit_bytes:
        return DASK_THRESHOLDS
    target = PEAK_SPILL - (base_bytes + running_bytes) / limit_bytes
    target = round(max(LEAST_TARGET, target), 3)
    return Thresholds(target=target, spill=PEAK_SPILL, pause=PEAK_PAUSE)


def predict_s(needs: Needs, n_workers: int, n_threads: int) -> float:
    """Seconds for all stages, one after the other, the cluster being up."""
    machine = needs.machine
    spilled_bytes = _spilled_bytes(needs, n_workers, n_threads)
    return 2 * spilled_bytes / machine.costs.bytes_per_s + sum(
        _predict_stage_s(stage, machine, n_workers, n_threads) for stage in needs.stages
    )


def _predict_stage_s(
    stage: Workload, machine: Machine, n_workers: int, n_threads: int
) -> float:
    n, mean_s = stage.n_tasks, stage.mean_s
    move_s = (stage.in_bytes + stage.out_bytes) / machine.costs.bytes_per_s
    return max(
        rounds_s(n, n_workers * n_threads, mean_s + move_s, stage.std_s),
        n * mean_s * _gil_load(stage, n_threads) / n_workers,
        n * mean_s * stage.cpu_fraction / usable_cores(stage, machine),
    )


def _gil_load(stage: Workload, n_threads: int) -> float:
    """Share of its seconds for which a task keeps others from their common GIL."""
    if n_threads == 1:
        return stage.gil_fraction
    held = stage.gil_fraction
    if not is_waiting(stage):
        held = max(held, LEAST_GIL_FRACTION)
    return held * (1 + GIL_HANDOVER)


def is_waiting(stage: Workload) -> bool:
    """Whether tasks wait most of their time."""
    return stage.cpu_fraction <= WAITING_FRACTION


def _find_shapes(needs: Needs) -> list[tuple[int, int]]:
    """Return numbers of processes, and of threads of each, that fit; or the least."""
    found = {
        (n_workers, n // n_workers)
        for n in _counts_at_once(needs)
        for n_workers in _process_counts(needs, n)
    }
    return [shape for shape in found if _fits(needs, *shape)] or [(1, 1)]


def _counts_at_once(needs: Needs) -> set[int]:
    """Return how many tasks might run at once, in the way of `core.placement`."""
    n_cores = needs.machine.n_cores
    most = max(_most_at_once(stage, needs) for stage in needs.stages)
    counts = set(range(1, n_cores + 1))
    for stage in needs.stages:
        counts.update(ceil(stage.n_tasks / n) for n in range(1, MOST_ROUNDS + 1))
    n = n_cores
    while n < most:
        n += max(1, n // 4)
        counts.add(n)
    counts.add(most)
    if needs.limits.max_workers is not None:
        most = min(most, needs.limits.max_workers)
    return {n for n in counts if 1 <= n <= most} or {1}


def _most_at_once(stage: Workload, needs: Needs) -> int:
    most = usable_cores(stage, needs.machine)
    if is_waiting(stage):
        most = max(most, MAX_WAITING_THREADS)
    return max(1, min(most, stage.n_tasks))


def _process_counts(needs: Needs, n_at_once: int) -> list[int]:
    """Return how many processes so many tasks at once may be spread over, evenly."""
    if needs.processes is False:
        return [1]
    most = min(n_at_once, needs.machine.n_cores)
    return [n for n in range(1, most + 1) if n_at_once % n == 0]


def _fits(needs: Needs, n_workers: int, n_threads: int) -> bool:
    """Whether all tasks that run at once do so below the point where workers pause."""
    room = PEAK_SPILL * needs.budget_bytes / n_workers
    return _own_bytes(needs) + n_threads * needs.task_bytes <= room


def _spilled_bytes(needs: Needs, n_workers: int, n_threads: int) -> float:
    """Bytes of results that have no room, in each of the workers they are spread over.

    Or in the one of them where Dask puts together those of a bag, when nothing else
    runs any more.
    """
    room = PEAK_SPILL * needs.budget_bytes / n_workers - _own_bytes(needs)
    room_beside = max(0.0, room - n_threads * needs.task_bytes)
    spread = needs.held_bytes / n_workers - room_beside
    return max(0.0, spread, needs.held_bytes - max(0.0, room))


def _own_bytes(needs: Needs) -> int:
    return 0 if needs.processes is False else DISTRIBUTED_WORKER_BYTES


def _may_share_caller(needs: Needs, n_workers: int, n_threads: int) -> bool:
    if n_workers > 1 or n_threads == 1:
        return False
    gil_s = sum(s.n_tasks * s.mean_s * s.gil_fraction for s in needs.stages)
    if gil_s > CALLER_GIL_FRACTION * predict_s(needs, n_workers, n_threads):
        return False
    own_bytes = n_threads * needs.task_bytes + needs.held_bytes
    if own_bytes > CALLER_MEMORY_FRACTION * needs.budget_bytes:
        return False
    # The worker's thresholds look at the whole process, whatever it has of its own.
    limit_bytes = needs.caller_bytes + needs.budget_bytes
    return needs.caller_bytes + own_bytes <= DASK_TARGET * limit_bytes
