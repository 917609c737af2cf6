"""Which lane a stage runs in and with how many workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil

from amorsize_dask.core.budget import HIGH_WATER
from amorsize_dask.core.cost import predict, usable_cores
from amorsize_dask.core.model import (
    WAITING_FRACTION,
    Lane,
    Limits,
    Machine,
    Placement,
    Prediction,
    Workload,
)
from amorsize_dask.core.units import format_seconds

#: Share by which a more involved lane must be faster to be taken. Smaller: noise
#: starts processes for nothing; larger: speed is left lying.
GAIN_FRACTION = 0.05

#: Share by which more workers of a lane must be faster to be taken. Smaller: workers
#: that save microseconds take their memory all the same; larger: of 64 cores, some
#: have nothing to do.
WORKER_GAIN_FRACTION = 0.01

#: Most threads for tasks that wait. More threads than this gain little over it
#: (each costs its start and a stack) and strain servers and file descriptors.
MAX_WAITING_THREADS = 128

#: Rounds for which the exact number of workers is tried that ends them together.
#: Smaller: 50 tasks on 41 threads take two rounds, where 50 threads take one; larger:
#: more to compute for each placement, and less to gain, since a round is less of it.
MOST_ROUNDS = 8

#: Bytes that a worker process takes by itself, before any task. Measured: 30 MB
#: resident after boot, of which a third is shared with the process it was forked from.
WORKER_BYTES = 30_000_000


def place(
    workload: Workload,
    machine: Machine,
    limits: Limits,
    *,
    lanes: Iterable[Lane],
    n_up: Mapping[Lane, int] | None = None,
) -> Placement:
    """Choose the lane and the number of workers with the least predicted makespan.

    Within a lane the fewest workers that come within `WORKER_GAIN_FRACTION` of its
    best are taken, among those whose peaks fit into memory together; between lanes a
    simpler one wins unless a more involved one is faster by more than `GAIN_FRACTION`.
    Hence parallel is never chosen where it is predicted to be slower than inline (if
    inline is allowed), and within a lane more memory never means fewer workers.

    Parameters
    ----------
    workload : Workload
        The work that is left.
    machine : Machine
        The host and its costs.
    limits : Limits
        What the user allows.
    lanes : iterable of Lane
        Lanes to choose from, at least one; a subset of `limits.allowed_lanes`.
    n_up : mapping of Lane to int, optional
        Workers that are running already.

    Returns
    -------
    Placement
        With the prediction it rests on, and a reason for people.
    """
    n_up = n_up or {}
    allowed = [lane for lane in Lane if lane in set(lanes)]
    if machine.cluster is None and len(allowed) > 1:
        allowed = [lane for lane in allowed if lane is not Lane.CLUSTER]
    bests = [
        _best_in_lane(workload, machine, limits, lane, n_up.get(lane, 0))
        for lane in allowed
    ]
    best = bests[0]
    for other in bests[1:]:
        if other.makespan_s < (1 - GAIN_FRACTION) * best.makespan_s:
            best = other
    return Placement(
        lane=best.lane,
        n_workers=best.n_workers,
        n_most=_most_workers(workload, machine, limits, best.lane),
        predicted=best,
        reason=_explain(best, bests, workload),
    )


def place_unmeasured(
    machine: Machine, limits: Limits, lane: Lane, reason: str
) -> Placement:
    """Place a stage in the lane that is left for it, nothing being known of it."""
    n_workers = 1 if lane is Lane.INLINE else count_slots(machine, lane)
    if limits.max_workers is not None:
        n_workers = min(n_workers, limits.max_workers)
    return Placement(
        lane=lane,
        n_workers=n_workers,
        n_most=n_workers,
        predicted=None,
        reason=reason,
    )


def count_slots(machine: Machine, lane: Lane) -> int:
    """Return how many tasks that compute may run at once in a lane's workers."""
    if lane is Lane.CLUSTER and machine.cluster is not None:
        return machine.cluster.n_threads
    return machine.n_cores


