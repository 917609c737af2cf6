"""The ready tasks of a stage, lowest number first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, merge, nsmallest
from itertools import islice

#: Tasks that have been taken from the front of the list before it is made shorter.
#: Smaller: it is copied more often; larger: a long one keeps more memory for longer.
SPENT = 1024


class ReadyTasks:
    """Gives out task numbers in order.

    Nearly all tasks become ready in the order of their numbers: those are a list, which
    costs the same however long it is. A heap has the others.

    Parameters
    ----------
    tasks : iterable of int, optional
        Those that are ready in the beginning, lowest first.
    """

    __slots__ = ("_in_order", "_others", "_start")

    def __init__(self, tasks: Iterable[int] = ()) -> None:
        self._in_order = list(tasks)
        self._start = 0
        self._others: list[int] = []

    def __len__(self) -> int:
        return len(self._in_order) - self._start + len(self._others)

    def __iter__(self) -> Iterator[int]:
        return merge(self._in_order[self._start :], sorted(self._others))

    @property
    def head(self) -> int:
        """The lowest number; there must be one."""
        in_order, others = self._in_order, self._others
        if self._start == len(in_order):
            return others[0]
        head = in_order[self._start]
        return min(head, others[0]) if others else head

    def push(self, task: int) -> None:
        """Add a task."""
        in_order = self._in_order
        if not in_order or task > in_order[-1]:
            in_order.append(task)
        else:
            heappush(self._others, task)

    def pop(self) -> int:
        """Take out the lowest number."""
        return self.take(1)[0]

    def take(self, n: int) -> list[int]:
        """Take out the `n` lowest numbers, or all if there are fewer."""
        others = self._others
        taken: list[int] = []
        while n > 0:
            n_below = n if not others else self._count_in_order(others[0], n)
            some = self._in_order[self._start : self._start + n_below]
            taken += some
            self._start += len(some)
            n -= len(some)
            if not n or not others:
                break
            taken.append(heappop(others))
            n -= 1
        if self._start == len(self._in_order) or self._start > SPENT:
            self._shorten()
        return taken

    def lowest(self, n: int) -> list[int]:
        """Return the `n` lowest numbers, or all if there are fewer, without taking."""
        in_order = self._in_order[self._start : self._start + n]
        return list(islice(merge(in_order, nsmallest(n, self._others)), n))

    def count_below(self, until: int, most: int) -> int:
        """How many of the `most` lowest numbers are below `until`."""
        n = self._count_in_order(until, most)
        return min(most, n + sum(task < until for task in self._others))

    def _count_in_order(self, until: int, most: int) -> int:
        stop = min(len(self._in_order), self._start + most)
        return bisect_left(self._in_order, until, self._start, stop) - self._start

    def _shorten(self) -> None:
        if 2 * self._start >= len(self._in_order):
            del self._in_order[: self._start]
            self._start = 0
