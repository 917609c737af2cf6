"""Looking at what the side thread is doing while it does it.

The loop sleeps in short steps meanwhile: how late it wakes tells how long the GIL is
held. A task that turns out to be long is known for what it is after some tens of
milliseconds, and doesn't hold the others back.
"""

from __future__ import annotations

from time import perf_counter

from amorsize_dask.core.events import Glimpse
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute.threads import ThreadWorker
from amorsize_dask.measure.clock import count_computing_s
from amorsize_dask.measure.gil import MIN_WATCHED_S, WATCH_INTERVAL_S, GilWatch

#: Seconds after which the core gets a first glimpse of a task that the side thread
#: runs; further ones when it has run twice as long as at the last. Smaller: the GIL
#: share rests on a few wake-ups; larger: the other cores wait for the first task.
GLIMPSE_S = 0.03


class SideWatch:
    """What is known of the batch that the side thread has in hand."""

    def __init__(self) -> None:
        self._is_busy = False
        self._watch: GilWatch | None = None
        self._thread: ThreadWorker | None = None
        self._start = 0.0
        self._use_at_start_s: tuple[float, float] | None = None
        self._next_s = GLIMPSE_S

    @property
    def is_watching(self) -> bool:
        """Whether to sleep in short steps that tell how long the GIL is held."""
        return self._is_busy and self._watch is not None and self._next_s == GLIMPSE_S

    def begin(self, thread: ThreadWorker, *, watched: bool) -> None:
        """Note that the thread is being given a batch."""
        self._is_busy = True
        self._watch = GilWatch() if watched else None
        self._thread = thread
        self._use_at_start_s = thread.read_use_s() if watched else None
        self._start = perf_counter()
        self._next_s = GLIMPSE_S

    def end(self, outcomes: list[Outcome]) -> float | None:
        """Note that the batch is done.

        Returns
        -------
        float or None
            The GIL share; ``None`` if the batch wasn't watched, or for too short.
        """
        # Not until now: it may have been done for a while.
        seconds = sum(outcome.seconds for outcome in outcomes)
        self._is_busy = False
        if self._watch is None or seconds < MIN_WATCHED_S:
            # What the sleeps have met was something else.
            return None
        return self._watch.gil_fraction

    def note_sleep(self, took_s: float) -> None:
        """Count a sleep of `WATCH_INTERVAL_S` that took this long."""
        if self._watch is not None and took_s >= WATCH_INTERVAL_S:
            self._watch.note(WATCH_INTERVAL_S, took_s)

    def timeout_s(self) -> float | None:
        """Return the seconds until the next glimpse is due."""
        if not self._is_busy:
            return None
        return max(0.0, self._start + self._next_s - perf_counter())

    def glimpse(self) -> Glimpse | None:
        """Return what is to be seen of the batch, if that is due."""
        seconds = perf_counter() - self._start
        if not self._is_busy or seconds < self._next_s:
            return None
        self._next_s = 2 * seconds
        cpu_fraction = self._cpu_fraction(seconds)
        gil_fraction = None if self._watch is None else self._watch.gil_fraction
        return Glimpse(
            seconds, 1.0 if cpu_fraction is None else cpu_fraction, gil_fraction
        )

    def _cpu_fraction(self, seconds: float) -> float | None:
        if self._use_at_start_s is None or self._thread is None or not seconds:
            return None
        use_s = self._thread.read_use_s()
        if use_s is None:
            return None
        cpu_s, delay_s = (
            b - a for a, b in zip(self._use_at_start_s, use_s, strict=True)
        )
        return count_computing_s(seconds, cpu_s, delay_s) / seconds
