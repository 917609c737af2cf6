"""How much of a task's time is due to others that want the GIL as well."""

from __future__ import annotations

from math import inf

#: Seconds of a task of an open graph below which it is taken to compute all the time
#: that it has the GIL, if no one has watched one. Smaller: one that had to wait for the
#: GIL once seems to wait for something else; larger: what waits for something else
#: seems to be short. In other graphs all are taken so: one task at least has run alone
#: there, and those that wait for the GIL, or for a lock, would get ever more threads if
#: they seemed to wait for something else, each with its memory.
UNWATCHED_S = 0.005


class Crowding:
    """Tells what tasks of a stage wait for others from what they wait by themselves.

    Parameters
    ----------
    unwatched_s : float, optional
        Seconds below which a task is taken to compute all the time that it has the GIL,
        as long as none was watched.
    """

    __slots__ = ("_alone_cpu_fraction", "_unwatched_s")

    def __init__(self, unwatched_s: float = inf) -> None:
        self._unwatched_s = unwatched_s
        # Of the time in which others didn't hold the GIL, the share in which a task
        # computed while it was watched, if one was.
        self._alone_cpu_fraction: float | None = None

    def watch(self, gil_fraction: float, cpu_fraction: float) -> None:
        """Take note of a task's shares while it was watched closely.

        Time in which the GIL was held, but not by the task, is no part of the task.
        """
        others_fraction = max(0.0, gil_fraction - cpu_fraction)
        if others_fraction < 1:
            self._alone_cpu_fraction = cpu_fraction / (1 - others_fraction)

    def expect_s(self, seconds: float, cpu_s: float) -> float:
        """Return how much of a task's time is due to others, going by its CPU time."""
        alone = self._alone_cpu_fraction
        if alone is None:
            alone = float(seconds < self._unwatched_s)
        return max(0.0, seconds - cpu_s / alone) if alone else 0.0
