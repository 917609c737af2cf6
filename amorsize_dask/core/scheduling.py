r"""The core: events in, actions out, until every task is finished.

Covers: which task goes where, in what batch, and which workers are started. Does not
cover how anything is done, what a value is, or what time it is: `execute.loop` and
`simulate.machine` do what the actions say, and report events.

The life of a stage::

    unknown --- one task, watched ---> placed <--- placed again when twice as many
       \--- forced to one lane ------/   tasks have finished, or a lane has closed

Work first: tasks of a stage that is placed in processes run in the caller until the
workers are up. A task that is all there is to do runs in the calling thread at once.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import nsmallest
from math import ceil
from typing import assert_never

from amorsize_dask.core.batching import choose_batch_size
from amorsize_dask.core.cost import predict
from amorsize_dask.core.events import (
    CALLER,
    SIDE,
    Action,
    BatchDone,
    Drop,
    Event,
    GiveUp,
    Glimpse,
    Immovable,
    Run,
    StartFailed,
    StartWorkers,
    Unshippable,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.graph import Graph, GraphState
from amorsize_dask.core.model import (
    CALLER_LANES,
    Decision,
    Lane,
    Limits,
    Machine,
    Placement,
    Prediction,
    Workload,
)
from amorsize_dask.core.placement import place, place_unmeasured
from amorsize_dask.core.statistics import StageStatistics
from amorsize_dask.core.workers import MAX_DEPTH, Workers

#: Seconds of work that the caller takes at once. Smaller: a hand-over every few tasks;
#: larger: workers that have come up wait for tasks that the caller holds.
CALLER_SLICE_S = 0.02

#: Seconds of work below which the calling thread does a slice itself instead of
#: handing it to the side thread. Smaller: hand-overs that cost as much as the work;
#: larger: workers wait for the calling thread, which is the one that feeds them.
CALLER_THREAD_S = 0.001

#: Bytes of results that one slice of the caller may make, so that short tasks with
#: large results are consumed before the next slice makes more. Smaller: hand-overs;
#: larger: memory that depth-first order would not have needed.
SLICE_BYTES = 16e6

#: Seconds of tasks to watch to know a stage's GIL share. Smaller: a few wake-ups
#: decide, and noise with them; larger: workers start later.
WATCH_S = 0.02

#: Times that a task's worker may die before the run gives up. Dask's
#: `distributed.scheduler.allowed-failures`.
ALLOWED_FAILURES = 3

#: Share of the time that workers take to boot for which a stage must have been at work
#: before they are started. Smaller: a first task that is slow because it imports
#: something starts workers that no one needs; larger: the other cores idle longer.
PATIENCE_FRACTION = 0.25

#: Share of the makespan that moving a placed stage to another lane must save.
#: Smaller: stages move to and fro with the noise; larger: they stay where they crawl.
MOVE_FRACTION = 0.2


class Stage:
    """One stage's statistics and where it has been placed."""

    __slots__ = (
        "barred",
        "n_left",
        "n_recorded",
        "next_look",
        "placement",
        "reasons",
        "sampling",
        "statistics",
        "suspects",
    )

    def __init__(self) -> None:
        self.statistics = StageStatistics()
        self.placement: Placement | None = None
        #: Lanes that this stage can't use, each with a task that couldn't go there or
        #: come back, and what they answered.
        self.barred: dict[Lane, int] = {}
        self.reasons: list[str] = []
        #: Unfinished tasks.
        self.n_left = 0
        #: Those of them that were running when their worker died, and how it ended.
        #: They may be what killed it, so the stage stays out of the calling process
        #: while there are any.
        self.suspects: dict[int, str] = {}
        #: Whether a sample is in flight.
        self.sampling = False
        #: Workers in the last decision that was recorded.
        self.n_recorded = 0
        #: Finished tasks at which to look at the placement again.
        self.next_look = 1


