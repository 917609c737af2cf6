"""The state of every task: waiting, ready, in flight or finished.

Tasks are the numbers 0 to n - 1 in the order of their priority: of two ready
tasks the lower number goes first. All operations cost O(log n) a task at most, and O(1)
where tasks become ready in order.

A task that works on a list item by item can be cut while it is ready: some of its items
become a task of their own, a part. What is left of it runs when its parts are finished,
and puts all together. So work is counted in items; a task that can't be cut is one.
The tasks of a stage that are chains can be split in two, all at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from amorsize_dask.core.model import Lane
from amorsize_dask.core.ready import ReadyTasks

WAITING, READY, IN_FLIGHT, FINISHED = range(4)

#: Share by which a task may have more items than asked for before it is cut. Smaller:
#: a few items are cut off and put together again for nothing; larger: the last of the
#: workers ends that much later.
CUT_SLACK = 0.25


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
    n_items
        For each task the items that it can be cut into, 1 if it can't be cut; empty
        if none can.
    rest_stage
        The stage to which a task belongs once all its items are in parts: one of the
        caller's, since it only puts together what is there. ``None`` if no task can
        be cut.
    tail_stage
        For each stage whose tasks are chains that can be split, the stage of their
        last links once they are.
    is_open
        Whether tasks may be added while it runs. No task can be cut or split, then.
    stage_lanes
        For each stage of which the user has said it, the lanes in which it may run.
    stage_workers
        For each stage of which the user has said it, how many workers may run it at
        once, >= 1.
    sized_stages
        Stages of whose tasks the edge may see how large they are.
    """

    dependencies: Sequence[Sequence[int]]
    stage_of: Sequence[int]
    n_stages: int
    wanted: frozenset[int]
    caller_stages: frozenset[int] = frozenset()
    n_items: Sequence[int] = ()
    rest_stage: int | None = None
    tail_stage: Mapping[int, int] = field(default_factory=dict)
    is_open: bool = False
    stage_lanes: Mapping[int, tuple[Lane, ...]] = field(default_factory=dict)
    stage_workers: Mapping[int, int] = field(default_factory=dict)
    sized_stages: frozenset[int] = frozenset()

    @property
    def may_grow(self) -> bool:
        """Whether there may be more tasks, also by cutting or splitting others."""
        return self.is_open or self.rest_stage is not None or bool(self.tail_stage)

    def __len__(self) -> int:
        return len(self.dependencies)


def count_stages(stage_of: Sequence[int], tasks: Sequence[int]) -> dict[int, int]:
    """Return how many of some tasks each of their stages has."""
    return count_each([stage_of[task] for task in tasks])


def count_each(stages: Sequence[int]) -> dict[int, int]:
    """Return how often each of some stages is there, the first one first."""
    # Nearly always they have one, and a list is quick to see that.
    n_first = stages.count(stages[0]) if stages else 0
    if n_first == len(stages):
        return {stages[0]: n_first} if stages else {}
    return Counter(stages)


