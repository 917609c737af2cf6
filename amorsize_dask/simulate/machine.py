"""Runs the core on a simulated machine, as `execute.loop` runs it on a real one.

Covers: what takes time. Cores are shared by all that compute, the GIL by the threads of
the calling process; workers boot, messages travel, and the calling thread, which is
alone in sending and receiving them, does one thing at a time: what happens while it is
busy waits for it. Memory may run out, and then a worker is killed. Does not cover
caches or disks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import assert_never

from amorsize_dask.core.events import (
    CALLER,
    SIDE,
    Action,
    BatchDone,
    Cut,
    Drop,
    Event,
    GiveUp,
    Glimpse,
    Retire,
    Run,
    Spill,
    Split,
    StartFailed,
    StartWorkers,
    Unshippable,
    Weigh,
    Weighed,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.experience import NOTHING_KNOWN, Experience
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import (
    CALLER_LANES,
    Decision,
    Lane,
    Limits,
    Machine,
)
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.simulate.processor import Processor
from amorsize_dask.simulate.work import NO_FAULTS, AnyTask, Faults
from amorsize_dask.simulate.worker import Meter, SimulatedWorker

#: Seconds after which the core gets a first glimpse of what the side thread runs;
#: further ones when it has run twice as long as at the last. As `execute.side` has it.
GLIMPSE_S = 0.03

#: Seconds of a watched batch below which its GIL share is not known: the watcher has
#: not woken up often enough.
SHORTEST_WATCH_S = 0.002

#: Seconds of a watched task from which on its result's size is measured. As
#: `execute.sizing` has it.
SIZE_S = 0.0005

_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRun:
    """What came of a simulated run."""

    #: Seconds from the start to the last result, or until the core gave up.
    makespan_s: float
    #: Tasks that were run, and their seconds by the wall clock. Those that were lost
    #: with their worker count as well.
    n_tasks: dict[Lane, int]
    seconds: dict[Lane, float]
    #: Most workers that each lane had at once; the caller and the thread beside it
    #: are not counted.
    n_workers: dict[Lane, int]
    #: Most bytes that running tasks and results in memory held together.
    peak_bytes: int
    #: Batches that were handed out.
    n_batches: int
    #: Worker processes that were killed because memory had run out.
    n_kills: int
    #: Worker processes that the core had ended because they had grown.
    n_retired: int
    #: The core's decisions, and the seconds at which it took them.
    decisions: list[Decision]
    decision_times: list[float]
    #: What was predicted for the makespan when a tenth of the work was done, and when
    #: that was; ``None`` if the run was over before.
    early_predicted_s: float | None
    early_at_s: float | None
    #: Why the core gave up; ``None`` if it didn't.
    gave_up: GiveUp | None


def simulate(
    graph: Graph,
    tasks: Sequence[AnyTask],
    machine: Machine,
    limits: Limits = _NO_LIMITS,
    *,
    n_warm: int = 0,
    faults: Faults = NO_FAULTS,
    recalled: Mapping[int, Experience] = NOTHING_KNOWN,
) -> SimulatedRun:
    """Run a graph of simulated tasks on a simulated machine.

    The core that decides is the one that decides for real lanes. Nothing in here is
    random: the same arguments give the same run.

    Parameters
    ----------
    graph : Graph
        The tasks' dependencies and stages.
    tasks : sequence of SimulatedTask or SimulatedPartition
        What each task takes.
    machine : Machine
        Cores and costs. Tasks that compute share the physical cores. The core is told
        the same costs.
    limits : Limits, optional
        What the user allows.
    n_warm : int, optional
        Worker processes that an earlier run has left, >= 0.
    faults : Faults, optional
        What goes wrong.
    recalled : mapping of int to Experience, optional
        For stages that are known from earlier runs what these have shown.

    Returns
    -------
    SimulatedRun
        What it took.

    Raises
    ------
    ValueError
        If there aren't as many simulated tasks as tasks in the graph.
    RuntimeError
        If the core waits for something that will never happen.
    """
    if len(tasks) != len(graph):
        raise ValueError(f"{len(tasks)} simulated tasks for a graph of {len(graph)}")
    core = Scheduling(graph, machine, limits, n_warm=n_warm, recalled=recalled)
    edge = _SimulatedMachine(core, tasks, graph, machine, n_warm, faults)
    return edge.run()


class _SimulatedMachine:
    """The edge of one simulated run: its workers and its calling thread."""

    def __init__(
        self,
        core: Scheduling,
        tasks: Sequence[AnyTask],
        graph: Graph,
        machine: Machine,
        n_warm: int,
        faults: Faults,
    ) -> None:
        self._core = core
        self._tasks = list(tasks)
        self._n_items = list(graph.n_items)
        self._stage_of = list(graph.stage_of)
        self._costs = machine.costs
        self._n_warm = n_warm
        self._faults = faults
        self._n_deaths_left = dict(faults.deadly)
        self._cluster = machine.cluster
        n_far_cores = 1 if machine.cluster is None else machine.cluster.n_cores
        self._processor = Processor(machine.n_physical_cores, n_far_cores)
        self._meter = Meter()
        self._workers: dict[int, SimulatedWorker] = {}
        #: Worker processes in the order in which they were started.
        self._processes: list[int] = []
        self._boot_end_s = 0.0
        self._n_most: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._n_batches = 0
        #: What has happened and not been handled, and what receiving it takes.
        self._inbox: deque[tuple[float, list[Event]]] = deque()
        self._is_watched = False
        self._gil_fraction: float | None = None
        self._glimpse_s = inf
        self._n_kills = 0
        self._decision_times: list[float] = []
        self._outlook_s: float | None = None
        self._gave_up: GiveUp | None = None
        self._add_worker(CALLER, Lane.INLINE)
        self._add_worker(SIDE, Lane.INLINE)
        for seconds, nth in faults.deaths:
            self._processor.timers.add(seconds, partial(self._kill_nth, nth))

    def run(self) -> SimulatedRun:
        """Run until every task is finished or the core gives up."""
        actions = self._handle([])
        while not self._core.is_finished:
            events = self._perform(actions)
            if self._gave_up is not None:
                break
            actions = self._handle(events or self._wait())
        return SimulatedRun(
            makespan_s=self._processor.now_s,
            n_tasks=self._meter.n_tasks,
            seconds=self._meter.seconds,
            n_workers=self._n_most,
            peak_bytes=self._meter.peak_bytes,
            n_batches=self._n_batches,
            n_kills=self._n_kills,
            n_retired=self._core.n_retired,
            decisions=self._core.decisions,
            decision_times=self._decision_times,
            early_predicted_s=None
            if self._core.outlook is None or self._outlook_s is None
            else self._core.outlook.end_s(self._decision_times, self._outlook_s),
            early_at_s=self._outlook_s,
            gave_up=self._gave_up,
        )

    def _handle(self, events: list[Event]) -> list[Action]:
        actions = self._core.handle(*events)
        n_new = len(self._core.decisions) - len(self._decision_times)
        self._decision_times += [self._processor.now_s] * n_new
        if self._outlook_s is None and self._core.outlook is not None:
            self._outlook_s = self._processor.now_s
        return actions

    # -- doing ----------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> list[Event]:
        events: list[Event] = []
        for action in actions:
            match action:
                case Run():
                    events += self._give(action)
                case Cut():
                    self._cut(action)
                case StartWorkers():
                    events += self._start_workers(action)
                case Drop() | Spill():
                    self._meter.drop(action.tasks)
                case Retire():
                    self._retire(action.worker)
                case Weigh():
                    events.append(Weighed(action.stage, self._weigh(action.stage)))
                case Split():
                    raise NotImplementedError("no simulated task is a chain")
                case GiveUp():
                    self._gave_up = action
                    break
                case _:
                    assert_never(action)
        if events:
            # The calling thread may have been busy; see what came meanwhile.
            events += self._receive()
        return events

    def _retire(self, number: int) -> None:
        worker = self._workers.pop(number, None)
        if worker is None:
            # It has died, and that news isn't needed any more.
            lost = next(item for item in self._inbox if _is_loss(item[1], number))
            self._inbox.remove(lost)
        else:
            worker.kill()

    def _cut(self, action: Cut) -> None:
        task, n_left = self._tasks[action.task], self._n_items[action.task]
        part, self._tasks[action.task] = task.cut(action.n_items, n_left)
        self._tasks.append(part)
        self._n_items[action.task] -= action.n_items
        self._n_items.append(action.n_items)
        self._stage_of.append(self._stage_of[action.task])

    def _weigh(self, stage: int) -> dict[int, float]:
        """Return the sizes of a stage's tasks, if there is something to be seen."""
        n_items = self._n_items or [1] * len(self._tasks)
        own = [
            (task, n_items[task])
            for task, number in enumerate(self._stage_of)
            if number == stage and n_items[task]
        ]
        sizes = {task: self._tasks[task].size for task, _ in own}
        return sizes if len({sizes[task] / n for task, n in own}) > 1 else {}

    def _give(self, action: Run) -> list[Event]:
        number, batch = action.worker, action.tasks
        worker = self._workers.get(number)
        if worker is None:
            return []  # It has died, and that news is on its way.
        self._n_batches += 1
        if worker.lane not in CALLER_LANES:
            return self._send(number, worker, batch)
        if number == CALLER:
            worker.give(batch, action.most_s)
            while worker.is_busy:
                self._processor.step()
            return self._receive()
        self._spend(self._costs.hand_off_s / 2)
        if number == SIDE:
            self._is_watched = action.watched
            self._gil_fraction = None
            self._glimpse_s = self._processor.now_s + GLIMPSE_S
        worker.give(batch)
        return []

    def _send(
        self, number: int, worker: SimulatedWorker, batch: list[int]
    ) -> list[Event]:
        refused = [t for t in batch if t in self._faults.unshippable_tasks][:1]
        if refused:
            return [Unshippable(number, refused, "task", "it is marked so")]
        n_bytes = sum(self._tasks[task].in_bytes for task in batch)
        batch_s, _, bytes_per_s = self._costs_of(worker.lane)
        move_s = max(n_bytes / bytes_per_s, self._pack_s(batch) / 2)
        self._spend(batch_s + move_s + self._handling_s(batch) / 2)
        worker.give(batch)
        return []

    def _costs_of(self, lane: Lane) -> tuple[float, float, float]:
        """Return what a batch costs the caller each way, and a worker, and bytes."""
        if lane is Lane.CLUSTER:
            assert self._cluster is not None
            batch_s = self._cluster.batch_s / 2
            # The rest of a round trip is on the way.
            latency_s = max(0.0, self._cluster.round_trip_s / 2 - batch_s)
            return batch_s, latency_s, self._cluster.bytes_per_s
        share_s = self._costs.batch_s / 2
        return share_s, share_s, self._costs.bytes_per_s

    def _handling_s(self, batch: list[int]) -> float:
        """Seconds that tasks cost the caller as objects, and a worker as much."""
        costs = self._costs
        n_items = sum(self._n_items[t] for t in batch) if self._n_items else 0
        return len(batch) * costs.task_s + n_items * costs.item_s

    def _pack_s(self, batch: list[int]) -> float:
        """Seconds that pickling what goes to tasks and comes back takes."""
        return sum(self._tasks[task].pack_s for task in batch)

    def _start_workers(self, action: StartWorkers) -> list[Event]:
        lane, numbers = action.lane, action.workers
        if lane in self._faults.broken_lanes:
            return [StartFailed(lane, numbers, "it is marked so")]
        for number in numbers:
            self._add_worker(number, lane)
        n = sum(worker.lane is lane for worker in self._workers.values())
        if lane is Lane.THREADS:
            self._spend(len(numbers) * self._costs.thread_start_s)
            self._n_most[lane] = max(self._n_most[lane], n)
            return [WorkerReady(number) for number in numbers]
        self._n_most[lane] = max(self._n_most[lane], n)
        if lane is Lane.CLUSTER:
            return [WorkerReady(number) for number in numbers]
        return self._boot(numbers)

    def _boot(self, numbers: tuple[int, ...]) -> list[Event]:
        timers = self._processor.timers
        events: list[Event] = []
        for number in numbers:
            self._processes.append(number)
            if self._n_warm:
                self._n_warm -= 1
                events.append(WorkerReady(number))
                continue
            is_first = len(self._processes) == 1
            costs = self._costs
            boot_s = costs.boot_first_s if is_first else costs.boot_next_s
            self._boot_end_s = max(self._boot_end_s, timers.now_s) + boot_s
            timers.add(
                self._boot_end_s - timers.now_s, partial(self._become_ready, number)
            )
        return events

    def _add_worker(self, number: int, lane: Lane) -> None:
        costs = self._costs
        latency_s, bytes_per_s = 0.0, inf
        if lane not in CALLER_LANES:
            _, latency_s, bytes_per_s = self._costs_of(lane)
        elif number != CALLER:
            latency_s = costs.hand_off_s / 4
        self._workers[number] = SimulatedWorker(
            lane,
            self._processor,
            self._tasks,
            self._meter,
            latency_s=latency_s,
            bytes_per_s=bytes_per_s,
            answer=partial(self._answer, number),
            is_deadly=partial(self._ends_worker, number),
            die=partial(self._kill, number),
            begun=self._mind_memory,
        )

    # -- waiting --------------------------------------------------------------------

    def _spend(self, seconds: float) -> None:
        """Let the calling thread be busy."""
        until_s = self._processor.now_s + seconds
        while self._processor.step(until_s):
            pass

    def _wait(self) -> list[Event]:
        """Let time pass until something has happened."""
        while not self._inbox:
            if self._processor.now_s >= self._glimpse_s:
                return [self._glimpse()]
            if not self._processor.step(self._glimpse_s) and self._glimpse_s == inf:
                raise RuntimeError("the core waits for something that never happens")
        return self._receive()

    def _receive(self) -> list[Event]:
        """Take in all that has happened by now."""
        events: list[Event] = []
        for _ in range(len(self._inbox)):
            seconds, new_events = self._inbox.popleft()
            self._spend(seconds)
            events += new_events
        return events

    def _glimpse(self) -> Glimpse:
        side = self._workers[SIDE]
        cpu_fraction, gil_fraction = side.seen_so_far()
        self._glimpse_s = self._processor.now_s + side.batch_s
        if self._is_watched and self._gil_fraction is None:
            # From now on the caller has others to look after as well.
            self._gil_fraction = gil_fraction
        return Glimpse(side.batch_s, cpu_fraction, self._gil_fraction)

    # -- what happens ---------------------------------------------------------------

    def _become_ready(self, number: int) -> None:
        if number in self._workers:
            self._inbox.append((0.0, [WorkerReady(number)]))

    def _answer(self, number: int, batch: list[int], outcomes: list[Outcome]) -> None:
        worker, costs = self._workers[number], self._costs
        events: list[Event] = []
        done = BatchDone(number, outcomes)
        seconds = 0.0
        if worker.lane not in CALLER_LANES:
            refused = self._faults.unshippable_results.intersection(batch)
            events += [
                Unshippable(number, [task], "result", "it is marked so")
                for task in sorted(refused)
            ]
            done.outcomes = [out for out in outcomes if out.task not in refused]
            done.grown_bytes = worker.leaked_bytes
            done.in_bytes = sum(self._tasks[task].in_bytes for task in batch)
            done.pack_s = self._pack_s(batch)
            n_bytes = sum(
                self._tasks[out.task].out_bytes for out in outcomes if not out.is_away
            )
            batch_s, _, bytes_per_s = self._costs_of(worker.lane)
            seconds = batch_s + max(n_bytes / bytes_per_s, self._pack_s(batch) / 2)
            seconds += self._handling_s(batch) / 2
        elif number != CALLER:
            seconds = costs.hand_off_s / 4
        else:
            done.is_partial = len(outcomes) < len(batch)
        if number == SIDE:
            self._glimpse_s = inf
            if self._is_watched:
                self._measure(done, worker)
        events.append(done)
        self._inbox.append((seconds, events))

    def _measure(self, done: BatchDone, side: SimulatedWorker) -> None:
        done.gil_fraction = self._gil_fraction
        if done.gil_fraction is None and side.batch_s >= SHORTEST_WATCH_S:
            done.gil_fraction = side.seen_so_far()[1]
        if done.outcomes[0].seconds >= SIZE_S:
            done.pack_s = self._pack_s([out.task for out in done.outcomes])
        done.outcomes = [
            outcome._replace(out_bytes=self._tasks[outcome.task].out_bytes)
            if outcome.seconds >= SIZE_S
            else outcome
            for outcome in done.outcomes
        ]

    def _ends_worker(self, number: int, task: int) -> bool:
        n_left = self._n_deaths_left.get(task, 0)
        if not n_left or self._workers[number].lane is not Lane.PROCESSES:
            return False
        self._n_deaths_left[task] = n_left - 1
        return True

    def _kill_nth(self, nth: int) -> None:
        if nth < len(self._processes):
            self._kill(self._processes[nth])

    def _mind_memory(self) -> None:
        """Kill the process whose task takes most if all together take too much."""
        most_bytes = self._faults.memory_bytes
        while most_bytes is not None and self._meter.held_bytes > most_bytes:
            n_bytes, number = max(
                (
                    (worker.running_bytes, number)
                    for number, worker in self._workers.items()
                    if worker.lane is Lane.PROCESSES
                ),
                default=(0, CALLER),
            )
            if not n_bytes:
                return  # Others take it, which can't be killed.
            self._n_kills += 1
            self._kill(number, n_bytes, is_memory_likely=True)

    def _kill(
        self, number: int, grown_bytes: int = 0, *, is_memory_likely: bool = False
    ) -> None:
        worker = self._workers.pop(number, None)
        if worker is not None:
            worker.kill()
            lost = WorkerLost(number, "SIGKILL", is_memory_likely, grown_bytes)
            self._inbox.append((0.0, [lost]))


def _is_loss(events: list[Event], number: int) -> bool:
    return any(isinstance(e, WorkerLost) and e.worker == number for e in events)