def memory_ceiling(
    workload: Workload,
    machine: Machine,
    limits: Limits,
    lane: Lane,
    share: float = HIGH_WATER,
) -> int:
    """Return how many workers' peaks fit into memory together, at least 1.

    Into a share of it: by default the one up to which a run starts tasks.
    """
    held_bytes = max(workload.held_bytes, workload.out_bytes)
    if lane is Lane.CLUSTER and machine.cluster is not None:
        n_workers = machine.cluster.n_workers
        needed = max(1.0, workload.peak_bytes + held_bytes)
        return max(
            1, n_workers * int(machine.cluster.memory_bytes / n_workers / needed)
        )
    budget = limits.memory_limit_bytes
    if budget is None:
        budget = machine.memory_bytes
    needed = workload.peak_bytes + held_bytes
    needed += WORKER_BYTES if lane is Lane.PROCESSES else 0
    return max(1, int(share * budget / max(1.0, needed)))


def _best_in_lane(
    workload: Workload, machine: Machine, limits: Limits, lane: Lane, n_up: int
) -> Prediction:
    predictions = [
        predict(
            workload,
            machine,
            lane,
            n_workers,
            n_up=n_up,
            caller_helps=Lane.INLINE in limits.allowed_lanes,
            target_batch_s=limits.target_batch_s,
        )
        for n_workers in _worker_counts(workload, machine, limits, lane)
    ]
    good_s = min(p.makespan_s for p in predictions) / (1 - WORKER_GAIN_FRACTION)
    return next(p for p in predictions if p.makespan_s <= good_s)


def _worker_counts(
    workload: Workload, machine: Machine, limits: Limits, lane: Lane
) -> list[int]:
    if lane is Lane.INLINE:
        return [1]
    most = _most_workers(workload, machine, limits, lane)
    most = max(1, min(most, workload.n_tasks))
    # Every count up to the cores; beyond, where only waiting tasks go, those that do
    # all tasks in a few rounds, and steps of a quarter, since the makespan is flat
    # there. None depends on `most`: that is what makes the choice grow with memory.
    counts = set(range(1, machine.n_cores + 1))
    counts.update(ceil(workload.n_tasks / n) for n in range(1, MOST_ROUNDS + 1))
    if lane is Lane.CLUSTER:
        counts.add(count_slots(machine, lane))
    n = machine.n_cores
    while n < most:
        n += max(1, n // 4)
        counts.add(n)
    return sorted(n for n in counts if 1 <= n <= most)


def _most_workers(
    workload: Workload, machine: Machine, limits: Limits, lane: Lane
) -> int:
    """Return how many workers of a lane may run such tasks at once, at least 1."""
    if lane is Lane.INLINE:
        return 1
    most = usable_cores(workload, machine)
    if lane is Lane.CLUSTER:
        most = count_slots(machine, lane)
    if lane is Lane.THREADS and workload.cpu_fraction <= WAITING_FRACTION:
        most = max(most, MAX_WAITING_THREADS)
    if limits.max_workers is not None:
        most = min(most, limits.max_workers)
    return min(most, memory_ceiling(workload, machine, limits, lane))


def _explain(best: Prediction, bests: list[Prediction], workload: Workload) -> str:
    kind = "wait" if workload.cpu_fraction <= WAITING_FRACTION else "compute"
    if kind == "compute":
        kind += (
            " holding the GIL"
            if workload.gil_fraction > WAITING_FRACTION * workload.cpu_fraction
            else " without the GIL"
        )
    others = ", ".join(
        f"{p.lane} {format_seconds(p.makespan_s)}" for p in bests if p is not best
    )
    against = f" against {others}" if others else ""
    return (
        f"{workload.n_tasks} tasks of {format_seconds(workload.mean_s)} that {kind}: "
        f"{format_seconds(best.makespan_s)} predicted{against}"
    )
