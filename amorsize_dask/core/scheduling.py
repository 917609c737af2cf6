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

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import assert_never

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.dispatch import Dispatch
from amorsize_dask.core.events import (
    SIDE,
    Action,
    Added,
    Away,
    BatchDone,
    CallerGrown,
    ClusterGrown,
    Drop,
    Event,
    GiveUp,
    Glimpse,
    Immovable,
    MemoryLeft,
    Retire,
    SpillFailed,
    StartFailed,
    Taken,
    Unshippable,
    Weighed,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.experience import NOTHING_KNOWN, Experience
from amorsize_dask.core.feeding import Feeding
from amorsize_dask.core.fitting import Fitting
from amorsize_dask.core.forecast import Forecast
from amorsize_dask.core.graph import Graph, GraphState, count_each
from amorsize_dask.core.losses import ALLOWED_FAILURES, Losses
from amorsize_dask.core.model import (
    CALLER_LANES,
    Cluster,
    Decision,
    Lane,
    Limits,
    Machine,
)
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.outlook import Outlook
from amorsize_dask.core.placement import WORKER_BYTES
from amorsize_dask.core.placing import Placing
from amorsize_dask.core.retiring import Retiring
from amorsize_dask.core.staffing import Staffing
from amorsize_dask.core.stage import Stage
from amorsize_dask.core.workers import Workers

#: Share of a cluster's memory up to which results are left there that the user is
#: going to take one by one. With `HIGH_WATER` it is three fifths, which is where
#: workers begin to write to disk. Smaller: memory lies idle; larger: what is taken next
#: is read back from disk.
CLUSTER_FRACTION = 0.75


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
    is_streamed : bool, optional
        Whether the user takes wanted results as they come, and says so (`Taken`).
    recalled : mapping of int to Experience, optional
        For stages that are known from earlier runs what these have shown.
    lone_stages : frozenset of int, optional
        Stages of which no two tasks may be under way in one process: they don't use
        threads, unless the user allows nothing else.

    Attributes
    ----------
    budget : Budget
        What is held in memory.
    n_retired : int
        Worker processes that were ended because they had grown too much.
    """

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        limits: Limits,
        *,
        n_warm: int = 0,
        is_streamed: bool = False,
        recalled: Mapping[int, Experience] = NOTHING_KNOWN,
        lone_stages: frozenset[int] = frozenset(),
    ) -> None:
        self._graph = GraphState(graph)
        self._stage_of = self._graph.stage_of
        self._workers = Workers(_choose_side_lane(limits))
        self._placing = Placing(
            self._graph,
            self._workers,
            machine,
            limits,
            n_warm,
            recalled,
            lone_stages,
        )
        limit_bytes = limits.memory_limit_bytes or machine.memory_bytes
        self.budget = Budget(self._graph, limit_bytes, may_spill_wanted=not is_streamed)
        # Workers of a cluster put on disk what they have no room for. Only who streams
        # can have them wait instead, since results leave as they are taken.
        self._cluster_budget: Budget | None = None
        if machine.cluster is not None and is_streamed:
            cluster_bytes = int(CLUSTER_FRACTION * machine.cluster.memory_bytes)
            self._cluster_budget = Budget(
                self._graph, max(1, cluster_bytes), may_spill_wanted=False
            )
        fitting = Fitting(
            self._graph, self.stages, self.budget, limits, self._cluster_budget
        )
        self._staffing = Staffing(
            self._graph, self._workers, self._placing, machine.costs, limits, n_warm
        )
        self._dispatch = Dispatch(
            self._graph, self._workers, self._placing, fitting, limits
        )
        self._feeding = Feeding(
            self._graph,
            self._workers,
            self._placing,
            fitting,
            self._staffing,
            self._dispatch,
            machine,
            limits,
            is_streamed=is_streamed,
        )
        self._retiring = Retiring(limit_bytes, machine.costs.boot_next_s)
        self.n_retired = 0
        self._forecast = Forecast(self._graph, self.stages, machine, limits)
        self._machine = machine
        self._n_lost_at_boot = 0
        self._losses = Losses()
        self._actions: list[Action] = []
        # What the user has taken and no one needs: a stream has much, so it is dropped
        # together.
        self._taken: list[int] = []

    # -- the two doors ------------------------------------------------------------

    @property
    def stages(self) -> list[Stage]:
        """The stages, by number."""
        return self._placing.stages

    @property
    def decisions(self) -> list[Decision]:
        """Every placement that was taken, in order."""
        return self._placing.decisions

    @property
    def machine(self) -> Machine:
        """The machine, with the cluster as it was seen last."""
        return self._machine

    @property
    def is_finished(self) -> bool:
        """Whether every task is finished."""
        return self._graph.is_finished

    @property
    def n_finished(self) -> int:
        """How many tasks are finished."""
        return self._graph.n_finished

    @property
    def outlook(self) -> Outlook | None:
        """What the run was predicted to take when a tenth of its work was done.

        ``None`` before that, and for a graph that is open, whose end isn't known.
        """
        return self._forecast.outlook

    def regret_s(self) -> float:
        """Return what worker processes would have saved, had there been any."""
        return self._placing.regret_s()

    def experiences(self) -> dict[int, Experience]:
        """Return what a later run should know of the stages, by number.

        A stage that was split, or is what was split off or left of others, is another
        one in each run.
        """
        graph = self._graph.graph
        split = {
            number
            for number, tail in graph.tail_stage.items()
            if self.stages[tail].statistics.n_finished
        }
        left_out = {graph.rest_stage, *graph.tail_stage.values(), *split}
        found = {
            number: stage.statistics.experience()
            for number, stage in enumerate(self.stages)
            if number not in left_out | graph.caller_stages
        }
        return {number: seen for number, seen in found.items() if seen is not None}

    def handle(self, *events: Event) -> list[Action]:
        """Take in what has happened and say what to do now.

        Without events it says what to do first. Actions are to be carried out in
        order; a `Run` of `CALLER` comes last, since it keeps the caller busy.
        """
        for event in events:
            self._receive(event)
        self._drop(self._taken)
        self._taken = []
        self._retire()
        for number in sorted(self._placing.stranded & self._graph.ready_stages):
            give_up = self._placing.rescue(number)
            if give_up is not None:
                self._actions.append(give_up)
        if not any([isinstance(action, GiveUp) for action in self._actions]):
            self._actions += self._feeding.hand_out()
        actions, self._actions = self._actions, []
        return actions

    # -- events ---------------------------------------------------------------------

    def _receive(self, event: Event) -> None:
        match event:
            case Taken():
                self._taken += self._graph.hand_over(event.tasks)
            case BatchDone():
                self._finish_batch(event)
            case Glimpse():
                self._glimpse(event)
            case WorkerReady():
                self._workers.set_up(event.worker)
                # Those that were lost before were bad luck.
                self._n_lost_at_boot = 0
                if self._workers[event.worker].lane is Lane.PROCESSES:
                    self.budget.note_growth(event.worker, WORKER_BYTES)
            case Unshippable():
                self._bar(event)
            case Immovable():
                for lane in (Lane.PROCESSES, Lane.CLUSTER):
                    self._bar_stages([event.task], lane, event.reason)
            case WorkerLost():
                self._lose(event)
            case StartFailed():
                self._fail_to_start(event)
            case SpillFailed():
                self.budget.keep(event.tasks)
            case Added():
                self._add(event)
            case Away():
                self._feeding.note_away(event.seconds)
            case MemoryLeft():
                self.budget.note_left(event.n_bytes)
            case CallerGrown():
                self.budget.note_caller_growth(event.n_bytes)
            case Weighed():
                if self._forecast.weigh(event):
                    self._placing.place(event.stage)
                self._forecast.predict(self.decisions)
            case ClusterGrown():
                self._note_cluster(event.cluster)
            case _:
                assert_never(event)

    def _note_cluster(self, cluster: Cluster) -> None:
        """Go by the workers that the cluster has now."""
        self._machine = replace(self._machine, cluster=cluster)
        if self._cluster_budget is not None:
            self._cluster_budget.set_limit(CLUSTER_FRACTION * cluster.memory_bytes)
        self._feeding.note_machine(self._machine)
        self._forecast.note_machine(self._machine)
        self._placing.note_machine(self._machine)

    def _add(self, event: Added) -> None:
        for number, n in event.n_more.items():
            self.stages[number].n_more = n
        self._graph.add(event.tasks)
        self._placing.expect(count_each([number for _, number in event.tasks]))

    def _finish_batch(self, event: BatchDone) -> None:
        n_threads = self._workers.count_busy(Lane.THREADS)
        n_threads += not self._workers.side_is_idle
        batch = self._workers.finish(event.worker, event.position)
        lane = self._lane_of(event.worker, batch)
        self._end_in_budgets(event.worker, lane, event.position)
        stage_of, count_items = self._stage_of, self._graph.count_items
        touched = set(map(stage_of.__getitem__, batch))
        is_watched = self._watch(batch, event)
        is_crowded = is_watched or self._dispatch.is_crowded(event.worker, batch)
        finished = [outcome.task for outcome in event.outcomes]
        if event.is_partial:
            self._graph.put_back(sorted(set(batch).difference(finished)))
        dropped = self._graph.finish(finished)
        if self._dispatch.last_tries:
            self._dispatch.last_tries.difference_update(finished)
        for number in touched:
            stage = self.stages[number]
            outcomes, done = event.outcomes, finished
            if len(touched) > 1:
                outcomes = [out for out in outcomes if stage_of[out.task] == number]
                done = [outcome.task for outcome in outcomes]
            if outcomes:
                n_done = count_items(done)
                stage.n_left -= n_done
                self._forecast.note(number, outcomes)
                stage.statistics.add(
                    outcomes,
                    lane,
                    n_items=n_done,
                    is_crowded=is_crowded,
                    shares_gil=self._placing.shares_process(lane),
                )
                is_shared = lane is Lane.THREADS and event.worker != SIDE
                if is_shared and stage.statistics.add_shared(
                    outcomes, n_done, n_threads, self._machine.n_cores
                ):
                    stage.next_look = 0
                mean_bytes = stage.statistics.sizes.held_bytes * n_done / len(outcomes)
                self.budget.hold(number, outcomes, mean_bytes)
                self._note_away(number, outcomes)
            if stage.suspects:
                for outcome in outcomes:
                    if stage.suspects.pop(outcome.task, None) is not None:
                        n_losses = stage.n_losses_alone.get(outcome.task, 0)
                        self._losses.note_survivor(n_losses)
            if event.worker == SIDE:
                self._dispatch.note_side_done()
                stage.statistics.end_glimpse()
                stage.sampling = False
                self._placing.note_watched(number)
            if event.in_bytes and batch:
                stage.statistics.sizes.add_sent(event.in_bytes / count_items(batch))
            if event.pack_s is not None and event.outcomes:
                seconds = sum(outcome.seconds for outcome in event.outcomes)
                stage.statistics.packing.add(event.pack_s, seconds, count_items(batch))
            if event.links and len(touched) == 1:
                self._actions += self._placing.split(number, event.links)
            self._placing.look_again(number)
        self._drop(dropped)
        self._actions += self._forecast.look(self.decisions)
        if lane is Lane.PROCESSES:
            self.budget.note_growth(event.worker, WORKER_BYTES + event.grown_bytes)
            self._retiring.note(
                event.worker,
                touched,
                event.grown_bytes,
                sum(outcome.seconds for outcome in event.outcomes),
            )
            self._send_away([event.worker])
        elif lane in CALLER_LANES:
            self.budget.note_caller_growth(event.grown_bytes)

    def _note_away(self, number: int, outcomes: list[Outcome]) -> None:
        """Count what stays on the cluster."""
        away = [outcome for outcome in outcomes if outcome.is_away]
        if away:
            self.stages[number].is_away = True
            if self._cluster_budget is not None:
                there = [outcome._replace(is_away=False) for outcome in away]
                self._cluster_budget.hold(number, there, 0.0)

    def _end_in_budgets(self, worker: int, lane: Lane, position: int) -> None:
        self.budget.end(worker, position)
        if lane is Lane.CLUSTER and self._cluster_budget is not None:
            self._cluster_budget.end(worker, position)

    def _lose_in_budgets(self, worker: int) -> None:
        self.budget.lose(worker)
        if self._cluster_budget is not None:
            self._cluster_budget.lose(worker)

    def _lane_of(self, worker: int, batch: list[int]) -> Lane:
        """Return the lane that a worker's batch counts for.

        The thread beside the caller is one of the lane threads to a stage that the user
        doesn't want in the caller.
        """
        lane = self._workers[worker].lane
        if worker == SIDE and lane is Lane.INLINE and batch:
            said = self._graph.graph.stage_lanes.get(self._stage_of[batch[0]])
            if said is not None and lane not in said and Lane.THREADS in said:
                return Lane.THREADS
        return lane

    def _send_away(self, workers: Iterable[int]) -> None:
        """Let workers that have grown too much come to their end.

        As long as others can be started in their place. When the run is over no one
        has to be, and none of those that have leaked is kept for the next run.
        """
        if self.is_finished:
            workers = self._retiring.workers
        elif Lane.PROCESSES in self._staffing.unstartable:
            return
        for worker in workers:
            if self._retiring.is_due(worker, is_last=self.is_finished):
                self._workers.send_away(worker)

    def _retire(self) -> None:
        """End workers that have been sent away and have nothing left to do."""
        for worker in self._workers.left:
            self._workers.remove(worker)
            self._retiring.forget(worker)
            self._lose_in_budgets(worker)
            self.n_retired += 1
            self._actions.append(Retire(worker))

    def _drop(self, tasks: list[int]) -> None:
        if tasks:
            self.budget.drop(tasks)
            if self._cluster_budget is not None:
                self._cluster_budget.drop(tasks)
            self._actions.append(Drop(tasks))

    def _glimpse(self, event: Glimpse) -> None:
        batch = self._workers[SIDE].batches[0]
        number = self._stage_of[batch[0]]
        statistics = self.stages[number].statistics
        is_watched = event.gil_fraction is not None and not statistics.has_glimpse
        if event.gil_fraction is not None and is_watched:
            statistics.watch(event.gil_fraction, event.cpu_fraction)
        statistics.add_glimpse(
            event.seconds / self._graph.count_items(batch),
            event.cpu_fraction,
            is_crowded=is_watched or self._dispatch.is_crowded(SIDE, batch),
        )
        self._placing.place(number)
        self._placing.place_alike(number)

    def _watch(self, batch: list[int], event: BatchDone) -> bool:
        """Take in what was seen of a batch; say whether all of it was seen.

        If there was a glimpse of it, that has told what there was to see.
        """
        if event.gil_fraction is None:
            return False
        seconds = sum(outcome.seconds for outcome in event.outcomes)
        if not seconds:
            return False
        statistics = self.stages[self._stage_of[batch[0]]].statistics
        if statistics.has_glimpse:
            return False
        cpu_s = sum(outcome.cpu_s or 0.0 for outcome in event.outcomes)
        statistics.watch(event.gil_fraction, min(1.0, cpu_s / seconds))
        return True

    def _bar(self, event: Unshippable) -> None:
        worker = self._workers[event.worker]
        if event.what == "task":
            batch = self._workers.take_back(event.worker, event.tasks[0])
            self._end_in_budgets(event.worker, worker.lane, -1)
            self._graph.put_back(batch)
        else:
            self._graph.put_back(event.tasks)
            for task in event.tasks:
                # It has run to its end.
                self.stages[self._stage_of[task]].suspects.pop(task, None)
            self._dispatch.last_tries.difference_update(event.tasks)
            barred = set(event.tasks)
            i = self._workers.find_batch(event.worker, event.tasks[0])
            worker.batches[i] = [t for t in worker.batches[i] if t not in barred]
        self._bar_stages(event.tasks, worker.lane, event.reason)

    def _bar_stages(self, tasks: list[int], lane: Lane, reason: str) -> None:
        firsts = {self._stage_of[task]: task for task in reversed(tasks)}
        for number, task in firsts.items():
            stage = self.stages[number]
            stage.barred.setdefault(lane, task)
            stage.reasons.append(reason)
            self._placing.place(number)

    def _lose(self, event: WorkerLost) -> None:
        worker = self._workers.remove(event.worker)
        self._retiring.forget(event.worker)
        self._lose_in_budgets(event.worker)
        if not worker.is_up and not event.has_answered:
            self._n_lost_at_boot += 1
            if self._n_lost_at_boot >= ALLOWED_FAILURES:
                reason = f"workers end at boot by {event.ending}"
                self._staffing.unstartable.setdefault(worker.lane, reason)
        for i, batch in enumerate(worker.batches):
            self._graph.put_back(batch)
            if i != event.position:
                continue  # It was waiting behind that one: none of its fault.
            # Then no other batch was there that may have been what killed.
            was_alone = self._dispatch.last_tries.issuperset(batch)
            if event.n_lost > 1:
                self._dispatch.last_tries.update(batch)
            for task in batch:
                stage = self.stages[self._stage_of[task]]
                stage.suspects[task] = event.ending
                n_losses = stage.n_losses.get(task, 0) + event.n_lost
                stage.n_losses[task] = n_losses
                if len(batch) == 1:
                    n_alone = stage.n_losses_alone.get(task, 0) + event.n_lost
                    stage.n_losses_alone[task] = n_alone
                # That memory runs out is no bad luck.
                n_allowed = self._losses.count_allowed(len(self._stage_of))
                # In company it may have been any of them.
                n_counted = stage.n_losses_alone.get(task, 0)
                if event.is_memory_likely:
                    n_allowed, n_counted = ALLOWED_FAILURES, n_losses
                if event.n_lost > 1 and was_alone and len(batch) == 1:
                    # So often as the cluster allows, by the user's setting of Dask's.
                    n_allowed = 0
                if n_counted >= n_allowed:
                    self._actions.append(GiveUp(task, "lost", event.ending, n_losses))
                elif event.is_memory_likely and n_losses >= ALLOWED_FAILURES - 1:
                    self._dispatch.last_tries.add(task)
            for number in sorted({self._stage_of[task] for task in batch}):
                if event.is_memory_likely:
                    n_running = self._workers.count_on(number) + 1
                    self.stages[number].lower(n_running, event.grown_bytes)
                self._placing.place(number)
        self._close_if_empty(worker.lane)

    def _fail_to_start(self, event: StartFailed) -> None:
        for number in event.workers:
            self._workers.remove(number)
        self._staffing.unstartable.setdefault(event.lane, event.reason)
        self._close_if_empty(event.lane)

    def _close_if_empty(self, lane: Lane) -> None:
        """Close a lane that has no workers and can't get any."""
        reason = self._staffing.unstartable.get(lane)
        if reason is None or self._workers.count(lane) or lane in self._placing.closed:
            return
        self._placing.close(lane, reason)

    def validate(self) -> None:
        """Check every invariant; for tests."""
        self._graph.validate()
        self.budget.validate()
        if self._cluster_budget is not None:
            self._cluster_budget.validate()
        in_flight = [t for worker in self._workers for b in worker.batches for t in b]
        assert len(in_flight) == len(set(in_flight)) == self._graph.n_in_flight
        for number, stage in enumerate(self.stages):
            n_left = sum(
                self._graph.n_items(task)
                for task, s in enumerate(self._stage_of)
                if s == number and not self._graph.has_finished(task)
            )
            assert stage.n_left == n_left
            lanes = [lane for lane in Lane if number in self._placing.placed[lane]]
            if stage.placement is None or not n_left:
                assert not lanes
            else:
                assert lanes == [stage.placement.lane]
        if not self.is_finished and not in_flight:
            # Something must be under way, or nothing ever happens again.
            assert any(not worker.is_up for worker in self._workers)


def _choose_side_lane(limits: Limits) -> Lane | None:
    """Return what the side thread counts as; with one lane nothing is to be watched."""
    allowed = limits.allowed_lanes
    if len(allowed) == 1:
        return None
    return next((lane for lane in allowed if lane in CALLER_LANES), None)
