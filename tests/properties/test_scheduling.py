"""The core against an edge that answers in any order, and fails in every way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from choices import Choices, choices
from hypothesis import given, settings

from amorsize_dask.core.events import (
    CALLER,
    SIDE,
    Action,
    Away,
    BatchDone,
    CallerGrown,
    Cut,
    Drop,
    Event,
    GiveUp,
    Glimpse,
    Immovable,
    MemoryLeft,
    Retire,
    Run,
    Spill,
    SpillFailed,
    Split,
    StartFailed,
    StartWorkers,
    Taken,
    Unshippable,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.experience import Experience
from amorsize_dask.core.graph import CUT_SLACK, Graph
from amorsize_dask.core.model import (
    CALLER_LANES,
    Cluster,
    Costs,
    Lane,
    Limits,
    Machine,
)
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.retiring import LEAK_BYTES
from amorsize_dask.core.scheduling import ALLOWED_FAILURES, Scheduling
from amorsize_dask.core.workers import MAX_DEPTH, MOST_DEPTH

LANE_SETS = [
    (Lane.INLINE, Lane.THREADS, Lane.PROCESSES),
    tuple(Lane),
    (Lane.INLINE, Lane.PROCESSES),
    (Lane.INLINE, Lane.CLUSTER),
    (Lane.CLUSTER,),
    (Lane.THREADS, Lane.PROCESSES),
    (Lane.INLINE, Lane.THREADS),
    (Lane.INLINE,),
    (Lane.THREADS,),
    (Lane.PROCESSES,),
]


def choose_graph(chosen: Choices) -> Graph:
    """Choose a graph of up to four stages, one of which may be bookkeeping."""
    n, n_stages = 1 + chosen.below(25), 1 + chosen.below(4)
    most = chosen.of([0, 1, 3])
    may_cut = chosen.below(2)
    caller_stages = {chosen.below(n_stages)} if chosen.below(3) == 1 else set()
    if may_cut:
        caller_stages.add(n_stages)
    # Tasks that can be cut are no chains.
    may_split = not may_cut and chosen.below(2)
    tails = {stage: n_stages + stage for stage in range(n_stages * may_split)}
    return Graph(
        dependencies=[
            chosen.some_below(task, most) if task else [] for task in range(n)
        ],
        stage_of=[chosen.below(n_stages) for _ in range(n)],
        n_stages=n_stages + may_cut + len(tails),
        wanted=frozenset(task for task in range(n) if chosen.below(2)),
        caller_stages=frozenset(caller_stages),
        n_items=[1 + chosen.below(2) * chosen.below(9) for _ in range(n * may_cut)],
        rest_stage=n_stages if may_cut else None,
        tail_stage=tails,
        stage_lanes=choose_stage_lanes(chosen, n_stages, tails),
    )


def choose_stage_lanes(
    chosen: Choices, n_stages: int, tails: dict[int, int]
) -> dict[int, tuple[Lane, ...]]:
    """Choose lanes for some stages, as a user may."""
    if chosen.below(3):
        return {}
    lanes = {
        stage: chosen.of(LANE_SETS) for stage in range(n_stages) if chosen.below(2)
    }
    return lanes | {tails[n]: said for n, said in lanes.items() if n in tails}


def choose_limits(chosen: Choices) -> Limits:
    """Choose what a user may allow."""
    lanes = chosen.of(LANE_SETS)
    return Limits(
        lanes=lanes,
        isolate=chosen.below(3) == 1 and lanes != (Lane.INLINE,),
        max_workers=chosen.of([None, 1, 2, 3]),
        max_batch_size=chosen.of([None, 1, 2]),
        memory_limit_bytes=chosen.of([None, 5 * 10**6, 10**8]),
        allow_oversized=bool(chosen.below(2)),
    )


def choose_machine(chosen: Choices) -> Machine:
    """Choose a machine of few cores."""
    n_cores = chosen.of([1, 2, 4])
    return Machine(
        n_cores=n_cores,
        n_physical_cores=max(1, n_cores // chosen.of([1, 2])),
        memory_bytes=10**9,
        costs=Costs(boot_first_s=chosen.of([1e-3, 0.35])),
        cluster=Cluster(
            n_workers=2,
            n_threads=chosen.of([2, 6]),
            n_cores=chosen.of([1, 8]),
            memory_bytes=chosen.of([10**7, 10**10]),
            round_trip_s=chosen.of([1e-3, 0.1]),
            batch_s=chosen.of([1e-4, 1e-2]),
        ),
    )


def choose_recalled(chosen: Choices, graph: Graph) -> dict[int, Experience]:
    """Choose what earlier runs have shown of some stages, true or not."""
    return {
        number: Experience(
            n_items=chosen.of([1, 7, 100]),
            mean_s=chosen.of([0.0, 1e-6, 1e-3, 0.3]),
            std_s=chosen.of([0.0, 1e-3]),
            cpu_fraction=chosen.of([0.0, 1.0]),
            gil_fraction=chosen.of([None, 0.0, 1.0]),
            out_bytes=chosen.of([0.0, 1e6, 1e9]),
            peak_bytes=chosen.of([0.0, 1e9]),
        )
        for number in range(graph.n_stages)
        if chosen.below(3) == 1
    }


class Trouble:
    """What may go wrong in a run, and how often it still will; often nothing does."""

    def __init__(self, chosen: Choices) -> None:
        self.n_losses = chosen.of([0, 0, 1, 3, 9])
        self.n_boot_losses = chosen.of([0, 0, 1, 5])
        self.broken_lanes = chosen.of(
            [(), (), (Lane.PROCESSES,), (Lane.THREADS,), (Lane.CLUSTER,)]
        )
        # What a cluster has lost before it says that a batch is lost.
        self.n_lost_each = chosen.of([1, 4])
        self.unshippable_tasks = set(chosen.some_below(25, 2))
        self.unshippable_results = set(chosen.some_below(25, 2))
        self.immovable = set(chosen.some_below(25, 2))
        self.n_failures = chosen.of([0, 0, 2, 9])
        # What others leave of the memory, now and then.
        self.left_bytes = chosen.of([(), (), (0, 10**9), (10**6, 10**7, 10**8)])


@dataclass
class FakeWorker:
    """A worker as the edge knows it."""

    lane: Lane
    is_up: bool = False
    batches: deque[list[int]] = field(default_factory=deque)


class FakeEdge:
    """Does what the core says, checks that it may say it, and answers as it is told."""

    def __init__(self, chosen: Choices) -> None:
        self.graph = self.make_graph(chosen)
        self.wanted = set(self.graph.wanted)
        # What is known of tasks, parts included.
        self.dependencies = [list(needed) for needed in self.graph.dependencies]
        self.stage_of = list(self.graph.stage_of)
        self.n_items = list(self.graph.n_items)
        self.limits = choose_limits(chosen)
        self.trouble = Trouble(chosen)
        self.seconds = chosen.of([0.0, 1e-5, 1e-3, 0.02, 1.0])
        self.cpu_fraction = chosen.of([0.0, 0.5, 1.0])
        self.gil_fraction = chosen.of([None, 0.0, 1.0])
        self.out_bytes = chosen.of([0, 10**6, 3 * 10**7, 10**9])
        self.peak_bytes = chosen.of([None, None, 10**7])
        self.spills = chosen.of([True, True, False])
        self.is_streamed = self.graph.is_open or bool(chosen.below(2))
        self.choose = chosen.below
        self.core = Scheduling(
            self.graph,
            choose_machine(chosen),
            self.limits,
            n_warm=chosen.below(3),
            is_streamed=self.is_streamed,
            recalled=choose_recalled(chosen, self.graph),
        )
        allowed = self.limits.allowed_lanes
        self.workers = {CALLER: FakeWorker(Lane.INLINE, is_up=True)}
        side = next((lane for lane in allowed if lane in CALLER_LANES), None)
        if side is not None and len(allowed) > 1:
            self.workers[SIDE] = FakeWorker(side, is_up=True)
        self.finished: set[int] = set()
        self.dropped: set[int] = set()
        self.taken: set[int] = set()
        self.on_disk: set[int] = set()
        self.blamed: dict[int, int] = {}
        self.on_last_try: set[int] = set()
        self.leaks = chosen.of([False, False, True])
        self.leaked: dict[int, int] = {}
        self.n_refused = 0
        self.n_split = 0
        self.n_boot_losses = 0
        self.is_closed = False
        self.gave_up: GiveUp | None = None

    def make_graph(self, chosen: Choices) -> Graph:
        """Choose what is run."""
        return choose_graph(chosen)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.core.is_finished

    @property
    def is_user_due(self) -> bool:
        """Whether it goes on with what the user does."""
        return False

    def run(self) -> None:
        """Run until the core is finished or gives up."""
        events: list[Event] = []
        for _ in range(2000):
            actions = self.core.handle(*events)
            gave_up = [a for a in actions if isinstance(a, GiveUp)]
            if gave_up:
                self.gave_up = gave_up[0]
                return
            self.core.validate()
            self.expect_room(actions)
            self.expect_quiet(actions)
            events = self.perform(actions)
            if self.is_done:
                return
            workers = self.workers.values()
            is_under_way = any(w.batches or not w.is_up for w in workers)
            assert events or is_under_way or self.is_user_due, "the core is stuck"
            # Whatever has come meanwhile is handled with it.
            for _ in range(self.choose(3) + (not events)):
                events += self.wait()
            events += self.take()
            if self.trouble.left_bytes and not self.choose(3):
                n = self.choose(len(self.trouble.left_bytes))
                events.append(MemoryLeft(self.trouble.left_bytes[n]))
                events.append(CallerGrown(self.trouble.left_bytes[-1 - n]))
        raise AssertionError("the core goes round in circles")

    # -- doing --------------------------------------------------------------------

    def perform(self, actions: list[Action]) -> list[Event]:
        """Carry out actions, as `execute.loop` does."""
        events: list[Event] = []
        for i, action in enumerate(actions):
            match action:
                case Run():
                    assert action.worker != CALLER or i == len(actions) - 1
                    events += self.give(action)
                case Cut():
                    self.cut(action)
                case Split():
                    self.split(action)
                case StartWorkers():
                    events += self.start(action)
                case Retire():
                    worker = self.workers.pop(action.worker)
                    assert worker.is_up
                    assert not worker.batches
                    assert worker.lane is Lane.PROCESSES
                    assert self.leaked[action.worker] >= LEAK_BYTES
                case Drop():
                    self.drop(action.tasks)
                case Spill():
                    events += self.spill(action.tasks)
        return events

    def expect_room(self, actions: list[Action]) -> None:
        """Check that nothing is started beside other tasks that has no room."""
        runs = [action for action in actions if isinstance(action, Run)]
        in_flight = [batch for w in self.workers.values() for batch in w.batches]
        is_booking = any(
            self.stage_of[task] in self.graph.caller_stages
            for run in runs
            for task in run.tasks
            if task < len(self.stage_of)
        )
        if runs and not is_booking and len(runs) + len(in_flight) > 1:
            # A task may have some more items than there is room for before it is cut.
            slack_bytes = CUT_SLACK * max(self.n_items, default=0) * self.out_bytes
            assert self.core.budget.room_bytes > -1 - slack_bytes

    def expect_quiet(self, actions: list[Action]) -> None:
        """Check that what memory has ended twice has it for itself."""
        if self.on_last_try <= self.finished:
            return
        new = [action for action in actions if isinstance(action, Run)]
        # Bookkeeping is done by the caller meanwhile.
        n_new = sum(run.worker != CALLER for run in new)
        n_old = sum(bool(worker.batches) for worker in self.workers.values())
        assert n_new <= (0 if n_old else 1)

    def spill(self, tasks: list[int]) -> list[Event]:
        """Move results to disk: those that are there, and not in use."""
        in_use = {
            dependency
            for worker in self.workers.values()
            for batch in worker.batches
            for task in batch
            for dependency in self.dependencies[task]
        }
        for task in tasks:
            assert task in self.finished
            assert task not in self.dropped
            assert task not in self.on_disk
            assert task not in in_use
            if self.is_streamed and task in self.wanted:
                assert any(
                    task in needed and user not in self.finished
                    for user, needed in enumerate(self.dependencies)
                )
        if not self.spills:
            return [SpillFailed(tasks)]
        self.on_disk.update(tasks)
        return []

    def take(self) -> list[Event]:
        """Let the user take some of the results that are there."""
        if not self.is_streamed:
            return []
        there = sorted(self.finished & self.wanted - self.taken)
        some = there[: self.choose(len(there) + 1)]
        self.taken.update(some)
        away = [Away([0.0, 0.1, 3.0][self.choose(3)]) for _ in some[:1]]
        return [Taken(some), *away]

    def cut(self, action: Cut) -> None:
        """Make a task of some of the items that another one still has."""
        task, n_original = action.task, len(self.graph)
        assert task < n_original
        assert task not in self.finished
        assert action.part == len(self.dependencies)
        assert 1 <= action.n_items <= self.n_items[task]
        self.dependencies.append(list(self.graph.dependencies[task]))
        self.dependencies[task].append(action.part)
        self.stage_of.append(self.stage_of[task])
        self.n_items[task] -= action.n_items
        if not self.n_items[task]:
            assert self.graph.rest_stage is not None
            self.stage_of[task] = self.graph.rest_stage

    def split(self, action: Split) -> None:
        """Make a task of the first links of one that hasn't begun."""
        task = action.task
        assert action.n_links == 1
        assert action.part == len(self.dependencies)
        assert task not in self.finished
        assert all(task not in b for w in self.workers.values() for b in w.batches)
        self.dependencies.append(self.dependencies[task])
        self.dependencies[task] = [action.part]
        self.stage_of.append(self.stage_of[task])
        self.stage_of[task] = self.graph.tail_stage[self.stage_of[task]]
        self.n_split += 1

    def give(self, action: Run) -> list[Event]:
        """Take a batch in, if its worker may have it."""
        worker, tasks = self.workers[action.worker], action.tasks
        assert tasks
        assert worker.is_up
        most = MAX_DEPTH if action.worker > SIDE else 1
        if self.is_streamed and most > 1:
            most = MOST_DEPTH
        assert len(worker.batches) < most
        assert not action.watched or action.worker == SIDE
        if self.limits.max_batch_size is not None:
            assert len(tasks) <= self.limits.max_batch_size
        in_flight = {t for w in self.workers.values() for b in w.batches for t in b}
        for task in tasks:
            self.expect_runnable(task, action.worker)
        assert not in_flight & set(tasks)
        if worker.lane not in CALLER_LANES:
            refused = self.trouble.unshippable_tasks.intersection(tasks)
            if refused:
                self.n_refused += 1
                return [Unshippable(action.worker, [min(refused)], "task", "no")]
        else:
            for task in tasks:
                self.on_disk.difference_update(self.dependencies[task])
        worker.batches.append(list(tasks))
        if action.worker == CALLER:
            return self.finish(CALLER)
        return []

    def expect_runnable(self, task: int, number: int) -> None:
        """Check that this task may be run now, and there."""
        assert task not in self.finished
        for dependency in self.dependencies[task]:
            assert dependency in self.finished
            assert dependency not in self.dropped
        is_outside = self.workers[number].lane not in CALLER_LANES
        if self.stage_of[task] in self.graph.caller_stages:
            assert not is_outside
        elif self.blamed.get(task):
            assert is_outside, "a task that kills its worker must not run in the caller"
        elif not self.is_where_wanted(self.stage_of[task], number):
            # None of the lanes can be had, or the task can't go there.
            assert self.is_closed or self.n_refused or self.trouble.immovable
        elif self.limits.isolate:
            assert self.workers[number].lane in self.limits.allowed_lanes
            assert number > SIDE

    def is_where_wanted(self, stage: int, number: int) -> bool:
        """Whether a worker is of a lane that the user has asked for."""
        said = self.graph.stage_lanes.get(stage, tuple(Lane))
        allowed = set(said) & set(self.limits.allowed_lanes)
        lanes = {self.workers[number].lane}
        if number == SIDE and Lane.INLINE not in allowed:
            lanes.add(Lane.THREADS)
        return not allowed or bool(allowed & lanes)

    def start(self, action: StartWorkers) -> list[Event]:
        """Start workers; some are up at once."""
        if action.lane in self.trouble.broken_lanes:
            self.is_closed = True
            return [StartFailed(action.lane, action.workers, "broken")]
        assert action.lane in self.limits.allowed_lanes
        for number in action.workers:
            assert number not in self.workers
            self.workers[number] = FakeWorker(action.lane)
        n = sum(w.lane is action.lane for i, w in self.workers.items() if i > SIDE)
        if self.limits.max_workers is not None:
            assert n <= self.limits.max_workers
        if action.lane not in CALLER_LANES and self.choose(2):
            return []
        return [self.set_up(number) for number in action.workers]

    def set_up(self, number: int) -> Event:
        """Let a worker be up."""
        self.workers[number].is_up = True
        self.n_boot_losses = 0
        return WorkerReady(number)

    def drop(self, tasks: list[int]) -> None:
        """Forget values; only those that no one needs any more."""
        for task in tasks:
            assert task in self.finished
            assert task not in self.dropped
            assert task not in self.graph.wanted - self.taken
            self.dropped.add(task)
            self.on_disk.discard(task)

    # -- what happens -----------------------------------------------------------

    def wait(self) -> list[Event]:
        """Choose one of the things that can happen next."""
        trouble = self.trouble
        booting = [i for i, w in self.workers.items() if not w.is_up]
        busy = [i for i, w in self.workers.items() if w.batches]
        mortal = [
            i
            for i, w in self.workers.items()
            if i > SIDE
            and w.lane not in CALLER_LANES
            and (trouble.n_losses if w.is_up else trouble.n_boot_losses)
        ]
        choices = [("ready", i) for i in booting] + [("done", i) for i in busy]
        choices += [("lost", i) for i in mortal]
        if SIDE in busy:
            choices.append(("glimpse", SIDE))
        if not choices:
            return []
        kind, number = choices[self.choose(len(choices))]
        if kind == "ready":
            return [self.set_up(number)]
        if kind == "done":
            return self.finish(number)
        if kind == "lost":
            return self.lose(number)
        fraction = min(self.gil_fraction or 0.0, self.cpu_fraction)
        return [Glimpse(max(0.03, self.seconds / 2), self.cpu_fraction, fraction)]

    def finish(self, number: int) -> list[Event]:
        """End a worker's oldest batch, or on a cluster any."""
        worker, trouble = self.workers[number], self.trouble
        position = 0
        if worker.lane is Lane.CLUSTER:
            position = self.choose(len(worker.batches))
        batch = worker.batches[position]
        del worker.batches[position]
        events: list[Event] = []
        refused: set[int] = set()
        if worker.lane not in CALLER_LANES:
            refused = trouble.unshippable_results.intersection(batch)
            self.n_refused += len(refused)
            for task in refused:
                self.blamed.pop(task, None)
            events += [
                Unshippable(number, [task], "result", "no") for task in sorted(refused)
            ]
        elif number == SIDE:
            stuck = sorted(trouble.immovable.intersection(batch))
            self.n_refused += len(stuck)
            events += [Immovable(task, "no") for task in stuck]
        tasks = [task for task in batch if task not in refused]
        is_partial = bool(trouble.n_failures) and self.choose(3) == 1
        if is_partial:
            # One has raised, and is tried again with those after it.
            trouble.n_failures -= 1
            tasks = tasks[: self.choose(len(tasks) + 1)]
        for task in tasks:
            assert task not in self.finished
            self.finished.add(task)
        outcomes = [
            Outcome(
                task,
                self.seconds,
                self.seconds * self.cpu_fraction,
                self.out_bytes,
                self.peak_bytes,
                is_away=worker.lane is Lane.CLUSTER and self.out_bytes > 0,
            )
            for task in tasks
        ]
        self.on_disk.update(outcome.task for outcome in outcomes if outcome.is_away)
        gil_fraction = self.gil_fraction if number == SIDE else None
        done = BatchDone(
            number,
            outcomes,
            gil_fraction,
            is_partial,
            in_bytes=100 * len(batch),
            position=position,
        )
        if worker.lane is Lane.PROCESSES and self.leaks:
            leaked = self.leaked.get(number, 0) + self.choose(3) * LEAK_BYTES
            done.grown_bytes = self.leaked[number] = leaked
        if number == SIDE and self.graph.tail_stage:
            # It waits and then computes, or it doesn't.
            half_s = self.seconds / 2
            done.links = [(half_s, 0.0), (half_s, self.choose(2) * half_s)]
        events.append(done)
        return events

    def lose(self, number: int) -> list[Event]:
        """Let a worker process die."""
        worker = self.workers.pop(number)
        if worker.is_up:
            self.trouble.n_losses -= 1
        else:
            self.trouble.n_boot_losses -= 1
            self.n_boot_losses += 1
            self.is_closed |= self.n_boot_losses == ALLOWED_FAILURES
        is_memory_likely = bool(self.choose(2))
        position, n_lost = 0, 1
        if worker.lane is Lane.CLUSTER:
            is_memory_likely = False
            n_lost = self.trouble.n_lost_each
            # It may have been closed, which no batch is to blame for.
            position = self.choose(len(worker.batches) + 1) - 1
        if worker.batches and position >= 0:
            for task in worker.batches[position]:
                self.blamed[task] = self.blamed.get(task, 0) + n_lost
                if n_lost > 1 or (
                    is_memory_likely and self.blamed[task] >= ALLOWED_FAILURES - 1
                ):
                    self.on_last_try.add(task)
        grown_bytes = self.choose(3) * 10**7
        return [
            WorkerLost(
                number, "SIGKILL", is_memory_likely, grown_bytes, position, n_lost
            )
        ]


@given(choices(700))
@settings(max_examples=600, deadline=None)
def test_every_task_is_finished_once(chosen: Choices) -> None:
    """Whatever happens, every task is finished once, or the core says why it can't."""
    edge = FakeEdge(chosen)
    edge.run()
    if edge.gave_up is None:
        assert edge.finished == set(range(len(edge.dependencies)))
        assert edge.dropped <= edge.finished - (edge.wanted - edge.taken)
        if not edge.is_streamed:
            assert edge.dropped == edge.finished - edge.wanted
    elif edge.gave_up.kind == "memory":
        assert not edge.limits.allow_oversized
        assert edge.limits.memory_limit_bytes is not None
        alone_bytes = max(edge.out_bytes, edge.peak_bytes or 0)
        assert alone_bytes > edge.limits.memory_limit_bytes
    elif edge.gave_up.kind == "lost":
        assert edge.gave_up.n_attempts <= edge.blamed[edge.gave_up.task]
        if edge.gave_up.n_attempts < ALLOWED_FAILURES:
            # It can't be tried again where it does no harm.
            assert edge.n_refused or edge.is_closed
    else:
        # Only where no lane in the caller may take over.
        assert edge.limits.isolate or edge.blamed
        assert edge.gave_up.task not in edge.finished
