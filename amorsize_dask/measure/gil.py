"""How much of its time a task holds the GIL, seen from another thread.

A thread that sleeps must have the GIL to go on. If the task holds it, the sleeper asks
for it and gets it `sys.getswitchinterval()` later; if not, it wakes in time. So the
share of time by which short sleeps are late is the share in which the GIL is held.

Sleeps are late for two other reasons. Timers are, by a little, everywhere. And where
other processes keep the cores busy, a thread that has slept waits for one: on two busy
cores a task that never holds the GIL would seem to hold it half of the time. Linux
counts that wait, and it is taken off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from threading import get_native_id
from time import perf_counter

from amorsize_dask.measure.clock import read_run_delay_s

#: Seconds of one sleep. Smaller: the sleeper takes time from the task; larger: a task
#: of some milliseconds is over after a few looks.
WATCH_INTERVAL_S = 0.0005

#: Seconds by which a sleep is late though nobody holds the GIL: the timer's slack and
#: waking up; 50 to 100 µs on Linux. Smaller: tasks that wait seem to hold it; larger:
#: tasks that hold it for moments only seem not to.
LATE_ANYWAY_S = 0.00015

#: Seconds of sleeps that make a measurement: six sleeps in time, or one that the GIL
#: held up. Smaller: two late wake-ups by chance decide; larger: short tasks are never
#: measured.
MIN_WATCHED_S = 0.003

#: Seconds of the switch interval below which a late sleep tells nothing. Smaller: noise
#: is taken for the GIL; larger: who has set a short interval gets no measurement.
MIN_SWITCH_S = 4 * LATE_ANYWAY_S


class GilWatch:
    """Adds up how late short sleeps wake.

    To be made in the thread that sleeps, just before the task starts.

    Parameters
    ----------
    read_delay_s : callable, optional
        Returns the seconds so far in which the sleeping thread waited for a core; what
        Linux says of the calling thread by default.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(
        self,
        read_delay_s: Callable[[], float] | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._read_delay_s = read_delay_s or partial(read_run_delay_s, get_native_id())
        self._clock = clock
        self._n_noted = 0
        self._asked_s = 0.0
        self._took_s = 0.0
        self._late_s = 0.0
        self._start = clock()
        self._delay_at_start_s = self._read_delay_s()
        # Seconds without a core during the sleeps, as of the first so many of them.
        self._delay_s = 0.0
        self._n_known = 0

    def note(self, asked_s: float, took_s: float) -> None:
        """Count a sleep that was to take `asked_s` seconds and took `took_s`.

        Costs less than a microsecond. A sleep that something else has ended is none.
        """
        self._n_noted += 1
        self._asked_s += asked_s
        self._took_s += took_s
        late_s = took_s - asked_s - LATE_ANYWAY_S
        if late_s > 0:
            self._late_s += late_s

    @property
    def gil_fraction(self) -> float | None:
        """Share of the time in which the GIL was held; ``None``: can't be told.

        That is so below `MIN_WATCHED_S` seconds of sleeps, or if the switch interval is
        too short. The sleeps themselves are never late, so a task that always holds the
        GIL is seen for ``switch / (switch + sleep)`` of the time; that is taken for 1.
        """
        switch_s = sys.getswitchinterval()
        if self._took_s < MIN_WATCHED_S or switch_s < MIN_SWITCH_S:
            return None
        if self._n_known < self._n_noted:
            # Once for all sleeps: reading lets go of the GIL, so for each of them it
            # would take as long as another one.
            self._delay_s = self._delay_while_noted_s()
            self._n_known = self._n_noted
        watched_s = self._took_s - self._delay_s
        if watched_s <= 0:
            return 0.0
        sleep_s = self._asked_s / self._n_noted
        most = (switch_s - LATE_ANYWAY_S) / (switch_s + sleep_s)
        seen = (self._late_s - self._delay_s) / watched_s
        return min(1.0, max(0.0, seen / most))

    def _delay_while_noted_s(self) -> float:
        """Seconds for which the sleeper had no core, as far as in sleeps noted."""
        delay_s = self._read_delay_s() - self._delay_at_start_s
        elapsed_s = self._clock() - self._start
        share = min(1.0, self._took_s / elapsed_s) if elapsed_s > 0 else 1.0
        return share * delay_s
