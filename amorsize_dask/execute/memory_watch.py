"""What the machine has left, and the caller keeps, looked at now and then in a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.events import CallerGrown, Event, MemoryLeft
from amorsize_dask.measure.memory import available_memory

#: Seconds between two looks. Smaller: a dozen files are read more often than others
#: take or free much; larger: much is started that no longer has room.
LOOK_S = 0.5


class MemoryWatch:
    """Says every `LOOK_S` seconds what is left, and what the caller keeps.

    The latter is noted as well whenever the caller has run tasks, but when only others
    have any it may take memory for what they send it, and give it back.

    Parameters
    ----------
    budget : Budget
        What is told of it.
    margin_bytes : int or None
        Of what is left the bytes that the run doesn't take. ``None``: it doesn't go by
        what is left, since the user has set a limit.
    measure_growth : callable
        Returns the bytes that the caller has more than in the beginning.
    look : callable, optional
        Returns the bytes that are left.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        margin_bytes: int | None,
        measure_growth: Callable[[], int],
        look: Callable[[], int] = available_memory,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._budget = budget
        self._margin_bytes = margin_bytes
        self._measure_growth = measure_growth
        self._look = look
        self._clock = clock
        self._next_s = clock() + LOOK_S

    def seconds_left(self) -> float | None:
        """Return the seconds until a look that can't wait for anything else, >= 0.

        Others may give back what they have taken, or the caller what it keeps, and
        nothing else may be going on; ``None``: there is nothing to give back.
        """
        is_lowered = self._margin_bytes is not None and self._budget.is_lowered
        if not (is_lowered or self._budget.caller_grown_bytes):
            return None
        return max(0.0, self._next_s - self._clock())

    def take(self) -> list[Event]:
        """Look if it is time, and return what is to be told of it.

        Where no descriptor is left to look with, it is told at a later time.
        """
        now = self._clock()
        if now < self._next_s:
            return []
        self._next_s = now + LOOK_S
        events: list[Event] = []
        grown_bytes = self._measure_growth()
        if grown_bytes or self._budget.caller_grown_bytes:
            events.append(CallerGrown(grown_bytes))
        if self._margin_bytes is not None:
            with suppress(OSError):
                events.append(MemoryLeft(max(0, self._look() - self._margin_bytes)))
        return events
