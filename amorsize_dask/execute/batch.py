"""Running the tasks of a batch, wherever that is, and measuring them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, thread_time
from typing import Any

from amorsize_dask.core.events import Outcome
from amorsize_dask.measure.clock import count_waits
from amorsize_dask.measure.memory import read_peak_rss

#: What a task is for a batch: its number, what runs it, and the keys of its arguments.
Item = tuple[int, Callable[[Mapping[Any, Any]], Any], Sequence[Any]]


@dataclass(slots=True)
class BatchResult:
    """What came of a batch: outcomes and values, in the order of the tasks."""

    outcomes: list[Outcome] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    #: The task that raised, and what; the tasks after it were not run.
    failure: tuple[int, BaseException] | None = None


def run_batch(
    items: Sequence[Item],
    values: Mapping[Any, Any],
    is_cancelled: Callable[[], bool] | None = None,
) -> BatchResult:
    """Run tasks one after the other, until one raises.

    Parameters
    ----------
    items : sequence of Item
        The tasks; none may depend on another one of them.
    values : mapping of key to value
        Where the arguments are found.
    is_cancelled : callable, optional
        Asked before each task; True ends the batch early.

    Returns
    -------
    BatchResult
        Each outcome with wall and CPU seconds, the latter including what the thread
        had to wait for a core where that is known; the last one also with the growth
        of the process's memory peak during the batch, where there was any.
    """
    result = BatchResult()
    outcomes, collected = result.outcomes, result.values
    peak_before, waits_before = read_peak_rss(), count_waits()
    start, cpu_start = perf_counter(), thread_time()
    for task, node, keys in items:
        if is_cancelled is not None and is_cancelled():
            break
        try:
            collected.append(node({key: values[key] for key in keys}))
        except BaseException as error:
            # Even KeyboardInterrupt and SystemExit: the loop raises them.
            result.failure = (task, error)
            break
        end, cpu_end = perf_counter(), thread_time()
        outcomes.append(Outcome(task, end - start, cpu_end - cpu_start))
        start, cpu_start = end, cpu_end
    if waits_before is not None and count_waits() == waits_before:
        # The thread has not waited once: what it lacks in CPU time it had no core for.
        outcomes[:] = [outcome._replace(cpu_s=outcome.seconds) for outcome in outcomes]
    growth = read_peak_rss() - peak_before
    if growth > 0 and outcomes:
        outcomes[-1] = outcomes[-1]._replace(peak_bytes=growth)
    return result
