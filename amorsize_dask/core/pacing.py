"""How far stages of an open graph work ahead of slower ones after them.

A stage that waits could have a hundred threads. If the one after it needs all cores to
go on with what ten of them bring, the other ninety only take time from it: each has to
be started, and each thing that ends has to be taken in, by the process that feeds the
slow stage. So a stage gets the workers that the slowest one leaves it a use for, and as
long as those after it have enough to do, what it does comes in large batches.

All is by what is measured, and may be wrong: a filter may let next to nothing through.
So it only holds while the slower stage is seen to have something to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf

from amorsize_dask.core.model import Lane
from amorsize_dask.core.stage import Stage

#: Times as fast as the slowest stage that another one may be. Smaller: where times
#: vary the slow stage waits for it; larger: workers that have hardly anything to do.
SPARE = 1.5

#: Share of the slowest stage's seconds that the caller may compute beside feeding its
#: workers. Smaller: what takes microseconds is sent to workers that are busy anyway;
#: larger: they wait for the caller.
MINOR_FRACTION = 0.25

#: Workers of a stage as long as nothing is known of one after it. Smaller: that one
#: waits for items meanwhile; larger: more are started than it turns out to need.
FIRST_WORKERS = 16

#: Seconds of an item from which on it may have more at once. Smaller: more are started
#: than are needed, in a time that counts; larger: a round of items is lost to few
#: workers where all that there is could be waited for at once.
LONG_S = 0.1

#: Rounds of a stage's workers after which it counts that a later one has nothing to do,
#: or isn't known. Smaller: it hasn't had its first items yet; larger: where it gets
#: less than was thought, for much is left out, it takes longer to be seen.
FIRST_ROUNDS = 2

#: Share of the time for which later stages have work that a batch may take. Smaller:
#: each item is taken in by itself; larger: they run out of work before it is done.
AHEAD_FRACTION = 0.5


class Pacing:
    """Compares the stages of a graph that is open, which follow each other by number.

    Of any other graph it says nothing.
    """

    def __init__(self, stages: Sequence[Stage], *, is_open: bool) -> None:
        self._stages = stages
        self._is_open = is_open
        # What was counted since a turn has begun.
        self._n_useful: dict[int, int] = {}
        self._least_batch_s: dict[int, float] = {}
        self._most_batch_s: dict[int, float] = {}

    def begin_turn(self) -> None:
        """Count anew what is of use: something has happened."""
        self._n_useful.clear()
        self._least_batch_s.clear()
        self._most_batch_s.clear()

    def count_useful(self, number: int, n_workers: int) -> int:
        """Return how many of the workers that a stage could have are of use now."""
        if not self._is_open:
            return n_workers
        n_useful = self._n_useful.get(number)
        if n_useful is None:
            n_useful = self._n_useful[number] = self._count_useful(number, n_workers)
        return n_useful

    def _count_useful(self, number: int, n_workers: int) -> int:
        later = range(number + 1, len(self._stages))
        stage = self._stages[number]
        n_finished, mean_s = stage.statistics.n_finished, stage.statistics.mean_s
        is_first = n_finished < FIRST_ROUNDS * FIRST_WORKERS and mean_s < LONG_S
        if is_first and not all(map(self._is_known, later)):
            return min(n_workers, FIRST_WORKERS)
        slowest = max(later, key=self._left_s, default=number)
        slowest_s = self._left_s(slowest)
        if slowest == number or not slowest_s:
            return n_workers
        n_useful = ceil(SPARE * self.work_s(number) / slowest_s)
        is_fed = self._there_s(slowest) >= mean_s
        # What these have been given first may be all that it waits for.
        if not is_fed and n_finished >= FIRST_ROUNDS * n_useful:
            return n_workers
        return max(1, min(n_workers, n_useful))

    def is_minor(self, number: int) -> bool:
        """Whether the caller can do a stage beside feeding others that take longer."""
        stage = self._stages[number]
        if not self._is_open or not self._is_known(number):
            return False
        others = [n for n in range(len(self._stages)) if n != number]
        # Of what is short most seconds may be waiting for the GIL, which others have.
        alone_s = (stage.n_left + stage.n_more) * stage.statistics.alone_s
        alone_s += sum(self.work_s(n) for n in others if self._is_inline(n))
        slowest_s = max(map(self._left_s, others), default=0.0)
        if stage.statistics.is_waiting or alone_s > MINOR_FRACTION * slowest_s:
            return False
        # If they are something else, one after the other is still soon enough.
        return self.work_s(number) <= slowest_s

    def least_batch_s(self, number: int) -> float:
        """Return the seconds that a batch of a stage may take before it is missed."""
        if not self._is_open:
            return 0.0
        seconds = self._least_batch_s.get(number)
        if seconds is None:
            later = range(number + 1, len(self._stages))
            seconds = AHEAD_FRACTION * max(map(self._there_s, later), default=0.0)
            self._least_batch_s[number] = seconds
        return seconds

    def most_batch_s(self, number: int) -> float:
        """Return the seconds after which a slower stage misses what a batch brings."""
        if not self._is_open:
            return inf
        seconds = self._most_batch_s.get(number)
        if seconds is None:
            later = range(number + 1, len(self._stages))
            slowest_s = max(map(self._left_s, later), default=0.0)
            is_slowest = slowest_s <= self._left_s(number)
            seconds = inf if is_slowest else self.least_batch_s(number)
            self._most_batch_s[number] = seconds
        return seconds

    def _is_known(self, number: int) -> bool:
        """Whether an item is through a stage, if only in an earlier run."""
        statistics = self._stages[number].statistics
        return statistics.n_finished > 0 or statistics.is_recalled

    def _is_inline(self, number: int) -> bool:
        placement = self._stages[number].placement
        return placement is not None and placement.lane is Lane.INLINE

    def work_s(self, number: int) -> float:
        """Return the seconds of what is left of a stage, on one worker."""
        stage = self._stages[number]
        return (stage.n_left + stage.n_more) * stage.statistics.mean_s

    def _left_s(self, number: int) -> float:
        """Return the seconds of what is left of a stage, on its workers."""
        stage = self._stages[number]
        return self._seconds(number, stage.n_left + stage.n_more)

    def _there_s(self, number: int) -> float:
        """Return the seconds of what has come to a stage and isn't through."""
        return self._seconds(number, self._stages[number].n_left)

    def _seconds(self, number: int, n_items: int) -> float:
        stage = self._stages[number]
        if stage.placement is None or not self._is_known(number):
            return 0.0
        return n_items * stage.statistics.mean_s / stage.placement.n_workers
