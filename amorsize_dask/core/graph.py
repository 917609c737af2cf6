"""The state of every task: waiting, ready, in flight or finished.

Tasks are the numbers 0 to n - 1 in the order of their priority: of two ready
tasks the lower number goes first. All operations cost O(log n) a task at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

WAITING, READY, IN_FLIGHT, FINISHED = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What the core knows of a task graph.

    Attributes
    ----------
    dependencies
        For each task the tasks whose values it needs, each once.
    stage_of
        For each task the number of its stage, 0 to ``n_stages - 1``.
    n_stages
        How many stages there are.
    wanted
        Tasks whose values the user asked for; these are never dropped.
    caller_stages
        Stages that belong into the calling process: bookkeeping such as
        concatenations, which cost less than moving their data would.
    """

    dependencies: Sequence[Sequence[int]]
    stage_of: Sequence[int]
    n_stages: int
    wanted: frozenset[int]
    caller_stages: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.dependencies)


class GraphState:
    """Which task is in which state, and whose value is still needed.

    Attributes
    ----------
    ready : list of list of int
        For each stage a heap of its ready tasks.
    ready_stages : set of int
        The stages that have ready tasks.
    n_ready : int
        Tasks that are ready.
    n_finished : int
        Tasks that are finished.
    n_in_flight : int
        Tasks that are in flight.
    """

    def __init__(self, graph: Graph) -> None:
        n = len(graph)
        self.graph = graph
        self.ready: list[list[int]] = [[] for _ in range(graph.n_stages)]
        self.ready_stages: set[int] = set()
        self.n_ready = 0
        self.n_finished = 0
        self.n_in_flight = 0
        self._dependents: list[list[int]] = [[] for _ in range(n)]
        self._n_missing = [len(d) for d in graph.dependencies]
        self._state = bytearray(n)
        for task, dependencies in enumerate(graph.dependencies):
            for dependency in dependencies:
                self._dependents[dependency].append(task)
            if not dependencies:
                self._make_ready(task)
        # How many unfinished tasks still need a value; a wanted one is needed by
        # the user as well.
        self._n_users = [len(d) for d in self._dependents]
        for task in graph.wanted:
            self._n_users[task] += 1

    @property
    def is_finished(self) -> bool:
        """Whether every task is finished."""
        return self.n_finished == len(self.graph)

    def has_finished(self, task: int) -> bool:
        """Whether a task is finished."""
        return self._state[task] == FINISHED

    def take(self, stage: int, n: int) -> list[int]:
        """Put up to `n` ready tasks of a stage in flight, lowest numbers first."""
        heap = self.ready[stage]
        if n >= len(heap):
            tasks, self.ready[stage] = sorted(heap), []
        else:
            tasks = [heappop(heap) for _ in range(n)]
        if not self.ready[stage]:
            self.ready_stages.discard(stage)
        for task in tasks:
            self._state[task] = IN_FLIGHT
        self.n_ready -= len(tasks)
        self.n_in_flight += len(tasks)
        return tasks

    def put_back(self, tasks: Iterable[int]) -> None:
        """Make tasks that were in flight ready again."""
        for task in tasks:
            assert self._state[task] == IN_FLIGHT
            self.n_in_flight -= 1
            self._make_ready(task)

    def finish(self, task: int, dropped: list[int]) -> None:
        """Finish a task in flight; values that no one needs now go to `dropped`."""
        state, n_users = self._state, self._n_users
        assert state[task] == IN_FLIGHT
        state[task] = FINISHED
        self.n_in_flight -= 1
        self.n_finished += 1
        for dependent in self._dependents[task]:
            self._n_missing[dependent] -= 1
            if not self._n_missing[dependent]:
                self._make_ready(dependent)
        for dependency in self.graph.dependencies[task]:
            n_users[dependency] -= 1
            if not n_users[dependency]:
                dropped.append(dependency)
        if not n_users[task]:
            dropped.append(task)

    def _make_ready(self, task: int) -> None:
        self._state[task] = READY
        self.n_ready += 1
        stage = self.graph.stage_of[task]
        self.ready_stages.add(stage)
        heappush(self.ready[stage], task)

    def validate(self) -> None:
        """Check every invariant; for tests. Costs O(tasks + dependencies)."""
        graph, state = self.graph, self._state
        finished = [s == FINISHED for s in state]
        in_heaps = [task for heap in self.ready for task in heap]
        assert self.n_ready == len(in_heaps)
        assert self.ready_stages == {graph.stage_of[task] for task in in_heaps}
        assert sorted(in_heaps) == [t for t, s in enumerate(state) if s == READY]
        for stage, heap in enumerate(self.ready):
            assert all(graph.stage_of[task] == stage for task in heap)
            assert all(heap[(i - 1) // 2] <= heap[i] for i in range(1, len(heap)))
        assert self.n_finished == sum(finished)
        assert self.n_in_flight == state.count(IN_FLIGHT)
        for task, dependencies in enumerate(graph.dependencies):
            n_missing = sum(not finished[d] for d in dependencies)
            assert self._n_missing[task] == n_missing
            assert (state[task] == WAITING) == (n_missing > 0)
            n_users = sum(not finished[d] for d in self._dependents[task])
            assert self._n_users[task] == n_users + (task in graph.wanted)