class Scheduling:
    """The state of one run.

    Parameters
    ----------
    graph : Graph
        The tasks.
    machine : Machine
        The measured host.
    limits : Limits
        What the user allows.
    n_warm : int, optional
        Worker processes that an earlier run has left, ready to be taken up.

    Attributes
    ----------
    stages : list of Stage
        One for each stage of the graph.
    decisions : list of Decision
        Every placement that was taken, in order.
    """

    def __init__(
        self, graph: Graph, machine: Machine, limits: Limits, *, n_warm: int = 0
    ) -> None:
        self.machine = machine
        self.limits = limits
        self.decisions: list[Decision] = []
        self.stages = [Stage() for _ in range(graph.n_stages)]
        self._graph = GraphState(graph)
        self._stage_of = graph.stage_of
        self._allowed = limits.allowed_lanes
        self._n_warm = n_warm
        # Lanes in which no more workers can be started, and why; those of them that
        # have none left; and the stages that no lane is left for.
        self._unstartable: dict[Lane, str] = {}
        self._closed: set[Lane] = set()
        self._stranded: set[int] = set()
        self._n_lost_at_boot = 0
        self._workers = Workers(self._side_lane())
        # The stages of what the side thread is running.
        self._side_stages: set[int] = set()
        # For the caller's two, whether its batch began among busy threads.
        self._began_crowded: dict[int, bool] = {}
        # Tasks whose worker died while they were in flight, and how often.
        self._n_losses: dict[int, int] = {}
        self._caller_stages = graph.caller_stages
        self._placed: dict[Lane, set[int]] = {lane: set() for lane in Lane}
        self._unplaced = set(range(graph.n_stages))
        self._actions: list[Action] = []
        for stage in graph.stage_of:
            self.stages[stage].n_left += 1
        for number in range(graph.n_stages):
            self._place(number)

    # -- the two doors ------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether every task is finished."""
        return self._graph.is_finished

    @property
    def n_finished(self) -> int:
        """How many tasks are finished."""
        return self._graph.n_finished

    def handle(self, *events: Event) -> list[Action]:
        """Take in what has happened and say what to do now.

        Without events it says what to do first. Actions are to be carried out in
        order; a `Run` of `CALLER` comes last, since it keeps the caller busy.
        """
        for event in events:
            self._receive(event)
        for number in sorted(self._stranded & self._graph.ready_stages):
            self._rescue(number)
        if not any(isinstance(action, GiveUp) for action in self._actions):
            self._sample()
            for lane in (Lane.PROCESSES, Lane.THREADS):
                if self._placed[lane]:
                    self._start_workers(lane)
                    self._feed_workers(lane)
            self._feed_caller()
        actions, self._actions = self._actions, []
        return actions

    # -- events ---------------------------------------------------------------------

    def _receive(self, event: Event) -> None:
        match event:
            case BatchDone():
                self._finish_batch(event)
            case Glimpse():
                self._glimpse(event)
            case WorkerReady():
                self._workers.set_up(event.worker)
            case Unshippable():
                self._bar(event)
            case Immovable():
                self._bar_stages([event.task], Lane.PROCESSES, event.reason)
            case WorkerLost():
                self._lose(event)
            case StartFailed():
                self._fail_to_start(event)
            case _:
                assert_never(event)

    def _finish_batch(self, event: BatchDone) -> None:
        batch = self._workers.finish(event.worker)
        lane = self._workers[event.worker].lane
        dropped: list[int] = []
        touched = {self._stage_of[task] for task in batch}
        is_watched = self._watch(batch, event)
        is_crowded = is_watched or self._is_crowded(event.worker, batch)
        for outcome in event.outcomes:
            task = outcome.task
            self._graph.finish(task, dropped)
            stage = self.stages[self._stage_of[task]]
            stage.n_left -= 1
            stage.suspects.pop(task, None)
            stage.statistics.add(outcome, lane, is_crowded=is_crowded)
        for number in touched:
            stage = self.stages[number]
            if event.worker == SIDE:
                self._side_stages = set()
                stage.statistics.end_glimpse()
                stage.sampling = False
            if event.in_bytes and batch:
                stage.statistics.add_in_bytes(event.in_bytes / len(batch))
            self._look_again(number)
        if dropped:
            self._actions.append(Drop(dropped))

    def _look_again(self, number: int) -> None:
        stage = self.stages[number]
        if not stage.n_left:
            self._unplaced.discard(number)
            if stage.placement is not None:
                self._placed[stage.placement.lane].discard(number)
        elif stage.placement is None or stage.statistics.n_finished >= stage.next_look:
            self._place(number)

    def _glimpse(self, event: Glimpse) -> None:
        batch = self._workers[SIDE].batches[0]
        number = self._stage_of[batch[0]]
        statistics = self.stages[number].statistics
        is_watched = event.gil_fraction is not None and not statistics.has_glimpse
        if event.gil_fraction is not None and is_watched:
            statistics.watch(event.gil_fraction, event.cpu_fraction)
        statistics.add_glimpse(
            event.seconds / len(batch),
            event.cpu_fraction,
            is_crowded=is_watched or self._is_crowded(SIDE, batch),
        )
        self._place(number)
        self._place_alike(number)

    def _watch(self, batch: list[int], event: BatchDone) -> bool:
        """Take in what was seen of a batch; say whether all of it was seen.

        If there was a glimpse of it, that has told what there was to see.
        """
        seconds = sum(outcome.seconds for outcome in event.outcomes)
        if event.gil_fraction is None or not seconds:
            return False
        statistics = self.stages[self._stage_of[batch[0]]].statistics
        if statistics.has_glimpse:
            return False
        cpu_s = sum(outcome.cpu_s or 0.0 for outcome in event.outcomes)
        statistics.watch(event.gil_fraction, min(1.0, cpu_s / seconds))
        return True

    def _is_crowded(self, worker: int, batch: list[int]) -> bool:
        """Whether threads with other stages' tasks may have kept a batch waiting."""
        if self._workers[worker].lane is Lane.PROCESSES or not batch:
            return False
        return self._began_crowded.get(worker, False) or self._has_crowd(batch[0])

    def _has_crowd(self, task: int) -> bool:
        """Whether threads are busy with tasks of other stages than this one's."""
        number = self._stage_of[task]
        n_own = self._workers.count_on(number) * (number in self._placed[Lane.THREADS])
        return self._workers.count_busy(Lane.THREADS) > n_own

    def _bar(self, event: Unshippable) -> None:
        worker = self._workers[event.worker]
        if event.what == "task":
            batch = self._workers.take_back(event.worker, event.tasks[0])
            self._graph.put_back(batch)
        else:
            self._graph.put_back(event.tasks)
            for task in event.tasks:
                # It has run to its end.
                self.stages[self._stage_of[task]].suspects.pop(task, None)
            barred = set(event.tasks)
            worker.batches[0] = [t for t in worker.batches[0] if t not in barred]
        self._bar_stages(event.tasks, worker.lane, event.reason)

    def _bar_stages(self, tasks: list[int], lane: Lane, reason: str) -> None:
        firsts = {self._stage_of[task]: task for task in reversed(tasks)}
        for number, task in firsts.items():
            stage = self.stages[number]
            stage.barred.setdefault(lane, task)
            stage.reasons.append(reason)
            self._place(number)

    def _lose(self, event: WorkerLost) -> None:
        worker = self._workers.remove(event.worker)
        if not worker.is_up:
            self._n_lost_at_boot += 1
            if self._n_lost_at_boot >= ALLOWED_FAILURES:
                reason = f"workers end at boot by {event.ending}"
                self._unstartable.setdefault(worker.lane, reason)
        for i, batch in enumerate(worker.batches):
            self._graph.put_back(batch)
            if i:
                continue  # It was waiting behind the first: none of its fault.
            for task in batch:
                self.stages[self._stage_of[task]].suspects[task] = event.ending
                n_losses = self._n_losses[task] = self._n_losses.get(task, 0) + 1
                if n_losses >= ALLOWED_FAILURES:
                    self._actions.append(GiveUp(task, "lost", event.ending, n_losses))
            for number in sorted({self._stage_of[task] for task in batch}):
                self._place(number)
        self._close_if_empty(worker.lane)

    def _fail_to_start(self, event: StartFailed) -> None:
        for number in event.workers:
            self._workers.remove(number)
        self._unstartable.setdefault(event.lane, event.reason)
        self._close_if_empty(event.lane)

    def _close_if_empty(self, lane: Lane) -> None:
        """Close a lane that has no workers and can't get any."""
        reason = self._unstartable.get(lane)
        if reason is None or self._workers.count(lane) or lane in self._closed:
            return
        self._closed.add(lane)
        for number in sorted(self._placed[lane] | self._unplaced):
            self.stages[number].reasons.append(reason)
            self._place(number)

    # -- placing --------------------------------------------------------------------

    def _side_lane(self) -> Lane | None:
        # With one lane there is nothing to find out by watching.
        if len(self._allowed) == 1:
            return None
        return next((lane for lane in self._allowed if lane in CALLER_LANES), None)

    def _lanes_of(self, number: int) -> tuple[Lane, ...]:
        if number in self._caller_stages:
            return (Lane.INLINE,)
        stage = self.stages[number]
        lanes = tuple(
            lane
            for lane in self._allowed
            if lane not in self._closed and lane not in stage.barred
        )
        if stage.suspects:
            return tuple(lane for lane in lanes if lane not in CALLER_LANES)
        if not lanes and not self.limits.isolate:
            return (Lane.INLINE,)
        return lanes

    def _place(self, number: int) -> None:
        """Place a stage, if enough is known about it, or place it again."""
        stage = self.stages[number]
        lanes = self._lanes_of(number)
        if not lanes:
            self._stranded.add(number)
            return
        if not stage.statistics.is_known:
            if len(lanes) == 1:
                placement = place_unmeasured(self.machine, self.limits, lanes[0])
                self._settle(number, placement)
            elif stage.placement is not None and stage.placement.lane not in lanes:
                # It was placed like another stage, which turned out not to work.
                self._placed[stage.placement.lane].discard(number)
                self._unplaced.add(number)
                stage.placement = None
            return
        if len(lanes) > 1 and stage.placement is None and self._gil_matters(number):
            return
        stage.next_look = max(1, 2 * stage.statistics.n_finished)
        old = stage.placement
        if old is not None and lanes == (Lane.INLINE,) and old.lane is Lane.INLINE:
            return
        placement = self._choose(number, lanes)
        if not stage.statistics.n_finished:
            # What an unfinished task has taken tells lanes apart, but not how long
            # all of them will take.
            reason = f"at a first look, {placement.reason}"
            placement = replace(placement, predicted=None, reason=reason)
        self._settle(number, placement)

    def _place_alike(self, number: int) -> None:
        """Place stages that wait to be sampled like this one, which is in the way.

        Its task may keep the side thread busy for long, while cores have nothing to
        do. They are placed by measurement once the first of their tasks has finished.
        In threads that is one task each, for they could keep the GIL from all others.
        """
        model = self.stages[number].placement
        if model is None or model.lane is Lane.INLINE:
            return
        for other in sorted(self._graph.ready_stages):
            lanes = self._lanes_of(other)
            is_open = len(lanes) > 1 and not self.stages[other].statistics.is_known
            if is_open and model.lane in lanes:
                reason = "placed like the stage that kept the caller busy"
                n_most = 1 if model.lane is Lane.THREADS else model.n_most
                placement = replace(model, n_most=n_most, predicted=None, reason=reason)
                self._settle(other, placement)

    def _choose(self, number: int, lanes: tuple[Lane, ...]) -> Placement:
        stage = self.stages[number]
        own = stage.statistics.workload(stage.n_left)
        workload = replace(own, n_tasks=own.n_tasks + self._count_company(number))
        n_up = {lane: self._workers.count_up(lane) for lane in Lane}
        n_up[Lane.PROCESSES] = max(n_up[Lane.PROCESSES], self._n_warm)
        placement = place(workload, self.machine, self.limits, lanes=lanes, n_up=n_up)

        def predict_in(placement: Placement, workload: Workload) -> Prediction:
            return predict(
                workload,
                self.machine,
                placement.lane,
                placement.n_workers,
                n_up=n_up[placement.lane],
                caller_helps=Lane.INLINE in self._allowed,
                target_batch_s=self.limits.target_batch_s,
            )

        old = stage.placement
        if old is not None and old.lane is not placement.lane and old.lane in lanes:
            move_s = predict_in(placement, workload).makespan_s
            if move_s > (1 - MOVE_FRACTION) * predict_in(old, workload).makespan_s:
                placement = old
        return replace(placement, predicted=predict_in(placement, own))

    def _count_company(self, number: int) -> int:
        """Count other stages' ready tasks that would fall to the caller as well.

        They count by their time, in tasks of this stage; of a stage that isn't known,
        one task is taken to be like this stage's. Without them, each of many stages of
        few tasks would be too small for any lane.
        """
        ready, mean_s = self._graph.ready, self.stages[number].statistics.mean_s
        if not mean_s:
            return 0
        total_s = 0.0
        for other in self._graph.ready_stages - self._caller_stages - {number}:
            statistics = self.stages[other].statistics
            if not statistics.is_known:
                total_s += mean_s
            elif other in self._unplaced or other in self._placed[Lane.INLINE]:
                total_s += statistics.mean_s * len(ready[other])
        return round(total_s / mean_s)

    def _gil_matters(self, number: int) -> bool:
        """Whether the lane would be another one if the GIL turned out to be free."""
        stage = self.stages[number]
        statistics = stage.statistics
        if statistics.gil_fraction is not None or statistics.n_finished > 1:
            return False
        if SIDE not in self._workers or not self._graph.ready[number]:
            return False
        lanes = self._lanes_of(number)
        held = self._choose(number, lanes)
        statistics.gil_fraction = 0.0
        free = self._choose(number, lanes)
        statistics.gil_fraction = None
        return held.lane is not free.lane

    def _settle(self, number: int, placement: Placement) -> None:
        stage = self.stages[number]
        old = stage.placement
        stage.placement = placement
        self._unplaced.discard(number)
        if old is not None:
            self._placed[old.lane].discard(number)
        if stage.n_left:
            self._placed[placement.lane].add(number)
        if number in self._caller_stages:
            return
        is_measured = placement.predicted is not None
        is_more = placement.n_workers > stage.n_recorded
        if (
            old is None
            or old.lane is not placement.lane
            or (is_measured and (is_more or old.predicted is None))
        ):
            stage.n_recorded = placement.n_workers
            if stage.reasons:
                reasons = "; ".join(dict.fromkeys((placement.reason, *stage.reasons)))
                placement = replace(placement, reason=reasons)
            known = stage.statistics.is_known
            self.decisions.append(
                Decision(
                    stage=number,
                    placement=placement,
                    workload=stage.statistics.workload(stage.n_left) if known else None,
                    n_finished=self.n_finished,
                )
            )

    def _rescue(self, number: int) -> None:
        """Place a stage that no lane was left for, or give up.

        It comes to that only when a task of it is ready: what is in flight may be all
        that is left of it, and once its suspects have finished it has its lanes back.
        """
        self._stranded.discard(number)
        if self._lanes_of(number):
            self._place(number)
            return
        stage = self.stages[number]
        if stage.suspects:
            task = min(stage.suspects)
            n_losses, ending = self._n_losses[task], stage.suspects[task]
            self._actions.append(GiveUp(task, "lost", ending, n_losses))
            return
        reason = "; ".join(dict.fromkeys(stage.reasons))
        for task in stage.barred.values():
            self._actions.append(GiveUp(task, "immovable", reason, 0))
            return
        task = self._graph.ready[number][0]
        self._actions.append(GiveUp(task, "lane", reason, 0))

    # -- sampling -------------------------------------------------------------------

    def _sample(self) -> None:
        """Watch a task of a stage that isn't placed, the first such stage first."""
        if not self._workers.side_is_idle or self._is_lone():
            return
        ready = self._graph.ready
        candidates = [
            number
            for number in self._unplaced & self._graph.ready_stages
            if not self.stages[number].sampling
        ]
        if not candidates:
            return
        number = min(candidates, key=lambda number: ready[number][0])
        stage = self.stages[number]
        n = 1
        if stage.statistics.n_finished and stage.statistics.mean_s:
            n = ceil(min(WATCH_S / stage.statistics.mean_s, len(ready[number]) / 4))
        stage.sampling = True
        self._run(SIDE, number, self._graph.take(number, self._cap(n)), watched=True)

    def _is_lone(self) -> bool:
        """Whether one ready task is all there is to do, and the caller may do it."""
        return (
            Lane.INLINE in self._allowed
            and self._graph.n_in_flight == 0
            and self._graph.n_ready == 1
        )

    # -- workers --------------------------------------------------------------------

    def _n_wanted(self, lane: Lane) -> int:
        """How many workers the stages placed in a lane can use now."""
        n_ready = most = 0
        for number in self._placed[lane] & self._graph.ready_stages:
            placement = self.stages[number].placement
            assert placement is not None
            n_ready += len(self._graph.ready[number])
            most = max(most, placement.n_workers)
        n_free = self._workers.count(lane) - self._workers.count_busy(lane)
        return min(most, self._workers.count(lane) + max(0, n_ready - n_free))

    def _start_workers(self, lane: Lane) -> None:
        n = self._n_wanted(lane) - self._workers.count(lane)
        if n > 0 and lane not in self._unstartable and self._is_worth_booting(lane):
            self._actions.append(StartWorkers(lane, self._workers.add(lane, n)))

    def _is_worth_booting(self, lane: Lane) -> bool:
        """Whether the stages of a lane have been at work long enough to start workers.

        Threads start at once, warm processes are up, and where the caller may not work
        meanwhile there is nothing to wait for.
        """
        n_up = max(self._n_warm, self._workers.count(lane))
        if lane is Lane.THREADS or n_up or Lane.INLINE not in self._allowed:
            return True
        stages = [self.stages[number] for number in self._placed[lane]]
        if any(stage.suspects for stage in stages):
            return True
        worked_s = max(stage.statistics.worked_s for stage in stages)
        return worked_s >= PATIENCE_FRACTION * self.machine.costs.boot_first_s

    def _feed_workers(self, lane: Lane) -> None:
        """Hand out batches: to idle workers first, then one to wait behind another."""
        for depth in (0, 1):
            for worker in self._workers.with_depth(lane, depth):
                number = self._next_stage(lane, worker)
                if number is None:
                    continue
                n = self._batch_size(number, lane)
                if depth and not self._may_queue(number, lane, n):
                    continue
                self._run(worker, number, self._graph.take(number, n))

    def _next_stage(self, lane: Lane, worker: int) -> int | None:
        """Return the stage of which a worker should get tasks, lowest first."""
        ready = self._graph.ready
        numbers = [
            number
            for number in self._placed[lane] & self._graph.ready_stages
            if self._may_join(number, worker)
        ]
        if len(numbers) < 2:
            return numbers[0] if numbers else None
        return min(numbers, key=lambda number: ready[number][0])

    def _may_join(self, number: int, worker: int) -> bool:
        """Whether a stage has room for one more worker, or has this one already."""
        placement = self.stages[number].placement
        assert placement is not None
        n_on = self._workers.count_on(number)
        if placement.n_most < self.machine.n_cores and number in self._side_stages:
            # Memory leaves no room for one on each core, and the side thread has one.
            n_on += 1
        return n_on < placement.n_most or number in self._workers[worker].stages

    def _may_queue(self, number: int, lane: Lane, n: int) -> bool:
        """Whether a batch of `n` tasks may wait behind one that a worker runs."""
        statistics = self.stages[number].statistics
        if not statistics.n_finished or statistics.mean_s > self.limits.target_batch_s:
            # It could have to wait for long, and no one else could take it.
            return False
        # Near the end others will want it.
        n_left = len(self._graph.ready[number]) - n
        return n_left >= n * self._workers.count(lane)

    def _batch_size(self, number: int, lane: Lane) -> int:
        stage = self.stages[number]
        ready = self._graph.ready[number]
        if not stage.statistics.is_known:
            return 1
        costs = self.machine.costs
        assert stage.placement is not None
        n_workers = min(stage.placement.n_workers, self._workers.count(lane))
        n = self._cap(
            choose_batch_size(
                len(ready),
                # Each may have that many batches of this size.
                MAX_DEPTH * max(1, n_workers),
                stage.statistics.mean_s,
                costs.hand_off_s if lane is Lane.THREADS else costs.round_trip_s,
                self.limits.target_batch_s,
            )
        )
        if stage.suspects:
            # A suspect goes alone, so that no other task dies with it.
            lowest = nsmallest(n, ready)
            n = next((i for i, t in enumerate(lowest) if t in stage.suspects), n)
        return max(1, n)

    # -- the caller -----------------------------------------------------------------

    def _feed_caller(self) -> None:
        """Give the caller a slice of the work that belongs to it, or that waits."""
        numbers = self._placed[Lane.INLINE]
        if Lane.INLINE in self._allowed:
            if self._is_understaffed():
                numbers = numbers | {
                    number
                    for number in self._placed[Lane.PROCESSES]
                    if not self.stages[number].suspects
                }
            if self._is_lone():
                numbers = numbers | self._unplaced
        numbers = numbers & self._graph.ready_stages
        if not numbers:
            return
        is_booking = numbers <= self._caller_stages
        has_side = SIDE in self._workers and not self._is_lone()
        if has_side and not is_booking:
            if self._workers.side_is_idle:
                tasks, seconds = self._take_slice(numbers)
                worker = CALLER if seconds < CALLER_THREAD_S else SIDE
                self._run(worker, -1, tasks)
                return
            numbers &= self._caller_stages
            if not numbers:
                return
        tasks, _ = self._take_slice(numbers)
        self._run(CALLER, -1, tasks)

    def _is_understaffed(self) -> bool:
        lane = Lane.PROCESSES
        if not self._placed[lane]:
            return False
        return self._workers.count_up(lane) < max(1, self._n_wanted(lane))

    def _take_slice(self, numbers: set[int]) -> tuple[list[int], float]:
        """Take ready tasks of these stages, lowest first, for a slice of time."""
        ready = self._graph.ready
        tasks: list[int] = []
        left_s, left_bytes = CALLER_SLICE_S, SLICE_BYTES
        most = self._cap(len(self._stage_of))
        heads = sorted((ready[number][0], number) for number in numbers)
        while heads and len(tasks) < most and left_s > 0 and left_bytes > 0:
            _, number = heads.pop(0)
            task_s, task_bytes = self._expect(number)
            fit = min(left_s / task_s, left_bytes / task_bytes, most - len(tasks))
            n = min(ceil(fit), len(ready[number]))
            if heads:
                n = self._count_below(ready[number], heads[0][0], n)
            tasks += self._graph.take(number, n)
            left_s -= n * task_s
            left_bytes -= n * task_bytes
            if ready[number]:
                heads.append((ready[number][0], number))
                heads.sort()
        return tasks, CALLER_SLICE_S - left_s

    def _expect(self, number: int) -> tuple[float, float]:
        """Seconds and bytes to expect of a task, both > 0."""
        statistics = self.stages[number].statistics
        if not statistics.is_known:
            # A slice ends with the first task of which nothing is known: it may be
            # long, or its result large.
            return CALLER_SLICE_S, SLICE_BYTES
        return max(statistics.mean_s, 1e-9), max(statistics.out_bytes, 1.0)

    @staticmethod
    def _count_below(heap: list[int], until: int, most: int) -> int:
        """How many of the up to `most` smallest numbers of a heap are below `until`."""
        return sum(task < until for task in nsmallest(most, heap))

    # -- small things ---------------------------------------------------------------

    def _run(
        self, worker: int, stage: int, tasks: list[int], *, watched: bool = False
    ) -> None:
        self._workers.take_up(worker, stage, tasks)
        if worker == SIDE:
            self._side_stages = {self._stage_of[task] for task in tasks}
        if worker <= SIDE:
            self._began_crowded[worker] = self._has_crowd(tasks[0])
        self._actions.append(Run(worker, tasks, watched))

    def _cap(self, n: int) -> int:
        most = self.limits.max_batch_size
        return n if most is None else min(n, most)

    def validate(self) -> None:
        """Check every invariant; for tests."""
        self._graph.validate()
        in_flight = [t for worker in self._workers for b in worker.batches for t in b]
        assert len(in_flight) == len(set(in_flight)) == self._graph.n_in_flight
        for number, stage in enumerate(self.stages):
            n_left = sum(
                s == number and not self._graph.has_finished(task)
                for task, s in enumerate(self._stage_of)
            )
            assert stage.n_left == n_left
            lanes = [lane for lane in Lane if number in self._placed[lane]]
            if stage.placement is None or not n_left:
                assert not lanes
            else:
                assert lanes == [stage.placement.lane]
        if not self.is_finished and not in_flight:
            # Something must be under way, or nothing ever happens again.
            assert any(not worker.is_up for worker in self._workers)
