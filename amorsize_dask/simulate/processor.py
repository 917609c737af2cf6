"""Virtual time: cores and a GIL that are shared evenly, and timers.

A cluster has cores of its own.

Every job that computes gets the same share of the cores, at most one core each. In
the calling process those that hold the GIL share one core's worth of it. Each resource
has a clock that shows the seconds of service that every job in it has had so far, so a
job is done when that clock has advanced by its work. Jobs come and go without touching
one another: every event costs O(log n).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf

from amorsize_dask.core.model import GIL_HANDOVER


class Job:
    """Something that takes time, and what is called when it is over."""

    __slots__ = ("_work_s", "clock", "end_s", "is_over", "then")

    def __init__(self, clock: Clock, work_s: float, then: Callable[[], None]) -> None:
        self.clock = clock
        self._work_s = work_s
        self.end_s = clock.now_s + work_s
        self.then = then
        self.is_over = False

    @property
    def done_s(self) -> float:
        """Seconds of service that it has had."""
        return self._work_s - max(0.0, self.end_s - self.clock.now_s)

    def cancel(self) -> None:
        """Stop it; nothing is called."""
        if not self.is_over:
            self.is_over = True
            self.clock.n_jobs -= 1


class Clock:
    """The jobs of one resource, and the service that each has had."""

    __slots__ = ("_heap", "_order", "n_jobs", "now_s")

    def __init__(self) -> None:
        self.now_s = 0.0
        self.n_jobs = 0
        self._heap: list[tuple[float, int, Job]] = []
        self._order = count()

    def add(self, work_s: float, then: Callable[[], None]) -> Job:
        """Start a job that needs this much service."""
        job = Job(self, work_s, then)
        heappush(self._heap, (job.end_s, next(self._order), job))
        self.n_jobs += 1
        return job

    def next_end_s(self) -> float:
        """Return what the clock will show when its next job is done."""
        heap = self._heap
        while heap and heap[0][2].is_over:
            heappop(heap)
        return heap[0][0] if heap else inf

    def pop(self) -> Job:
        """End the job that is done next."""
        end_s, _, job = heappop(self._heap)
        self.now_s = max(self.now_s, end_s)
        job.cancel()
        return job


class Processor:
    """Timers, cores, and the GIL of the calling process.

    Parameters
    ----------
    n_cores : int
        Cores that compute, >= 1.
    n_far_cores : int, optional
        Cores of a cluster that compute as well, >= 1.
    """

    def __init__(self, n_cores: int, n_far_cores: int = 1) -> None:
        self.timers = Clock()
        self.cores = Clock()
        self.far_cores = Clock()
        self.gil = Clock()
        #: Seconds for which the GIL has been held by anyone.
        self.gil_held_s = 0.0
        self._n_cores = n_cores
        self._n_far_cores = n_far_cores

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return self.timers.now_s

    def step(self, until_s: float = inf) -> bool:
        """Let time pass until the next job is done, or until then.

        Returns
        -------
        bool
            Whether a job was done before that time.
        """
        cores_rate, gil_rate = self._rates()
        n_far = self.far_cores.n_jobs
        far_rate = min(1.0, self._n_far_cores / n_far) if n_far else 1.0
        now_s = self.timers.now_s
        next_s, clock = self.timers.next_end_s(), self.timers
        for other, rate in (
            (self.cores, cores_rate),
            (self.far_cores, far_rate),
            (self.gil, gil_rate),
        ):
            if other.n_jobs:
                end_s = now_s + max(0.0, other.next_end_s() - other.now_s) / rate
                if end_s < next_s:
                    next_s, clock = end_s, other
        is_done = next_s <= until_s and next_s < inf
        if not is_done:
            next_s = max(now_s, until_s)
        if next_s < inf:
            self.timers.now_s = next_s
            self.cores.now_s += (next_s - now_s) * cores_rate
            self.far_cores.now_s += (next_s - now_s) * far_rate
            self.gil.now_s += (next_s - now_s) * gil_rate
            if self.gil.n_jobs:
                self.gil_held_s += next_s - now_s
        if is_done:
            clock.pop().then()
        return is_done

    def _rates(self) -> tuple[float, float]:
        """Seconds of service that a job gets in a second: on a core, with the GIL."""
        n_holding = self.gil.n_jobs
        n_running = self.cores.n_jobs + (n_holding > 0)
        share = min(1.0, self._n_cores / n_running) if n_running else 1.0
        if n_holding < 2:
            return share, share
        return share, share / (n_holding * (1 + GIL_HANDOVER))
