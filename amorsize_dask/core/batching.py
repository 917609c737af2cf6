"""How many items of a stage go to a worker at once, as things stand.

The rule itself is in `batch_size`. Covers: what it is given, and what else bounds a
batch: what others wait for, what travels, and tasks that may kill their worker.
"""

from __future__ import annotations

from amorsize_dask.core.batch_size import choose_batch_size
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import Lane, Limits, Machine
from amorsize_dask.core.placement import count_slots
from amorsize_dask.core.placing import Placing
from amorsize_dask.core.sampling import count_first
from amorsize_dask.core.sharing import SHARED_S
from amorsize_dask.core.slicing import SLICE_BYTES
from amorsize_dask.core.staffing import Staffing
from amorsize_dask.core.workers import MAX_DEPTH

#: Share of the memory limit that results of one batch of a cluster may take. Smaller:
#: more round trips; larger: what is read of them isn't noticed in time.
SLICE_FRACTION = 0.1

#: Times as long as others that a batch may take whose results no one misses yet.
#: Smaller: each costs the caller its time, which feeds slower stages; larger: who waits
#: for the end of one, or counts what it holds, does so for longer.
UNMISSED_BATCHES = 5


class Batching:
    """Sizes batches by what is known of a stage and of the workers that share it."""

    def __init__(
        self,
        graph: GraphState,
        placing: Placing,
        staffing: Staffing,
        machine: Machine,
        limits: Limits,
    ) -> None:
        self._graph = graph
        self._placing = placing
        self._staffing = staffing
        self._machine = machine
        self._limits = limits

    def note_machine(self, machine: Machine) -> None:
        """Go by another machine from now on."""
        self._machine = machine

    def choose_size(self, number: int, lane: Lane) -> int:
        """Return how many items the next batch of a stage should have, >= 1.

        Parameters
        ----------
        number : int
            A stage that is placed in the lane and has ready tasks.
        lane : Lane
            Not the caller's.
        """
        stage = self._placing.stages[number]
        if not stage.statistics.is_known or stage.statistics.is_recalled:
            return count_first(self._graph, number, self._machine.n_cores)
        n_workers = self._staffing.count_sharing(number, lane)
        if number in self._placing.unwatched:
            # There are going to be more of them.
            n_workers = count_slots(self._machine, lane)
        # Each may have that many batches of this size.
        n_sharing = MAX_DEPTH * max(1, n_workers)
        n = choose_batch_size(
            self._graph.n_items_ready[number],
            n_sharing,
            stage.statistics.mean_s,
            self._overhead_s(lane, n_workers),
            self._most_s(number, lane, n_sharing),
        )
        if lane is Lane.THREADS:
            n = max(n, self._n_unmissed(number))
        n = self._limits.cap(n)
        if lane is Lane.CLUSTER:
            n = min(n, self._n_movable(number))
        if stage.suspects:
            n = self._n_without_suspects(number, n)
        return max(1, n)

    def _most_s(self, number: int, lane: Lane, n_sharing: int) -> float:
        """Return the seconds that a batch should take at most."""
        most_s = self._limits.target_batch_s
        statistics = self._placing.stages[number].statistics
        if lane is Lane.THREADS and not statistics.is_sharing_known:
            # Until it has shown whether they are in each other's way.
            most_s = min(most_s, SHARED_S / n_sharing)
        if self._graph.graph.is_open and self._placing.has_unplaced:
            # Its stages can't begin, or be placed, until this has results.
            most_s = 0.0
        return min(most_s, self._placing.pacing.most_batch_s(number))

    def _overhead_s(self, lane: Lane, n_workers: int) -> float:
        """Return what a batch costs beside its tasks."""
        costs, cluster = self._machine.costs, self._machine.cluster
        if lane is Lane.CLUSTER and cluster is not None:
            # Its round trips are longer, but others are under way meanwhile.
            return cluster.overhead_s(n_workers)
        return costs.hand_off_s if lane is Lane.THREADS else costs.batch_s

    def _n_unmissed(self, number: int) -> int:
        """Return how many items a batch may have that no one waits for meanwhile.

        The end of such a stage needn't be even.
        """
        seconds = self._placing.pacing.least_batch_s(number)
        mean_s = self._placing.stages[number].statistics.mean_s
        if not seconds or not mean_s:
            return 1
        n = int(min(seconds, UNMISSED_BATCHES * self._limits.target_batch_s) / mean_s)
        return min(n, self._graph.n_items_ready[number])

    def _n_movable(self, number: int) -> int:
        """Return how many items one message should have, going by their bytes."""
        workload = self._placing.stages[number].statistics.workload(0)
        most_bytes = max(1.0, workload.in_bytes, workload.out_bytes)
        limit_bytes = self._limits.memory_limit_bytes or self._machine.memory_bytes
        room_bytes = min(SLICE_BYTES, SLICE_FRACTION * limit_bytes)
        return max(1, int(room_bytes / most_bytes))

    def _n_without_suspects(self, number: int, n: int) -> int:
        """Return how many of `n` items come before the first suspect, or its own.

        A suspect goes alone, so that no other task dies with it.
        """
        suspects = self._placing.stages[number].suspects
        n_before = 0
        for task in self._graph.ready[number].lowest(n):
            n_own = self._graph.n_items(task)
            if task in suspects:
                return n_before or n_own
            n_before += n_own
        return n
