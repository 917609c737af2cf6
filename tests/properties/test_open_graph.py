"""The core with a graph that grows while it runs, as pipelines have it."""

from __future__ import annotations

from dataclasses import replace

from choices import Choices, choices
from hypothesis import given, settings
from test_scheduling import FakeEdge

from amorsize_dask.core.events import (
    CALLER,
    SIDE,
    Action,
    Added,
    BatchDone,
    Drop,
    Event,
    Run,
    StartWorkers,
    Taken,
    WorkerReady,
)
from amorsize_dask.core.experience import Experience
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Lane, Limits, Machine
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.scheduling import Scheduling

INLINE = Lane.INLINE


def machine() -> Machine:
    return Machine(n_cores=2, n_physical_cores=2, memory_bytes=10**9)


def done(task: int) -> BatchDone:
    """Return the end of a task in the caller."""
    return BatchDone(CALLER, [Outcome(task, 0.1, 0.1, 10)])


class OpenEdge(FakeEdge):
    """Adds tasks now and then: new ones, and some that need what there is."""

    def __init__(self, chosen: Choices) -> None:
        super().__init__(chosen)
        self.most_tasks = 1 + chosen.below(40)

    def make_graph(self, chosen: Choices) -> Graph:
        """Return a graph without tasks."""
        n_stages = 1 + chosen.below(4)
        booked = frozenset({chosen.below(n_stages)} if chosen.below(4) == 1 else ())
        return Graph(
            dependencies=[],
            stage_of=[],
            n_stages=n_stages,
            wanted=frozenset(),
            caller_stages=booked,
            is_open=True,
        )

    @property
    def n_to_come(self) -> int:
        """How many tasks are going to be added."""
        return self.most_tasks - len(self.dependencies)

    @property
    def is_done(self) -> bool:
        """Whether all tasks have come, are finished and were taken."""
        return not self.n_to_come and self.taken == set(range(self.most_tasks))

    @property
    def is_user_due(self) -> bool:
        """Whether it goes on with what the user does."""
        return bool(self.n_to_come) or self.taken != self.finished

    def take(self) -> list[Event]:
        """Add some tasks, then take some of the results that are there."""
        events = self.add() if not self.choose(2) else []
        if self.choose(2):
            return [*events, *super().take()]
        there = sorted(self.finished - self.taken)
        self.taken.update(there)
        return [*events, Taken(there)]

    def add(self) -> list[Event]:
        """Add up to five tasks on values that the user still has."""
        n = min(self.n_to_come, 1 + self.choose(5))
        added = []
        for _ in range(n):
            there = [t for t in range(len(self.dependencies)) if t not in self.taken]
            n_needed = min(len(there), self.choose(3))
            needed = {there[self.choose(len(there))] for _ in range(n_needed)}
            stage = self.choose(self.graph.n_stages)
            self.wanted.add(len(self.dependencies))
            self.dependencies.append(sorted(needed))
            self.stage_of.append(stage)
            added.append((sorted(needed), stage))
        n_more = {stage: self.choose(100) for stage in range(self.graph.n_stages)}
        return [Added(added, n_more)] if n else []


@given(choices(900))
@settings(max_examples=400, deadline=None)
def test_every_task_that_comes_is_finished_once(chosen: Choices) -> None:
    """However they come, and whatever happens meanwhile, unless the core gives up."""
    edge = OpenEdge(chosen)
    edge.run()
    if edge.gave_up is None:
        assert edge.finished == edge.taken == set(range(edge.most_tasks))


def test_a_value_stays_until_the_user_and_all_tasks_have_had_it() -> None:
    """The user may add tasks that need it as long as it isn't taken."""
    graph = Graph(
        dependencies=[], stage_of=[], n_stages=2, wanted=frozenset(), is_open=True
    )
    core = Scheduling(graph, machine(), Limits(lanes=(INLINE,)), is_streamed=True)
    assert core.handle(Added([((), 0)], {0: 3, 1: 4})) == [Run(CALLER, [0])]
    assert core.handle(done(0)) == []
    assert core.handle(Added([((0,), 1)], {})) == [Run(CALLER, [1])]
    assert core.handle(Taken([0])) == []
    assert core.handle(done(1)) == [Drop([0])]
    assert core.handle(Taken([1])) == [Drop([1])]
    assert core.handle(Added([((), 0)], {})) == [Run(CALLER, [2])]


