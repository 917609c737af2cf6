"""What the machine has left while a run goes on, looked at now and then."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.events import Event, MemoryLeft
from amorsize_dask.measure.memory import available_memory

#: Seconds between two looks. Smaller: a dozen files are read more often than others
#: take or free much; larger: much is started that no longer has room.
LOOK_S = 0.5


class MemoryWatch:
    """Says every `LOOK_S` seconds what is left, if a run goes by that.

    Parameters
    ----------
    budget : Budget
        What is told of it.
    is_on : bool
        Whether the run goes by that; with a limit of the user's it doesn't.
    look : callable, optional
        Returns the bytes that are left.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        is_on: bool,
        look: Callable[[], int] = available_memory,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._budget = budget
        self._is_on = is_on
        self._look = look
        self._clock = clock
        self._next_s = clock() + LOOK_S

    def seconds_left(self) -> float | None:
        """Return the seconds until a look that can't wait for anything else, >= 0.

        Others may give back what they have taken, and nothing else may be going on;
        ``None``: they have taken nothing.
        """
        if not (self._is_on and self._budget.is_lowered):
            return None
        return max(0.0, self._next_s - self._clock())

    def take(self) -> list[Event]:
        """Look if it is time, and return what is to be told of it.

        Where no descriptor is left to look with, it is told at a later time.
        """
        now = self._clock()
        if not self._is_on or now < self._next_s:
            return []
        self._next_s = now + LOOK_S
        try:
            return [MemoryLeft(self._look())]
        except OSError:
            return []
