"""Doing work here until it is clear that there is more of it than the caller should do.

Little work is done before anything could be set up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter, thread_time
from typing import Any

from amorsize_dask.core.placement import WAITING_FRACTION
from amorsize_dask.core.placing import LITTLE_S
from amorsize_dask.execute.stand_ins import call_each
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.planning.sample import CHEAP_S
from amorsize_dask.scheduler import AmorsizeScheduler

#: Seconds of work that is done here before the rest is looked at. Smaller: a slow start
#: hands little work to the scheduler; larger: cores wait.
HERE_S = 0.004

#: Times that more items are called, at most, before the next look at the clock.
#: Smaller: many short items are looked at often; larger: one quick item decides.
MAX_GROWTH = 8


def begin_here(
    func: Callable[[Any], Any],
    items: Sequence[Any],
    values: list[Any],
    scheduler: AmorsizeScheduler,
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
    """
    n, n_items = 1, len(items)
    begin = start = perf_counter()
    cpu_begin = thread_time()
    while len(values) < n_items:
        # Going through a slice is faster than through what an iterator has left.
        values += call_each(func, items[len(values) : len(values) + n])
        end = perf_counter()
        mean_s = max((end - start) / n, 1e-9)
        n_left = n_items - len(values)
        left_s = n_left * mean_s
        if left_s > 2 * LITTLE_S and mean_s > CHEAP_S and end - begin > HERE_S:
            is_waiting = thread_time() - cpu_begin < WAITING_FRACTION * (end - begin)
            if is_waiting or left_s > _boot_s(scheduler):
                return
        n = max(1, min(MAX_GROWTH * n, int(HERE_S / mean_s), n_left))
        start = end


def _boot_s(scheduler: AmorsizeScheduler) -> float:
    """Seconds until worker processes could do anything: less than that is done here."""
    return 0.0 if scheduler.n_idle_workers else measure_machine().costs.boot_first_s
