"""How much of the ready work may be started, going by what is left of memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.events import Action, GiveUp, Spill
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import CALLER_LANES, Lane, Limits
from amorsize_dask.core.stage import Stage
from amorsize_dask.core.units import format_bytes

#: Most tasks of a batch for which it is looked at what they read back from disk.
#: Smaller: batches are cut short; larger: looking takes longer than it saves.
MAX_LOOKED = 1000

#: Tasks that are looked at first. Smaller: more rounds; larger: where memory is short
#: most are looked at for nothing.
FIRST_LOOKED = 8


class Fitting:
    """Makes batches fit into the budget, and counts them against it."""

    def __init__(
        self,
        graph: GraphState,
        stages: Sequence[Stage],
        budget: Budget,
        limits: Limits,
        cluster_budget: Budget | None = None,
    ) -> None:
        self._graph = graph
        self._stages = stages
        self._budget = budget
        self._limits = limits
        # What the cluster's workers hold, if that is to be bounded.
        self._cluster_budget = cluster_budget

    @property
    def room_bytes(self) -> float:
        """Bytes that may still be taken."""
        return self._budget.room_bytes

    @property
    def has_unread(self) -> bool:
        """Whether there are results in files that it matters to load."""
        return self._budget.has_unread

    def begin(self, worker: int, tasks: list[int], stage: int, lane: Lane) -> None:
        """Count a batch that is given to a worker."""
        dependencies = self._graph.dependencies
        read = (d for t in tasks for d in dependencies[t])
        self._budget.begin(
            worker,
            self._expect_bytes(tasks, stage, lane),
            read if lane in CALLER_LANES else (),
            is_here=lane in CALLER_LANES,
        )
        if lane is Lane.CLUSTER and self._cluster_budget is not None:
            n_items = self._graph.count_items(tasks)
            own_bytes, each_bytes = self._bytes_on_cluster(stage)
            self._cluster_budget.begin(worker, own_bytes + n_items * each_bytes)

    def fit(
        self,
        number: int,
        n: int,
        lane: Lane,
        actions: list[Action],
        least: int = 1,
    ) -> int:
        """Return how many of `n` items of a stage may be started as one batch.

        It is a multiple of `least`. What has to be done before is added to `actions`:
        where memory is short and no one is about to free some, results that are needed
        later go to disk. If that doesn't help it is none, as long as something is in
        flight.
        """
        if lane is Lane.CLUSTER:
            n = self._fit_on_cluster(number, n)
            if not n:
                return 0
        head = self._graph.ready[number].head
        own_bytes, each_bytes = self._bytes_of(number, lane, head)
        read_bytes = self._bytes_to_load(number, n, lane)
        n_units = min(n // least, len(read_bytes) or n) or 1

        def need(n_units: int) -> float:
            read = read_bytes[min(n_units, len(read_bytes)) - 1] if read_bytes else 0.0
            return own_bytes + n_units * least * each_bytes + read

        budget = self._budget
        if need(n_units) <= budget.room_bytes:
            return n_units * least
        is_waiting = self._graph.n_in_flight and budget.is_about_to_free()
        if need(1) > budget.room_bytes and not is_waiting:
            spilled = budget.spill(need(1), kept=self._graph.dependencies[head])
            if spilled:
                actions.append(Spill(spilled))
            read_bytes = self._bytes_to_load(number, n, lane)
            n_units = min(n // least, len(read_bytes) or n) or 1
        n_units = bisect_right(range(1, n_units + 1), budget.room_bytes, key=need)
        if n_units or self._graph.n_in_flight:
            return n_units * least
        self._refuse_oversized(number, actions)
        return least

    def count_fitting(self, number: int, lane: Lane, times: float) -> int:
        """Return how many items fit if each takes so many times what is known."""
        head = self._graph.ready[number].head
        own_bytes, each_bytes = self._bytes_of(number, lane, head)
        item_bytes = max(1.0, own_bytes + each_bytes)
        return int(max(0.0, self._budget.room_bytes) / (times * item_bytes))

    def _fit_on_cluster(self, number: int, n: int) -> int:
        """Return how many items' results the cluster's workers have room for.

        One where nothing is in flight: without it nothing would ever be freed.
        """
        budget = self._cluster_budget
        own_bytes, each_bytes = self._bytes_on_cluster(number)
        if budget is None or not each_bytes:
            return n
        n = min(n, int(max(0.0, budget.room_bytes - own_bytes) / each_bytes))
        return n or int(not self._graph.n_in_flight)

    def _bytes_on_cluster(self, number: int) -> tuple[float, float]:
        """Return what a batch takes there, and for each item what stays."""
        stage = self._stages[number]
        sizes = stage.statistics.sizes
        own_bytes = max(sizes.peak_bytes, stage.guessed_peak_bytes)
        return own_bytes, sizes.out_bytes if stage.is_away else 0.0

    def _bytes_to_load(self, number: int, n: int, lane: Lane) -> list[float]:
        """Return what has to be loaded for the first task, the first two, ...

        As far as there is room for that. Nothing if there are no large results.
        """
        budget = self._budget
        if lane is Lane.CLUSTER:
            return []
        has_any = budget.has_unread if lane in CALLER_LANES else budget.has_large
        if not has_any:
            return []
        seen: set[int] = set()
        ready, room_bytes = self._graph.ready[number], budget.room_bytes
        n = min(n, MAX_LOOKED, len(ready))
        found: list[float] = []
        n_bytes = 0.0
        while len(found) < n and (not found or n_bytes <= room_bytes):
            # Few at first: where memory is short no more than these are needed.
            tasks = ready.lowest(min(n, FIRST_LOOKED + 2 * len(found)))
            for task in tasks[len(found) :]:
                n_bytes += self._load_bytes([task], lane, seen)
                found.append(n_bytes)
                if n_bytes > room_bytes:
                    break
        return found

    def _load_bytes(self, tasks: list[int], lane: Lane, seen: set[int]) -> float:
        """Return what has to be loaded for tasks, without what was seen before.

        In this process that is what is in files; in another one it is all.
        """
        dependencies = self._graph.dependencies
        needed: list[int] = []
        for task in tasks:
            for dependency in dependencies[task]:
                if dependency not in seen:
                    seen.add(dependency)
                    needed.append(dependency)
        if lane in CALLER_LANES:
            return self._budget.bytes_to_load(needed)
        return self._budget.bytes_of_large(needed)

    def _bytes_of(self, number: int, lane: Lane, task: int) -> tuple[float, float]:
        """Return what a batch takes however long it is, and for each of its items.

        `task` is one of it. It is what it takes here: tasks on a cluster only bring
        their results.
        """
        stage = self._stages[number]
        sizes = stage.statistics.sizes
        each_bytes = max(sizes.held_bytes, sizes.out_bytes)
        if lane is Lane.CLUSTER:
            return 0.0, 0.0 if stage.is_away else each_bytes
        own_bytes = max(sizes.peak_bytes, stage.guessed_peak_bytes)
        if lane is Lane.PROCESSES:
            # A result is in the worker as its pickle, too, while that is written.
            own_bytes += sizes.out_bytes
        elif lane is Lane.THREADS:
            # What each thread takes is not seen: a result is mostly made of something
            # as large, and of what a task is given it mostly makes as much.
            if not own_bytes and self._budget.has_large:
                given = self._graph.dependencies[task]
                own_bytes = self._budget.bytes_of_large(given)
            own_bytes = max(own_bytes, each_bytes)
        return own_bytes, each_bytes

    def _expect_bytes(self, tasks: list[int], stage: int, lane: Lane) -> float:
        """Return what a batch is expected to take; `stage` is -1 if it has several."""
        if stage >= 0:
            n_items = {stage: self._graph.count_items(tasks)}
        else:
            n_items = self._graph.count_by_stage(tasks)
        most_bytes = total_bytes = 0.0
        for number, n in n_items.items():
            own_bytes, each_bytes = self._bytes_of(number, lane, tasks[0])
            most_bytes = max(most_bytes, own_bytes)
            total_bytes += n * each_bytes
        if lane is Lane.PROCESSES and self._budget.has_large:
            total_bytes += self._load_bytes(tasks, lane, set())
        return most_bytes + total_bytes

    def _refuse_oversized(self, number: int, actions: list[Action]) -> None:
        """Give up if a task of a stage by itself takes more than the user allows."""
        # What earlier runs have taken says nothing of this one's data.
        own_bytes = self._stages[number].statistics.sizes.measured_bytes
        limit_bytes = self._limits.memory_limit_bytes
        if limit_bytes is None or own_bytes <= limit_bytes:
            return
        if not self._limits.allow_oversized:
            reason = (
                f"one like it took {format_bytes(own_bytes)}, of "
                f"{format_bytes(limit_bytes)} that the run may take"
            )
            task = self._graph.ready[number].head
            actions.append(GiveUp(task, "memory", reason, 0))
