"""`execute`: call a function with all items, as fast as this machine can.

Little work is done before anything could be set up for it. So it begins right here, and
only what turns out to be more than that is handed to the scheduler. A first item that
takes long must not keep the other cores waiting: where items are few enough for that to
matter it is called in a thread beside this one, and the others are begun without it. A
function whose first call was short the last time is believed to be so again: a thread's
start is felt in work of a few milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from time import perf_counter
from typing import Any
from weakref import WeakSet

from amorsize_dask.arguments import (
    check_count,
    check_flag,
    check_function,
    check_max_workers,
    check_seconds,
)
from amorsize_dask.core.placement import MAX_WAITING_THREADS
from amorsize_dask.execute.stand_ins import call_each
from amorsize_dask.measure.global_random import seeds_globally
from amorsize_dask.planning.data import list_all
from amorsize_dask.planning.execution import run_all
from amorsize_dask.planning.head_start import begin_here
from amorsize_dask.planning.optimize import CHUNK_S, optimize
from amorsize_dask.planning.putting_together import find_machine
from amorsize_dask.planning.shared_state import SharedState
from amorsize_dask.scheduler import AmorsizeScheduler, check_scheduler

#: Items from which on one of them is too small a part of the work to be called in a
#: thread, even if they only wait, and `MAX_WAITING_THREADS` could wait at once.
#: Smaller: the machine may stand idle for one item; larger: of short items more pay for
#: a thread's start, 0.1 ms.
MANY_ITEMS = 20 * MAX_WAITING_THREADS

#: Seconds for which the first item is waited for. Smaller: the scheduler is set up for
#: work that would be done by then; larger: cores wait.
FIRST_S = 0.005

#: Functions whose first call took no longer than that, the last time.
_quick: WeakSet[Callable[[Any], Any]] = WeakSet()


def execute(
    func: Callable[[Any], Any],
    data: Iterable[Any],
    sample_size: int | None = None,
    target_chunk_duration: float = CHUNK_S,
    max_workers: int | None = None,
    respect_load: bool = False,
    verbose: bool = False,
    *,
    scheduler: AmorsizeScheduler | None = None,
) -> list[Any]:
    """Call a function with all items, in the best way, and return the results in order.

    Parameters
    ----------
    func : callable
        Called with each item, once.
    data : iterable
        Any that has an end.
    sample_size, target_chunk_duration : optional
        As for `optimize`, whose plan is told of if `verbose` is set; they don't matter
        otherwise, since this goes on measuring as long as it runs.
    max_workers : int, optional
        Most threads or processes, >= 1. By default as many as pay.
    respect_load : bool, optional
        Leave the cores alone that others keep busy.
    verbose : bool, optional
        Make a plan first, tell of it on stderr, and follow it.
    scheduler : AmorsizeScheduler, optional
        What runs it, by default the ready instance.

    Returns
    -------
    list

    Raises
    ------
    ArgumentError
        For arguments that can't be used, and for data that has no end as far as can be
        seen. Nothing has been called.
    BaseException
        What the function raises, as itself.

    Examples
    --------
    >>> execute(abs, [-1, -2, -3])
    [1, 2, 3]
    """
    check_function("func", func)
    max_workers = check_max_workers("max_workers", max_workers)
    respect_load = check_flag("respect_load", respect_load)
    if sample_size is not None:
        check_count("sample_size", sample_size, 1)
    check_seconds("target_chunk_duration", target_chunk_duration)
    scheduler = check_scheduler(scheduler)
    items = list_all(data)
    if verbose:
        plan = optimize(
            func,
            items,
            sample_size,
            target_chunk_duration,
            max_workers,
            respect_load,
            verbose=True,
            scheduler=scheduler,
        )
        return list(plan.compute(scheduler))
    if respect_load:
        n_free = find_machine(respect_load=True).n_cores
        max_workers = min(max_workers or n_free, n_free)
    return _run(func, items, scheduler, max_workers)


def _run(
    func: Callable[[Any], Any],
    items: Sequence[Any],
    scheduler: AmorsizeScheduler,
    max_workers: int | None,
) -> list[Any]:
    values: list[Any] = []
    first = None
    if 1 < len(items) < MANY_ITEMS:
        if _is_quick(func):
            start = perf_counter()
            values.append(func(items[0]))
            _note_first(func, perf_counter() - start)
        else:
            first = _start_first(func, items[0])
    if first is not None:
        start = perf_counter()
        first.join(FIRST_S)
        _note_first(func, perf_counter() - start)
        may_share = not seeds_globally(func)
        if first.is_alive() and may_share and not SharedState(func).names:
            others = run_all(scheduler, func, items[1:], max_workers=max_workers)
            return [first.result(), *others]
        values.append(first.result())
    begin_here(func, items, values, scheduler, max_workers)
    if len(values) < len(items) and _has_state(func, items, values):
        values += call_each(func, items[len(values) :])
    if len(values) < len(items):
        values += run_all(
            scheduler, func, items[len(values) :], max_workers=max_workers
        )
    return values


def _is_quick(func: Callable[[Any], Any]) -> bool:
    try:
        return func in _quick
    except TypeError:
        return False  # it has no hash, or can't be referred to weakly


def _note_first(func: Callable[[Any], Any], seconds: float) -> None:
    """Remember a function's first call, if that was short."""
    try:
        if seconds < FIRST_S:
            _quick.add(func)
        else:
            _quick.discard(func)
    except TypeError:
        pass


def _has_state(
    func: Callable[[Any], Any], items: Sequence[Any], values: list[Any]
) -> bool:
    """Whether calls change what others see; if that is possible one more is made."""
    state = SharedState(func)
    if not state.names:
        return False
    state.note_first_call()
    values.append(func(items[len(values)]))
    return state.describe_changes() is not None


def _start_first(func: Callable[[Any], Any], item: Any) -> _FirstCall | None:
    """Begin to call a function in a thread beside, if the system can start one."""
    first = _FirstCall(func, item)
    try:
        first.start()
    except RuntimeError:
        return None
    return first


class _FirstCall(threading.Thread):
    """A thread that calls a function once."""

    def __init__(self, func: Callable[[Any], Any], item: Any) -> None:
        context = copy_context()
        super().__init__(target=context.run, args=(self._call, func, item), daemon=True)
        self._value: Any = None
        self._error: BaseException | None = None

    def _call(self, func: Callable[[Any], Any], item: Any) -> None:
        try:
            self._value = func(item)
        except BaseException as error:
            # Whoever asks for the result raises it.
            self._error = error

    def result(self) -> Any:
        """Wait for what was returned."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._value