#: What earlier runs have shown of a stage that waits, and of one that computes.
WAITING = Experience(
    n_items=1000,
    mean_s=0.02,
    std_s=0.001,
    cpu_fraction=0.01,
    gil_fraction=0.0,
    out_bytes=1e4,
)
COMPUTING = replace(WAITING, mean_s=0.0025, cpu_fraction=1.0, gil_fraction=1.0)


def begin_recalled(
    n_more: int, *recalled: Experience, limits: Limits | None = None
) -> tuple[Scheduling, list[Action]]:
    """Begin with 16 items and more to come; return what is done before any is there."""
    graph = Graph(
        dependencies=[],
        stage_of=[],
        n_stages=len(recalled),
        wanted=frozenset(),
        is_open=True,
    )
    core = Scheduling(
        graph,
        machine(),
        limits or Limits(),
        is_streamed=True,
        recalled=dict(enumerate(recalled)),
    )
    more = {number: n_more + 16 * bool(number) for number in range(len(recalled))}
    actions = core.handle(Added([((), 0)] * 16, more))
    ready = [
        WorkerReady(worker)
        for action in actions
        if isinstance(action, StartWorkers) and action.lane is Lane.THREADS
        for worker in action.workers
    ]
    actions += core.handle(*ready) if ready else []
    core.validate()
    return core, actions


def started(actions: list[Action]) -> dict[Lane, int]:
    """Return how many workers were started, by lane."""
    found = [action for action in actions if isinstance(action, StartWorkers)]
    return {action.lane: len(action.workers) for action in found}


def test_what_is_known_is_placed_and_booted_for_at_once() -> None:
    """Stages that have no tasks yet as well; the first items are waited for together.

    The second stage needs an item each 1.25 ms, so 16 threads have to wait for them,
    and half as many again; but 16 tasks are all that there are.
    """
    core, actions = begin_recalled(984, WAITING, COMPUTING)
    assert started(actions) == {Lane.PROCESSES: 2, Lane.THREADS: 16}
    runs = [action for action in actions if isinstance(action, Run)]
    assert [(run.worker > SIDE, len(run.tasks)) for run in runs] == [(True, 1)] * 16
    lanes = {d.stage: d.placement.lane for d in core.decisions}
    assert lanes == {0: Lane.THREADS, 1: Lane.PROCESSES}
    assert all("by earlier runs" in d.placement.reason for d in core.decisions)


def test_nothing_is_booted_for_few_items_that_are_to_come() -> None:
    """However many there were in the earlier run."""
    _, actions = begin_recalled(20, WAITING, COMPUTING)
    assert set(started(actions)) == {Lane.THREADS}


def test_little_beside_what_is_known_to_be_slow_stays_in_the_caller() -> None:
    """It is placed after the slow stage, which has nothing to do yet."""
    little = replace(COMPUTING, mean_s=0.0003)
    core, _ = begin_recalled(984, WAITING, little, COMPUTING)
    (decision,) = [d for d in core.decisions if d.stage == 1]
    assert decision.placement.lane is INLINE


def test_results_may_be_much_larger_than_those_that_were_waited_for() -> None:
    """Where there is no room for that no more are begun than there are cores."""
    large = replace(WAITING, out_bytes=1e6)
    limits = Limits(memory_limit_bytes=10**8)
    _, actions = begin_recalled(984, large, COMPUTING, limits=limits)
    assert len([action for action in actions if isinstance(action, Run)]) == 2


def thread_batches(n_stages: int) -> list[int]:
    """Return the sizes of the batches that threads get of 5000 tasks that wait."""
    graph = Graph(
        dependencies=[],
        stage_of=[],
        n_stages=n_stages,
        wanted=frozenset(),
        is_open=True,
    )
    core = Scheduling(graph, machine(), Limits(), is_streamed=True)
    n_more = dict.fromkeys(range(1, n_stages), 500)
    actions = core.handle(Added([((), 0)] * 5000, n_more))
    sizes: list[int] = []
    while actions:
        events: list[Event] = []
        for action in actions:
            match action:
                case StartWorkers():
                    events += map(WorkerReady, action.workers)
                case Run():
                    if action.worker > SIDE:
                        sizes.append(len(action.tasks))
                    outcomes = [Outcome(t, 0.02, 0.0, 10) for t in action.tasks]
                    events.append(BatchDone(action.worker, outcomes))
        actions = core.handle(*events)
    return sizes


def test_what_others_wait_for_comes_one_by_one() -> None:
    """As long as there is a stage that hasn't begun; otherwise batches are full."""
    assert max(thread_batches(n_stages=1)) > 1
    assert set(thread_batches(n_stages=2)) == {1}
