"""How much of its time a task holds the GIL, seen from another thread.

A thread that sleeps must have the GIL to go on. If the task holds it, the sleeper asks
for it and gets it `sys.getswitchinterval()` later; if not, it wakes in time. So the
share of time by which short sleeps are late is the share in which the GIL is held.
"""

from __future__ import annotations

import sys

#: Seconds of one sleep. Smaller: the sleeper takes time from the task; larger: a task
#: of some milliseconds is over after a few looks.
WATCH_INTERVAL_S = 0.0005

#: Seconds by which a sleep is late though nobody holds the GIL: the timer's slack and a
#: switch of threads. Smaller: tasks that wait seem to hold it; larger: tasks that hold
#: it for moments only seem not to.
LATE_ANYWAY_S = 0.00015

#: Seconds of sleeps that make a measurement. Smaller: two late wake-ups by chance
#: decide; larger: short tasks are never measured.
MIN_WATCHED_S = 0.003


class GilWatch:
    """Adds up how late short sleeps wake."""

    def __init__(self) -> None:
        self._late_s = 0.0
        self._took_s = 0.0

    def note(self, asked_s: float, took_s: float) -> None:
        """Count a sleep that was to take `asked_s` seconds and took `took_s`."""
        self._late_s += max(0.0, took_s - asked_s - LATE_ANYWAY_S)
        self._took_s += took_s

    @property
    def gil_fraction(self) -> float | None:
        """Share of the time in which the GIL was held; ``None``: too short to tell.

        The sleeps themselves are never late, so a task that always holds the GIL is
        seen for ``switch / (switch + sleep)`` of the time; that is taken for 1.
        """
        if self._took_s < MIN_WATCHED_S:
            return None
        switch_s = sys.getswitchinterval()
        most = max(0.1, (switch_s - LATE_ANYWAY_S) / (switch_s + WATCH_INTERVAL_S))
        return min(1.0, self._late_s / self._took_s / most)
