"""Which lane, how many workers and which partitions suit what a sample has shown.

It is decided by the functions that place stages while a graph runs, so that a plan says
what the scheduler is going to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from amorsize_dask.core.model import Lane, Limits, Machine, Placement, Workload
from amorsize_dask.core.placement import GAIN_FRACTION, place
from amorsize_dask.core.placing import LITTLE_S

#: Seconds that a run takes before its first task and after its last one: the graph,
#: the record, what is joined. Smaller: runs of some milliseconds take longer than was
#: said; larger: they take less.
RUN_S = 0.002

#: Partitions for each worker, if items are many. Smaller: uneven ones end unevenly;
#: larger: each costs a scheduler some time.
PARTITIONS_A_WORKER = 16

#: Seconds below which a partition is too short: stock schedulers take up to 1 ms to
#: hand it out.
LEAST_PARTITION_S = 0.01

#: Bytes of results that a partition should have at most. Smaller: many partitions;
#: larger: memory is needed for a few of them at once.
PARTITION_BYTES = 64e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What suits some work here."""

    lane: Lane
    n_workers: int
    #: Seconds that it takes there, as predicted, and why that was chosen.
    predicted_s: float
    reason: str
    #: Seconds for each lane that may be used, with the workers that suit it best.
    lane_s: Mapping[Lane, float]


def choose_lane(
    workload: Workload,
    machine: Machine,
    limits: Limits,
    lanes: Sequence[Lane],
    *,
    n_warm: int = 0,
    n_inner_cores: float = 1.0,
) -> Choice:
    """Choose where to run what is left of some work.

    Parameters
    ----------
    workload : Workload
        The items that are left.
    machine : Machine
        The host.
    limits : Limits
        What the user allows.
    lanes : sequence of Lane
        Lanes that can be used, at least one, simplest first.
    n_warm : int, optional
        Worker processes that are up.
    n_inner_cores : float, optional
        Cores that a call keeps busy when it has the machine for itself. Where several
        run at once each has one of them.
    """
    loop_s = workload.n_tasks * workload.mean_s
    alone = replace(workload, mean_s=n_inner_cores * workload.mean_s)
    placements = {
        lane: place(
            workload if lane is Lane.INLINE else alone,
            machine,
            limits,
            lanes=(lane,),
            n_up={Lane.PROCESSES: n_warm},
        )
        for lane in lanes
    }
    lane_s = {lane: _seconds(placement) for lane, placement in placements.items()}
    best = lanes[0]
    if loop_s < LITTLE_S and best is Lane.INLINE:
        pass  # it would be done before sharing it out pays
    elif n_inner_cores > 1:
        for lane in placements:
            if lane_s[lane] < (1 - GAIN_FRACTION) * lane_s[best]:
                best = lane
    else:
        chosen = place(
            workload, machine, limits, lanes=lanes, n_up={Lane.PROCESSES: n_warm}
        )
        best = chosen.lane
        placements[best] = chosen
    return Choice(
        lane=best,
        n_workers=placements[best].n_workers,
        predicted_s=lane_s[best],
        reason=placements[best].reason,
        lane_s=lane_s,
    )


def choose_partitions(
    workload: Workload, n_workers: int, target_s: float
) -> tuple[int, int]:
    """Return how many items a partition should have, and how many partitions that is.

    Parameters
    ----------
    workload : Workload
        All items, each a task.
    n_workers : int
        Workers that are to share them.
    target_s : float
        Seconds that a partition should take at most.
    """
    n_items = workload.n_tasks
    mean_s = max(workload.mean_s, 1e-9)
    share = max(1, ceil(n_items / n_workers))
    size = ceil(n_items / (PARTITIONS_A_WORKER * n_workers))
    size = max(size, min(share, ceil(LEAST_PARTITION_S / mean_s)))
    most = min(n_items, target_s / mean_s, PARTITION_BYTES / max(1, workload.out_bytes))
    size = max(1, min(size, int(most)))
    return size, max(1, ceil(n_items / size))


def _seconds(placement: Placement) -> float:
    assert placement.predicted is not None
    return placement.predicted.makespan_s
