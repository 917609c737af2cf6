"""Running the tasks of a batch, wherever that is, and measuring them."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter, thread_time
from typing import Any, NoReturn

from amorsize_dask.core.outcome import Outcome
from amorsize_dask.measure.clock import RunDelay, count_computing_s
from amorsize_dask.measure.rss import read_peak_rss, read_rss

#: Seconds of a task below which the next ones are timed together: the clocks cost more
#: than a microsecond. Smaller: they are a large part of what short tasks cost; larger:
#: of tasks that differ only their mean is seen.
SHORT_S = 20e-6

#: Most tasks that are timed together. Smaller: the clocks cost more; larger: a long
#: task among short ones is taken for many that are a bit longer.
MAX_TOGETHER = 32

#: What a task is for a batch: its number, what runs it, and the keys of its arguments.
Item = tuple[int, Callable[[Mapping[Any, Any]], Any], Sequence[Any]]


class _LeftOut(threading.local):
    """Seconds of this thread that don't count as a task's."""

    seconds = 0.0
    cpu_s = 0.0


_left_out = _LeftOut()


def leave_out(seconds: float, cpu_s: float) -> None:
    """Take note that the task of this thread has just taken that for other ones."""
    _left_out.seconds += seconds
    _left_out.cpu_s += cpu_s


class BatchResult:
    """What came of a batch: outcomes and values, in the order of the tasks."""

    __slots__ = ("failure", "links", "outcomes", "values")

    def __init__(
        self, outcomes: list[Outcome] | None = None, values: list[Any] | None = None
    ) -> None:
        self.outcomes = outcomes or []
        self.values = values or []
        #: The task that raised, and what; the tasks after it were not run.
        self.failure: tuple[int, BaseException] | None = None
        #: What the links of chains took; see `fused.links_measured`.
        self.links: list[list[tuple[float, float]]] = []


def run_batch(
    items: Sequence[Item],
    values: Mapping[Any, Any],
    delay: RunDelay,
    is_cancelled: Callable[[], bool] | None = None,
) -> BatchResult:
    """Run tasks one after the other, until one raises.

    Parameters
    ----------
    items : sequence of Item
        The tasks; none may depend on another one of them.
    values : mapping of key to value
        Where the arguments are found.
    delay : RunDelay
        The calling thread's.
    is_cancelled : callable, optional
        Asked before each task; True ends the batch early.

    Returns
    -------
    BatchResult
        Each outcome with wall and CPU seconds, those without a core in both, as if the
        task had gone on in them as it does; where tasks are short, their mean over
        several;
        the last one also with what the batch took and gave back, its peak above what is
        left, if that raised the peak of the process.
    """
    result = BatchResult()
    n_forks = _n_forks
    collected = result.values
    # Tasks that were timed together, and the seconds and CPU seconds of each.
    timed: list[tuple[int, float, float]] = []
    peak_before, delay_before_s = read_peak_rss(), delay.read_s()
    start, cpu_start = perf_counter(), thread_time()
    n_done, n_together = 0, 1
    while n_done < len(items):
        group = items[n_done : n_done + n_together]
        for task, node, keys in group:
            if is_cancelled is not None and is_cancelled():
                break
            try:
                arguments = {key: values[key] for key in keys} if keys else {}
                collected.append(node(arguments))
            except BaseException as error:
                if _n_forks != n_forks:
                    _end_fork(error)
                # Even KeyboardInterrupt and SystemExit: the loop raises them.
                result.failure = (task, error)
                break
            if _n_forks != n_forks:
                _end_fork(None)
        end, cpu_end = perf_counter(), thread_time()
        n = len(collected) - n_done
        if _left_out.seconds:
            start, cpu_start = start + _left_out.seconds, cpu_start + _left_out.cpu_s
            _left_out.seconds = _left_out.cpu_s = 0.0
        if n:
            share_s = (end - start) / n
            timed.append((n, share_s, (cpu_end - cpu_start) / n))
            n_together = _choose_n_together(n_together, share_s)
        if n < len(group):
            break
        n_done += n
        start, cpu_start = end, cpu_end
    outcomes = _make_outcomes(items, timed, delay.read_s() - delay_before_s)
    peak = read_peak_rss()
    if peak > peak_before and outcomes:
        # Results are still there and counted as such, and what was imported stays.
        passing = max(0, peak - read_rss())
        outcomes[-1] = outcomes[-1]._replace(peak_bytes=passing)
    result.outcomes = outcomes
    return result


#: How often this process or one that it came from has been forked.
_n_forks = 0


def _count_fork() -> None:
    global _n_forks
    _n_forks += 1


if hasattr(os, "register_at_fork"):
    # Asking for the process's number after each task would take longer.
    os.register_at_fork(after_in_child=_count_fork)


def _end_fork(error: BaseException | None) -> NoReturn:
    """End a process that a task has forked and that has come back from it.

    It would go on with a copy of the run, and answer in its parent's place.
    """
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else bool(error.code)
    elif error is not None:
        status = 1
        traceback.print_exception(error)
    flush()
    os._exit(status)


def flush() -> None:
    """Write out what tasks have printed: a worker may be killed at any time."""
    for stream in (sys.stdout, sys.stderr):
        # There may be none, or a task has closed it or put something else there, or no
        # one reads it any more.
        with suppress(Exception):
            stream.flush()


def _choose_n_together(n: int, mean_s: float) -> int:
    """Return how many of the next tasks to time as one."""
    if mean_s > SHORT_S:
        return 1
    return min(2 * n, MAX_TOGETHER)


def _make_outcomes(
    items: Sequence[Item], timed: Sequence[tuple[int, float, float]], delay_s: float
) -> list[Outcome]:
    """Return the outcomes of tasks that were run.

    The time without a core is theirs in proportion to what each didn't compute in.
    """
    lacking_s = sum(n * max(0.0, seconds - cpu_s) for n, seconds, cpu_s in timed)
    fraction = min(1.0, max(0.0, delay_s) / lacking_s) if lacking_s else 0.0
    outcomes: list[Outcome] = []
    for n, seconds, cpu_s in timed:
        start = len(outcomes)
        delay_s = fraction * max(0.0, seconds - cpu_s)
        full_s = count_computing_s(seconds, cpu_s, delay_s)
        outcomes += [
            Outcome(task, seconds, full_s) for task, _, _ in items[start : start + n]
        ]
    return outcomes
