"""Doing work here until it is clear that there is more of it than the caller should do.

Little work is done before anything could be set up for it. And where it is known that
no other lane is worth its costs, all of it is done here: a loop costs nothing beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter, thread_time
from typing import Any

from amorsize_dask.core.experience import Experience
from amorsize_dask.core.model import WAITING_FRACTION, Lane
from amorsize_dask.core.placing import LITTLE_S
from amorsize_dask.core.statistics import StageStatistics
from amorsize_dask.execute.recollection import recall_calls
from amorsize_dask.execute.stand_ins import call_each
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.planning.allowed import find_lanes, find_limits
from amorsize_dask.planning.choice import choose_lane
from amorsize_dask.planning.execution import called_by_pieces
from amorsize_dask.planning.sample import CHEAP_S
from amorsize_dask.scheduler import AmorsizeScheduler

#: Seconds of work that is done here before the rest is looked at. Smaller: a slow start
#: hands little work to the scheduler; larger: cores wait.
HERE_S = 0.004

#: Times that more items are called, at most, before the next look at the clock.
#: Smaller: many short items are looked at often; larger: one quick item decides.
MAX_GROWTH = 8

#: Times that items may take longer than is known, or than those that were looked at
#: last, before the rest is looked at anew. Smaller: noise does it; larger: work that
#: grows is noticed late.
DRIFT = 2.0

#: Share of the memory that results may take here, as far as is known. Smaller: of large
#: ones each takes a hand-over; larger: none is left to put some of them on disk.
ROOM_FRACTION = 0.5


def begin_here(
    func: Callable[[Any], Any],
    items: Sequence[Any],
    values: list[Any],
    scheduler: AmorsizeScheduler,
    max_workers: int | None = None,
    known: Experience | None = None,
) -> None:
    """Call the function here, with all items unless that is much work.

    Parameters
    ----------
    func : callable
        What to call.
    items : sequence
        All items.
    values : list
        The results so far, to which others are added.
    scheduler : AmorsizeScheduler
        What could do the rest.
    max_workers : int, optional
        Most threads or processes that it may use.
    known : Experience, optional
        What is known of the function; by default what earlier runs have shown.
    """
    n, n_items = 1, len(items)
    # Mean seconds of an item up to which this is known to be the best place.
    best_up_to_s = 0.0
    begin = start = perf_counter()
    cpu_start = thread_time()
    while len(values) < n_items:
        # Going through a slice is faster than through what an iterator has left.
        values += call_each(func, items[len(values) : len(values) + n])
        end, cpu_end = perf_counter(), thread_time()
        seconds, cpu_s = end - start, cpu_end - cpu_start
        is_waiting = cpu_s < WAITING_FRACTION * seconds
        # What computes would have taken no longer but for others on the machine.
        mean_s = max((seconds if is_waiting else cpu_s) / n, 1e-9)
        n_left = n_items - len(values)
        left_s = n_left * mean_s
        if (
            left_s > 2 * LITTLE_S
            and mean_s > max(CHEAP_S, best_up_to_s)
            and end - begin > HERE_S
            and (is_waiting or left_s > _boot_s(scheduler))
        ):
            known = known or recall_calls(called_by_pieces(func))
            if known is None or not _is_best_here(
                known, n_left, mean_s, scheduler, max_workers
            ):
                return
            best_up_to_s = DRIFT * mean_s
        n = max(1, min(MAX_GROWTH * n, int(HERE_S / mean_s), n_left))
        start, cpu_start = end, cpu_end


def _boot_s(scheduler: AmorsizeScheduler) -> float:
    """Seconds until worker processes could do anything: less than that is done here."""
    return 0.0 if scheduler.n_idle_workers else measure_machine().costs.boot_first_s


def _is_best_here(
    known: Experience,
    n_left: int,
    mean_s: float,
    scheduler: AmorsizeScheduler,
    max_workers: int | None,
) -> bool:
    """Whether the rest is best done here, by what is known and what items take now."""
    machine = measure_machine()
    limits = find_limits(scheduler, machine, max_workers)
    lanes = find_lanes(limits, may_send=True, is_alone=False)
    room_bytes = ROOM_FRACTION * (limits.memory_limit_bytes or machine.memory_bytes)
    if (
        Lane.INLINE not in lanes
        or mean_s > DRIFT * known.mean_s
        or known.gil_fraction is None
        or n_left * max(known.held_bytes, known.out_bytes) > room_bytes
    ):
        return False
    statistics = StageStatistics()
    statistics.recall(known)
    left = replace(statistics.workload(n_left), mean_s=mean_s)
    n_warm = scheduler.n_idle_workers
    return choose_lane(left, machine, limits, lanes, n_warm=n_warm).lane is Lane.INLINE
