"""How much of the ready work the caller takes at once: a slice.

A slice may have tasks of several stages. It ends where too much time, or memory, would
pass until the caller sees what else there is to do, and where too little is known.
"""

from __future__ import annotations

from math import ceil

from amorsize_dask.core.dispatch import Dispatch
from amorsize_dask.core.fitting import Fitting
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import Lane, Limits
from amorsize_dask.core.placing import Placing

#: Seconds of work that the caller takes at once. Smaller: a hand-over every few tasks;
#: larger: workers that have come up wait for tasks that the caller holds.
CALLER_SLICE_S = 0.02

#: Times that the caller may take more items at once than are known so far.
#: Smaller: many slices of short tasks; larger: where the first items are short, and
#: the later ones long, it takes all of them, and the other cores have nothing to do.
SLICE_GROWTH = 4

#: Seconds of work that it may take in any case. Smaller: graphs of trivial tasks are
#: begun in many slices; larger: so many items are taken on the word of a first one.
TRUST_S = 0.001

#: Bytes of results that one slice of the caller may make, so that short tasks with
#: large results are consumed before the next slice makes more. Smaller: hand-overs;
#: larger: memory that depth-first order would not have needed.
SLICE_BYTES = 16e6


class Slicing:
    """Takes ready tasks out of the graph for the caller."""

    def __init__(
        self,
        graph: GraphState,
        placing: Placing,
        fitting: Fitting,
        dispatch: Dispatch,
        limits: Limits,
    ) -> None:
        self._graph = graph
        self._placing = placing
        self._fitting = fitting
        self._dispatch = dispatch
        self._limits = limits

    def take(self, numbers: set[int]) -> tuple[list[int], float]:
        """Take ready tasks of some stages, the first ones first, for a slice of time.

        Parameters
        ----------
        numbers : set of int
            Stages that have ready tasks; at least one.

        Returns
        -------
        list of int
            The tasks; none if there is no room for the first one now.
        float
            Seconds that they should take.
        """
        rank, ready = self._graph.rank, self._graph.ready
        tasks: list[int] = []
        left_s, left_bytes = CALLER_SLICE_S, SLICE_BYTES
        most = self._limits.cap(len(self._graph.stage_of))
        is_booking = numbers <= self._placing.caller_stages
        # Bookkeeping takes next to nothing, unless what it passes on is on disk.
        if not is_booking or self._fitting.has_unread:
            first = min(numbers, key=rank)
            n_fitting = self._count_fitting(first)
            if not n_fitting:
                return [], 0.0
            if n_fitting < len(ready[first]) or self._fitting.has_unread:
                numbers, most = {first}, min(most, n_fitting)
            left_bytes = min(left_bytes, max(1.0, self._fitting.room_bytes))
        room_bytes = self._fitting.room_bytes - left_bytes
        heads = sorted((rank(number), number) for number in numbers)
        while heads and len(tasks) < most and left_s > 0 and left_bytes > 0:
            _, number = heads.pop(0)
            statistics = self._placing.stages[number].statistics
            if tasks and statistics.sizes.peak_bytes > room_bytes:
                break  # the first stage alone is known to fit
            item_s, item_bytes = self._expect(number)
            # Tasks of a stage are taken to be of the first one's size.
            size = self._graph.n_items(ready[number].head)
            n_wanted = ceil(min(left_s / item_s, left_bytes / item_bytes))
            n = min(n_wanted, self.most_to_trust(number, item_s))
            n_tasks = min(ceil(n / size), most - len(tasks), len(ready[number]))
            if heads and not self._graph.graph.is_open:
                n_tasks = ready[number].count_below(heads[0][0], n_tasks)
            n = min(n, n_tasks * size)
            if statistics.is_recalled:
                # It ends with the first task of which only earlier runs tell.
                n_tasks, n = 1, min(n, size)
                most = len(tasks) + 1
            may_cut = self._may_cut(number)
            tasks += self._dispatch.take(number, n, most=n_tasks, may_cut=may_cut)
            left_s -= n * item_s
            left_bytes -= n * item_bytes
            if n < n_wanted:
                break
            if ready[number]:
                heads.append((rank(number), number))
                heads.sort()
        return tasks, CALLER_SLICE_S - left_s

    def most_to_trust(self, number: int, item_s: float) -> int:
        """Return how many more items those that are known can speak for.

        Parameters
        ----------
        number : int
            Their stage.
        item_s : float
            Seconds that each should take, > 0.
        """
        if number in self._placing.caller_stages:
            return len(self._graph.stage_of)
        n_known = self._placing.stages[number].statistics.n_items_known
        return max(SLICE_GROWTH * max(1, n_known), int(TRUST_S / item_s))

    def _count_fitting(self, number: int) -> int:
        """Return how many tasks of a stage there is room for."""
        ready = self._graph.ready[number]
        size = self._graph.n_items(ready.head)
        return self._dispatch.fit(number, size * len(ready), Lane.INLINE, size) // size

    def _may_cut(self, number: int) -> bool:
        """Whether parts of a task may be done by workers that others wait for."""
        placed = self._placing.placed
        return number in placed[Lane.PROCESSES] or number in placed[Lane.CLUSTER]

    def _expect(self, number: int) -> tuple[float, float]:
        """Seconds and bytes to expect of an item, both > 0."""
        statistics = self._placing.stages[number].statistics
        if not statistics.is_known:
            # A slice ends with the first task of which nothing is known: it may be
            # long, or its result large.
            return CALLER_SLICE_S, SLICE_BYTES
        return max(statistics.mean_s, 1e-9), max(statistics.sizes.held_bytes, 1.0)