class GraphState:
    """Which task is in which state, and whose value is still needed.

    Attributes
    ----------
    ready : list of ReadyTasks
        For each stage.
    ready_stages : set of int
        The stages that have ready tasks.
    n_items_ready : list of int
        For each stage the items of its ready tasks.
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
        self.dependencies = graph.dependencies
        self.stage_of = graph.stage_of
        self._n_items: list[int] = list(graph.n_items) or [1] * n
        if graph.may_grow:
            # Parts are going to be added.
            self.dependencies = list(graph.dependencies)
            self.stage_of = list(graph.stage_of)
        self.n_finished = 0
        self.n_in_flight = 0
        # Most have none.
        self._dependents: list[Sequence[int]] = [()] * n
        self._n_missing = [len(d) for d in graph.dependencies]
        self._state = bytearray(n)
        first: list[list[int]] = [[] for _ in range(graph.n_stages)]
        for task, dependencies in enumerate(graph.dependencies):
            for dependency in dependencies:
                self._add_dependent(dependency, task)
            if not dependencies:
                self._state[task] = READY
                first[self.stage_of[task]].append(task)
        self.ready = [ReadyTasks(tasks) for tasks in first]
        self.ready_stages = {stage for stage, tasks in enumerate(first) if tasks}
        self.n_items_ready = [self.count_items(tasks) for tasks in first]
        self.n_ready = sum(map(len, first))
        # How many unfinished tasks still need a value; a wanted one is needed by
        # the user as well.
        self._n_users = [len(d) for d in self._dependents]
        for task in graph.wanted:
            self._n_users[task] += 1
        # Those of them that the user has.
        self._taken: set[int] = set()

    @property
    def is_finished(self) -> bool:
        """Whether every task is finished."""
        return self.n_finished == len(self._state)

    def n_items(self, task: int) -> int:
        """Return the items that a task still has for itself."""
        return self._n_items[task]

    def count_items(self, tasks: Sequence[int]) -> int:
        """Return the items that some tasks still have for themselves."""
        if not self.graph.n_items:
            return len(tasks)
        return sum(map(self._n_items.__getitem__, tasks))

    def count_by_stage(self, tasks: Sequence[int]) -> dict[int, int]:
        """Return the same for each of their stages."""
        if not self.graph.n_items:
            return count_stages(self.stage_of, tasks)
        found: Counter[int] = Counter()
        for task in tasks:
            found[self.stage_of[task]] += self._n_items[task]
        return found

    def has_finished(self, task: int) -> bool:
        """Whether a task is finished."""
        return self._state[task] == FINISHED

    def add(self, tasks: Sequence[tuple[Sequence[int], int]]) -> None:
        """Add wanted tasks to a graph that is open: what each needs, and its stage."""
        assert self.graph.is_open
        state, n_users, n = self._state, self._n_users, len(tasks)
        first = len(state)
        self.dependencies += [needed for needed, _ in tasks]  # type: ignore[operator] # see __init__
        self.stage_of += [stage for _, stage in tasks]  # type: ignore[operator] # see __init__
        self._n_items += [1] * n
        self._dependents += [()] * n
        n_users += [1] * n
        state += bytes([WAITING]) * n
        for task, (needed, _) in enumerate(tasks, first):
            n_missing = 0
            for dependency in needed:
                self._add_dependent(dependency, task)
                n_users[dependency] += 1
                n_missing += state[dependency] != FINISHED
            self._n_missing.append(n_missing)
            if not n_missing:
                self._make_ready(task)

    def rank(self, stage: int) -> int:
        """Return what sorts stages that have ready tasks, those to go on with first.

        Of a graph that is open the later stages: they finish what was begun.
        """
        return -stage if self.graph.is_open else self.ready[stage].head

    def take(self, stage: int, n: int) -> list[int]:
        """Put up to `n` ready tasks of a stage in flight, lowest numbers first."""
        ready, state = self.ready[stage], self._state
        tasks = ready.take(n)
        if not ready:
            self.ready_stages.discard(stage)
        for task in tasks:
            state[task] = IN_FLIGHT
        self.n_items_ready[stage] -= self.count_items(tasks)
        self.n_ready -= len(tasks)
        self.n_in_flight += len(tasks)
        return tasks

    def take_items(
        self,
        stage: int,
        n: int,
        cuts: list[tuple[int, int, int]],
        *,
        most: int,
        may_cut: bool,
    ) -> list[int]:
        """Put ready tasks of a stage in flight, lowest numbers first.

        Parameters
        ----------
        stage : int
            One that has ready tasks.
        n : int
            Items that they should have together, >= 1.
        cuts : list
            The parts that had to be cut off are added to it: the task, the part, and
            how many items that has.
        most : int
            Most tasks, >= 1.
        may_cut : bool
            Whether to cut a task that has many more. One of which parts are in flight
            is cut in any case, since it could not run before these.

        Returns
        -------
        list of int
            At least one task. Without cuts they may have more items than asked for,
            or fewer if the next one has too many.
        """
        ready, n_items = self.ready[stage], self._n_items
        tasks: list[int] = []
        while ready and n > 0 and len(tasks) < most:
            task = ready.head
            size = n_items[task]
            # A part that has come back isn't cut again.
            is_whole = task < len(self.graph)
            is_large = is_whole and size > 1 and size > (1 + CUT_SLACK) * n
            if self._n_missing[task] or (is_large and may_cut):
                size = min(size, n) if is_large and may_cut else size
                part = self._cut(task, size)
                cuts.append((task, part, size))
                tasks.append(part)
            elif is_large and tasks:
                break
            else:
                ready.pop()
                self._put_in_flight(task, stage)
                tasks.append(task)
            n -= size
        if not ready:
            self.ready_stages.discard(stage)
        return tasks

    def _put_in_flight(self, task: int, stage: int) -> None:
        self._state[task] = IN_FLIGHT
        self.n_ready -= 1
        self.n_in_flight += 1
        self.n_items_ready[stage] -= self._n_items[task]

    def _cut(self, task: int, n: int) -> int:
        """Cut `n` items off the first ready task of its stage, as a part in flight.

        Without any items left the task waits for its parts.
        """
        graph = self.graph
        stage = self.stage_of[task]
        assert self._state[task] == READY
        assert graph.rest_stage is not None
        part = len(self._state)
        needed = graph.dependencies[task]
        self.dependencies.append(needed)  # type: ignore[attr-defined] # see __init__
        for dependency in needed:
            self._add_dependent(dependency, part)
            self._n_users[dependency] += 1
        self._dependents.append([task])
        self._n_users.append(1)
        self._n_missing.append(0)
        self._state.append(IN_FLIGHT)
        self.n_in_flight += 1
        self._n_items.append(n)
        self.stage_of.append(stage)  # type: ignore[attr-defined] # see __init__
        self.dependencies[task] = [*self.dependencies[task], part]  # type: ignore[index]
        self._n_missing[task] += 1
        self._n_items[task] -= n
        self.n_items_ready[stage] -= n
        if not self._n_items[task]:
            popped = self.ready[stage].pop()
            assert popped == task
            self._state[task] = WAITING
            self.n_ready -= 1
            self._n_items[task] = 1
            self.stage_of[task] = graph.rest_stage  # type: ignore[index]
        return part

    def split(self, stage: int) -> list[tuple[int, int]]:
        """Split the tasks of a stage that haven't begun.

        Returns
        -------
        list of tuple
            Each task and the new one that it needs now, which is of the same stage; the
            task itself is of the stage for tails.
        """
        state, stage_of, tail = self._state, self.stage_of, self.graph.tail_stage[stage]
        found = [
            task
            for task in range(len(state))
            if stage_of[task] == stage and state[task] in (WAITING, READY)
        ]
        self.ready[stage] = ReadyTasks()
        parts = []
        for task in found:
            part = len(state)
            parts.append((task, part))
            needed = self.dependencies[task]
            for dependency in needed:
                users = self._dependents[dependency]
                self._dependents[dependency] = [
                    part if user == task else user for user in users
                ]
            self.dependencies.append(needed)  # type: ignore[attr-defined] # see __init__
            self.dependencies[task] = [part]  # type: ignore[index]
            self._dependents.append((task,))
            self._n_users.append(1)
            self._n_missing.append(self._n_missing[task])
            self._n_missing[task] = 1
            self._n_items.append(1)
            stage_of.append(stage)  # type: ignore[attr-defined]
            stage_of[task] = tail  # type: ignore[index]
            state.append(state[task])
            if state[task] == READY:
                self.ready[stage].push(part)
            state[task] = WAITING
        return parts

    def put_back(self, tasks: Iterable[int]) -> None:
        """Make tasks that were in flight ready again."""
        for task in tasks:
            assert self._state[task] == IN_FLIGHT
            self.n_in_flight -= 1
            self._make_ready(task)

    def finish(self, tasks: Sequence[int]) -> list[int]:
        """Finish tasks in flight; return those whose values no one needs now."""
        state, n_users, n_missing = self._state, self._n_users, self._n_missing
        dropped: list[int] = []
        self.n_in_flight -= len(tasks)
        self.n_finished += len(tasks)
        for task in tasks:
            assert state[task] == IN_FLIGHT
            state[task] = FINISHED
            for dependent in self._dependents[task]:
                n_missing[dependent] -= 1
                # One that was cut may be ready already, with what is left of it.
                if not n_missing[dependent] and state[dependent] == WAITING:
                    self._make_ready(dependent)
            for dependency in self.dependencies[task]:
                n_users[dependency] -= 1
                if not n_users[dependency]:
                    dropped.append(dependency)
            if not n_users[task]:
                dropped.append(task)
        return dropped

    def next_use(self, task: int) -> float | None:
        """Return the first unfinished task that needs the value of a finished one.

        Infinity if only the user does; ``None`` if it is needed in flight.
        """
        state, first = self._state, inf
        for dependent in self._dependents[task]:
            if state[dependent] == IN_FLIGHT:
                return None
            if state[dependent] != FINISHED:
                first = min(first, dependent)
        return first

    def is_in_use(self, task: int) -> bool:
        """Whether the value of a finished task is needed by one that could run now."""
        state = self._state
        return any(
            state[dependent] in (READY, IN_FLIGHT)
            for dependent in self._dependents[task]
        )

    def hand_over(self, tasks: Sequence[int]) -> list[int]:
        """Note that the user has taken wanted values; return those no one needs now."""
        n_users = self._n_users
        self._taken.update(tasks)
        for task in tasks:
            n_users[task] -= 1
        return [task for task in tasks if not n_users[task]]

    def _add_dependent(self, task: int, dependent: int) -> None:
        found = self._dependents[task]
        if isinstance(found, list):
            found.append(dependent)
        else:
            self._dependents[task] = [*found, dependent] if found else (dependent,)

    def _make_ready(self, task: int) -> None:
        self._state[task] = READY
        self.n_ready += 1
        stage = self.stage_of[task]
        self.n_items_ready[stage] += self._n_items[task]
        self.ready_stages.add(stage)
        self.ready[stage].push(task)

    def validate(self) -> None:
        """Check every invariant; for tests. Costs O(tasks + dependencies)."""
        graph, state = self.graph, self._state
        finished = [s == FINISHED for s in state]
        in_queues = [task for ready in self.ready for task in ready]
        assert self.n_ready == len(in_queues)
        assert self.ready_stages == {self.stage_of[task] for task in in_queues}
        assert sorted(in_queues) == [t for t, s in enumerate(state) if s == READY]
        for stage, ready in enumerate(self.ready):
            assert all(self.stage_of[task] == stage for task in ready)
            assert list(ready) == sorted(ready)
            assert self.n_items_ready[stage] == sum(self._n_items[t] for t in ready)
        assert self.n_finished == sum(finished)
        assert self.n_in_flight == state.count(IN_FLIGHT)
        for task, dependencies in enumerate(self.dependencies):
            n_missing = sum(not finished[d] for d in dependencies)
            assert self._n_missing[task] == n_missing
            n_parts_missing = sum(
                not finished[d] for d in dependencies if d >= len(graph)
            )
            if state[task] == WAITING:
                assert n_missing
            else:
                # One that was cut may be ready with what is left of it.
                assert n_missing == n_parts_missing
                assert not n_missing or state[task] == READY
            n_users = sum(not finished[d] for d in self._dependents[task])
            is_wanted = graph.is_open or task in graph.wanted
            is_wanted = is_wanted and task not in self._taken
            assert self._n_users[task] == n_users + is_wanted
