"""A thread that calls are tried out in, watched from the one that asks for it.

It is what the scheduler's side thread is, without a run around it. Tried in the calling
thread, a call couldn't be seen to hold the GIL, nor be left when it takes long.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from contextvars import copy_context
from time import perf_counter, process_time, sleep
from typing import Any, Self

from amorsize_dask.core.events import SIDE
from amorsize_dask.execute.batch import BatchResult, Item
from amorsize_dask.execute.side import SideWatch
from amorsize_dask.execute.threads import Mailbox, ThreadWorker
from amorsize_dask.measure.gil import WATCH_INTERVAL_S


def call_all(func: Callable[[Any], Any], items: Sequence[Any], made: list[Any]) -> None:
    """Call a function with each item; what it made before it raises is kept.

    Parameters
    ----------
    func : callable
        What to call.
    items : sequence
        What to call it with.
    made : list
        An empty one, to which results are added.
    """
    made.extend(map(func, items))
    if len(made) < len(items):
        raise StopIteration  # which was taken for the end of the items


class Trial:
    """Calls a function with items in a thread of its own, and watches it.

    A context; the thread has ended when it is left, but for a call that is still
    running then, if that was left by an exception.

    Parameters
    ----------
    func : callable
        What to call.

    Raises
    ------
    RuntimeError
        If the system can't start another thread.
    """

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self._func = func
        self._mailbox = Mailbox()
        self._watch = SideWatch()
        try:
            self._thread = ThreadWorker(SIDE, self._mailbox, {}, copy_context())
        except RuntimeError:
            self._mailbox.close()
            raise
        self._start = self._start_cpu_s = 0.0
        #: Share of the last calls' time in which the GIL was held; ``None``: they were
        #: too short to tell.
        self.gil_fraction: float | None = None
        #: Cores that this process kept busy meanwhile, in the mean.
        self.n_busy_cores = 0.0

    def call(self, places: Sequence[int], items: Sequence[Any]) -> BatchResult:
        """Call the function with items, until it raises.

        Parameters
        ----------
        places : sequence of int
            The numbers that the outcomes go by.
        items : sequence
            As many items.
        """
        self.begin(places, items)
        result = self.wait()
        assert result is not None
        return result

    def call_other(self, func: Callable[[Any], Any], argument: Any) -> BatchResult:
        """Call another function once, in the same thread."""
        self._give([(0, _bind(func, argument), ())])
        result = self.wait()
        assert result is not None
        return result

    def begin_other(self, func: Callable[[Any], Any], argument: Any) -> None:
        """Begin to call another function once, without watching it."""
        self._give([(0, _bind(func, argument), ())], watched=False)

    def begin(self, places: Sequence[int], items: Sequence[Any]) -> None:
        """Begin to call the function with items."""
        self._give(
            [
                (place, _bind(self._func, item), ())
                for place, item in zip(places, items, strict=True)
            ]
        )

    def _give(self, tasks: list[Item], *, watched: bool = True) -> None:
        self._watch.begin(self._thread, watched=watched)
        self._start, self._start_cpu_s = perf_counter(), process_time()
        self._thread.give(tasks)

    def wait(self, timeout_s: float | None = None) -> BatchResult | None:
        """Wait for what was begun; return what came of it.

        ``None`` if it takes longer than `timeout_s` seconds; it goes on then.
        """
        while True:
            elapsed_s = perf_counter() - self._start
            if timeout_s is not None and elapsed_s > timeout_s:
                return None
            if self._watch.is_watching:
                start = perf_counter()
                if not self._has_mail(WATCH_INTERVAL_S):
                    self._watch.note_sleep(perf_counter() - start)
            else:
                self._has_mail(None if timeout_s is None else timeout_s - elapsed_s)
            for _, result in self._mailbox.take():
                seconds = perf_counter() - self._start
                self.n_busy_cores = (process_time() - self._start_cpu_s) / seconds
                self.gil_fraction = self._watch.end(result.outcomes)
                return result
            self._watch.glimpse()

    def _has_mail(self, timeout_s: float | None) -> bool:
        try:
            return bool(select.select([self._mailbox], [], [], timeout_s)[0])
        except ValueError:
            # Its descriptor is too large a number for select.
            sleep(WATCH_INTERVAL_S)
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._thread.stop()
            # A pool that is forked from here must not find the thread half alive.
            self._thread.join()
        elif issubclass(kind, KeyboardInterrupt | SystemExit):
            self._thread.interrupt()
        else:
            self._thread.cancel()
        self._mailbox.close()


def _bind(func: Callable[[Any], Any], item: Any) -> Callable[[Any], Any]:
    """Return a call as a task that needs no values of others."""
    return lambda _: func(item)
