"""Which lane each stage is placed in, when that is decided and when it is revised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from amorsize_dask.core.cost import predict
from amorsize_dask.core.events import SIDE, GiveUp, Split
from amorsize_dask.core.experience import Experience
from amorsize_dask.core.graph import GraphState
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
from amorsize_dask.core.pacing import Pacing
from amorsize_dask.core.placement import count_slots, place, place_unmeasured
from amorsize_dask.core.splitting import WORTH_S, choose_split
from amorsize_dask.core.stage import Stage
from amorsize_dask.core.units import format_seconds
from amorsize_dask.core.workers import Workers

#: Share of the makespan that moving a placed stage to another lane must save.
#: Smaller: stages move to and fro with the noise; larger: they stay where they crawl.
MOVE_FRACTION = 0.2

#: Seconds of work that aren't worth a second look. Smaller: short computes pay for
#: measurements and threads that can't save them more than that; larger: work that
#: threads would do in half of the time stays in the caller.
LITTLE_S = 0.015

#: The same where earlier runs have shown how little it is. Smaller: a machine that is
#: slow for a moment makes more than little of it, and each run pays for a look that
#: tells no more than the last one; larger: as for the one above.
LITTLE_KNOWN_S = 0.025

#: Seconds of work below which nothing is sent to a cluster while there is another lane.
#: Smaller: short computes wait for a network that may be busy, and workers that may be
#: far away; larger: small work is done by one machine while a cluster is idle.
SENT_S = 0.05

#: Seconds of work from which on it counts that worker processes would have helped.
#: Smaller: work of 10 ms, done often enough, starts processes that save little;
#: larger: many runs of a tenth of a second have one core each.
REGRET_S = 0.05


class Placing:
    """Where the stages of a run are placed.

    Attributes
    ----------
    stages : list of Stage
        One for each stage of the graph.
    placed : dict of Lane to set of int
        For each lane the stages that are placed there and not finished.
    unplaced : set of int
        Stages of which too little is known.
    unwatched : set of int
        Stages that are placed for the time being, until a task of theirs was watched.
    stranded : set of int
        Stages that no lane is left for.
    closed : set of Lane
        Lanes that have turned out to be unusable.
    caller_stages : frozenset of int
        Stages that belong into the caller.
    decisions : list of Decision
        Every placement that was taken, in order.
    pacing : Pacing
        How stages of an open graph keep pace with each other.
    """

    def __init__(
        self,
        graph: GraphState,
        workers: Workers,
        machine: Machine,
        limits: Limits,
        n_warm: int,
        recalled: Mapping[int, Experience],
        lone_stages: frozenset[int] = frozenset(),
    ) -> None:
        n_stages = graph.graph.n_stages
        is_open = graph.graph.is_open
        self.stages = [Stage(is_open=is_open) for _ in range(n_stages)]
        self.pacing = Pacing(self.stages, is_open=is_open)
        self.placed: dict[Lane, set[int]] = {lane: set() for lane in Lane}
        self.unplaced = set(range(n_stages))
        self.unwatched: set[int] = set()
        self.stranded: set[int] = set()
        self.closed: set[Lane] = set()
        self.caller_stages = graph.graph.caller_stages
        self.decisions: list[Decision] = []
        self._machine = machine
        self._limits = limits
        self._graph = graph
        self._workers = workers
        self._allowed = limits.allowed_lanes
        # Where none of the lanes that were asked for can be had, it is any.
        self._said = {
            number: lanes
            for number, said in graph.graph.stage_lanes.items()
            if (lanes := tuple(lane for lane in self._allowed if lane in said))
        }
        self._lone_stages = lone_stages
        self._n_warm = n_warm
        n_tasks = Counter(graph.stage_of)
        n_items = graph.count_by_stage(range(len(graph.graph)))
        for number, stage in enumerate(self.stages):
            stage.n_left = n_items.get(number, 0)
            if number in n_tasks:
                stage.n_items_a_task = stage.n_left / n_tasks[number]
        for number, experience in recalled.items():
            if self._may_recall(number, experience):
                self.stages[number].statistics.recall(experience)
        if not graph.graph.is_open:
            for number in range(n_stages):
                self.place(number)

    def _may_recall(self, number: int, experience: Experience) -> bool:
        """Whether a stage may go by earlier runs; a chain that may be split may not."""
        work_s = self.stages[number].n_left * experience.mean_s
        is_chain = number in self._graph.graph.tail_stage
        return number not in self.caller_stages and not (is_chain and work_s >= WORTH_S)

    @property
    def has_unplaced(self) -> bool:
        """Whether there is a stage that hasn't been placed, also one without tasks."""
        return any([stage.placement is None for stage in self.stages])

    def lanes_of(self, number: int) -> tuple[Lane, ...]:
        """Return the lanes in which a stage may run, simplest first."""
        if number in self.caller_stages:
            return (Lane.INLINE,)
        stage = self.stages[number]
        allowed = self._allowed
        if number in self._said:
            allowed = self._said[number]
        lanes = tuple(
            lane
            for lane in allowed
            if lane not in self.closed and lane not in stage.barred
        )
        if number in self._lone_stages and len(allowed) > 1:
            lanes = tuple(lane for lane in lanes if not self.shares_process(lane))
        if stage.suspects:
            return tuple(lane for lane in lanes if lane not in CALLER_LANES)
        if not lanes and not self._limits.isolate:
            return (Lane.INLINE,)
        return lanes

    def may_be_inline(self, number: int) -> bool:
        """Whether the caller may run tasks of a stage."""
        return Lane.INLINE in self.lanes_of(number)

    def note_machine(self, machine: Machine) -> None:
        """Go by a machine with another cluster, and look at all stages again."""
        self._machine = machine
        for stage in self.stages:
            stage.next_look = 0
        for number in sorted(self.placed[Lane.CLUSTER] - self.unwatched):
            self.place(number)

    def shares_process(self, lane: Lane) -> bool:
        """Whether several tasks of a lane may be under way in one process."""
        cluster = self._machine.cluster
        if lane is Lane.CLUSTER and cluster is not None:
            return cluster.n_threads > cluster.n_workers
        return lane is Lane.THREADS

    def place(self, number: int) -> None:
        """Place a stage, if enough is known about it, or place it again."""
        stage = self.stages[number]
        lanes = self.lanes_of(number)
        if not lanes:
            self.stranded.add(number)
            return
        if not stage.statistics.is_known:
            has_no_sampler = SIDE not in self._workers and stage.placement is None
            if len(lanes) == 1 or has_no_sampler:
                # A lane that is up, if there is one, has the first tasks.
                is_cold = Lane.CLUSTER in lanes and not self._n_warm
                lane = Lane.CLUSTER if is_cold else lanes[0]
                reason = f"only {lane} can be used"
                if len(lanes) > 1:
                    reason = f"{lane} until a task was measured"
                placement = place_unmeasured(self._machine, self._limits, lane, reason)
                self._settle(number, placement)
            elif stage.placement is not None and stage.placement.lane not in lanes:
                # It was placed like another stage, which turned out not to work.
                self.placed[stage.placement.lane].discard(number)
                self.unplaced.add(number)
                stage.placement = None
            return
        if Lane.INLINE in lanes and self._is_little(number):
            self._settle(number, self._keep_little(number))
            return
        if len(lanes) > 1 and stage.placement is None and self._gil_matters(number):
            self._place_for_now(number, lanes)
            return
        stage.next_look = max(1, 2 * stage.statistics.n_finished)
        old = stage.placement
        if old is not None and lanes == (Lane.INLINE,) and old.lane is Lane.INLINE:
            return
        placement = self._choose(number, lanes)
        is_inline = placement.lane is Lane.INLINE
        if not is_inline and Lane.INLINE in lanes and self.pacing.is_minor(number):
            placement = self._choose(number, (Lane.INLINE,))
            reason = f"{placement.reason}, little beside the slowest stage"
            placement = replace(placement, reason=reason)
        if stage.statistics.is_recalled:
            reason = f"by earlier runs, {placement.reason}"
            placement = replace(placement, reason=reason)
        elif not stage.statistics.n_finished:
            # What an unfinished task has taken tells lanes apart, but not how long
            # all of them will take.
            reason = f"at a first look, {placement.reason}"
            placement = replace(placement, predicted=None, reason=reason)
        self._settle(number, placement)

    def _place_for_now(self, number: int, lanes: tuple[Lane, ...]) -> None:
        """Let workers that are up begin while a task is being watched.

        One core is left for that task, and for the loop that watches it.
        """
        placement = self._choose(number, lanes)
        n_up = self._n_warm
        if placement.lane is Lane.CLUSTER:
            n_up = placement.n_workers
        n_most = count_slots(self._machine, placement.lane) - 1
        n_workers = min(n_up, placement.n_workers, n_most)
        if placement.lane not in CALLER_LANES and n_workers > 0:
            reason = f"until a task was watched, {placement.reason}"
            self.unwatched.add(number)
            self._settle(
                number,
                replace(
                    placement,
                    n_workers=n_workers,
                    predicted=None,
                    reason=reason,
                ),
            )

    def note_watched(self, number: int) -> None:
        """Take note that a sample of a stage has been watched as far as possible."""
        if number in self.unwatched:
            self.unwatched.remove(number)
            self.place(number)

    def split(self, number: int, links: Sequence[tuple[float, float]]) -> list[Split]:
        """Split what is left of a stage if its links belong into different lanes.

        Parameters
        ----------
        number : int
            A stage whose tasks are chains.
        links : sequence of (float, float)
            What the links of a task took, in seconds and CPU seconds.
        """
        tail = self._graph.graph.tail_stage.get(number)
        stage, lanes = self.stages[number], self.lanes_of(number)
        if tail is None or self.stages[tail].n_left or not stage.n_left or not lanes:
            return []
        n_up = self._count_up()

        def place_halves(workload: Workload) -> Placement:
            return place(workload, self._machine, self._limits, lanes=lanes, n_up=n_up)

        chosen = choose_split(links, stage.workload(), place_halves)
        if chosen is None:
            n_up = {Lane.PROCESSES: self._machine.n_cores}
            missed = choose_split(links, stage.workload(), place_halves)
            stage.missed_s = missed.saved_s if missed is not None else 0.0
            return []
        halves = chosen.first, chosen.second
        pairs = self._graph.split(number)
        self.stages[tail].n_left += len(pairs)
        for half_number, half in zip((number, tail), halves, strict=True):
            statistics = self.stages[half_number].statistics
            statistics.restart(half.seconds, half.cpu_s)
            self.place(half_number)
        return [Split(task, part, chosen.n_links) for task, part in pairs]

    def regret_s(self) -> float:
        """Return how much sooner all would have ended with worker processes up.

        As predicted, of a run that has ended, in which there were none.
        """
        n_up = {Lane.PROCESSES: self._machine.n_cores}
        total_s = 0.0
        for number, stage in enumerate(self.stages):
            lanes, statistics = self.lanes_of(number), stage.statistics
            n_items = statistics.n_items_finished
            if n_items * statistics.mean_s < REGRET_S or Lane.PROCESSES not in lanes:
                continue
            work = statistics.workload(n_items, stage.n_items_a_task)
            cold, warm = (
                place(work, self._machine, self._limits, lanes=lanes, n_up=up).predicted
                for up in ({}, n_up)
            )
            assert cold is not None
            assert warm is not None
            total_s += max(0.0, cold.makespan_s - warm.makespan_s, stage.missed_s)
        return total_s

    def saved_s(self, number: int) -> float:
        """Return what a stage's lane is predicted to save against the caller alone."""
        stage = self.stages[number]
        if stage.placement is None or stage.placement.predicted is None:
            return 0.0
        return self.pacing.work_s(number) - stage.placement.predicted.makespan_s

    def _count_up(self) -> dict[Lane, int]:
        n_up = {lane: self._workers.count_up(lane) for lane in Lane}
        n_up[Lane.PROCESSES] = max(n_up[Lane.PROCESSES], self._n_warm)
        return n_up

    def place_alike(self, number: int) -> None:
        """Place stages that wait to be sampled like this one, which is in the way.

        Its task may keep the side thread busy for long, while cores have nothing to
        do. They are placed by measurement once the first of their tasks has finished.
        In threads that is one task each, for they could keep the GIL from all others.
        """
        model = self.stages[number].placement
        if model is None or model.lane is Lane.INLINE:
            return
        for other in sorted(self._graph.ready_stages):
            lanes = self.lanes_of(other)
            is_open = len(lanes) > 1 and not self.stages[other].statistics.is_known
            if is_open and model.lane in lanes:
                reason = "placed like the stage that kept the caller busy"
                n_most = 1 if model.lane is Lane.THREADS else model.n_most
                placement = replace(model, n_most=n_most, predicted=None, reason=reason)
                self._settle(other, placement)

    def look_again(self, number: int) -> None:
        """Place a stage again if that is due; forget it if it is finished."""
        stage = self.stages[number]
        if not stage.n_left:
            if stage.n_more and stage.placement is None:
                self.place(number)  # before the next ones come
            self.unplaced.discard(number)
            self.unwatched.discard(number)
            if stage.placement is not None:
                self.placed[stage.placement.lane].discard(number)
        elif number in self.unwatched:
            return
        elif stage.placement is None or stage.statistics.n_finished >= stage.next_look:
            self.place(number)

    def expect(self, n_tasks: Mapping[int, int]) -> None:
        """Take note that stages have got more tasks, so many each."""
        begun = [number for number in n_tasks if not self.stages[number].n_left]
        for number, n in n_tasks.items():
            self.stages[number].n_left += n
        self._place_recalled()
        for number in begun:
            stage = self.stages[number]
            placement = stage.placement
            if placement is not None and placement.lane in self.lanes_of(number):
                self.placed[placement.lane].add(number)
                continue
            stage.placement = None
            self.unplaced.add(number)
            self.place(number)

    def _place_recalled(self) -> None:
        """Place what is known from earlier runs, also before it has tasks.

        Those that take longest come first: how much of the others is of use is for
        them to say.
        """
        known = [
            number
            for number in self.unplaced
            if self.stages[number].statistics.is_recalled
            and self.stages[number].n_left + self.stages[number].n_more
        ]
        for number in sorted(known, key=self.pacing.work_s, reverse=True):
            self.place(number)

    def expect_rest(self) -> None:
        """Take note that a task is left that only puts its parts together."""
        number = self._graph.graph.rest_stage
        assert number is not None
        self.stages[number].n_left += 1
        self.placed[Lane.INLINE].add(number)

    def close(self, lane: Lane, reason: str) -> None:
        """Move all stages out of a lane that can't be used."""
        self.closed.add(lane)
        for number in sorted(self.placed[lane] | self.unplaced):
            self.stages[number].reasons.append(reason)
            self.place(number)

    def rescue(self, number: int) -> GiveUp | None:
        """Place a stage that no lane was left for, or say that it can't go on.

        It comes to that only when a task of it is ready: what is in flight may be all
        that is left of it, and once its suspects have finished it has its lanes back.
        """
        self.stranded.discard(number)
        if self.lanes_of(number):
            self.place(number)
            return None
        stage = self.stages[number]
        if stage.suspects:
            task = min(stage.suspects)
            n_losses, ending = stage.n_losses[task], stage.suspects[task]
            return GiveUp(task, "lost", ending, n_losses)
        reason = "; ".join(dict.fromkeys(stage.reasons))
        if stage.barred:
            task = next(iter(stage.barred.values()))
            return GiveUp(task, "immovable", reason, 0)
        task = self._graph.ready[number].head
        return GiveUp(task, "lane", reason, 0)

    def _choose(self, number: int, lanes: tuple[Lane, ...]) -> Placement:
        stage = self.stages[number]
        own = stage.workload()
        workload = replace(own, n_tasks=own.n_tasks + self._count_company(number))
        n_up = self._count_up()
        was_sent = stage.placement is not None and stage.placement.lane is Lane.CLUSTER
        if not was_sent and workload.n_tasks * workload.mean_s < SENT_S:
            lanes = tuple(lane for lane in lanes if lane is not Lane.CLUSTER) or lanes
        placement = place(workload, self._machine, self._limits, lanes=lanes, n_up=n_up)

        def predict_in(placement: Placement, workload: Workload) -> Prediction:
            return predict(
                workload,
                self._machine,
                placement.lane,
                placement.n_workers,
                n_up=n_up[placement.lane],
                caller_helps=Lane.INLINE in self._allowed,
                target_batch_s=self._limits.target_batch_s,
            )

        old = stage.placement
        if old is not None and old.predicted is None:
            old = None  # it rests on a first look, or on none
        if old is not None and old.lane is not placement.lane and old.lane in lanes:
            move_s = predict_in(placement, workload).makespan_s
            if move_s > (1 - MOVE_FRACTION) * predict_in(old, workload).makespan_s:
                placement = old
        return replace(placement, predicted=predict_in(placement, own))

    def _is_little(self, number: int) -> bool:
        """Whether all there is to do would be done before sharing it out pays."""
        stage, statistics = self.stages[number], self.stages[number].statistics
        recalled = statistics.recalled
        # What was little is believed to be so again if there is no more of it.
        n_tasks = stage.n_left + stage.n_more
        is_same = recalled is not None and recalled.n_items == n_tasks
        if stage.placement is not None or not (statistics.n_finished or is_same):
            return False
        mean_s = statistics.mean_s
        most_s = LITTLE_S if statistics.n_finished else LITTLE_KNOWN_S
        if n_tasks * mean_s >= most_s:
            return False
        return (n_tasks + self._count_company(number)) * mean_s < most_s

    def _keep_little(self, number: int) -> Placement:
        stage = self.stages[number]
        stage.is_little = True
        seconds = self.pacing.work_s(number)
        reason = f"{format_seconds(seconds)} in all is too little to share out"
        if stage.statistics.is_recalled:
            reason = f"by earlier runs, {reason}"
        return Placement(
            lane=Lane.INLINE,
            n_workers=1,
            n_most=1,
            predicted=Prediction(
                lane=Lane.INLINE,
                n_workers=1,
                makespan_s=seconds,
                peak_bytes=stage.statistics.sizes.peak_bytes,
            ),
            reason=reason,
        )

    def _count_company(self, number: int) -> int:
        """Count other stages' ready tasks that would fall to the caller as well.

        They count by their time, in tasks of this stage; of a stage that isn't known,
        one task is taken to be like this stage's. Without them, each of many stages of
        few tasks would be too small for any lane.
        """
        n_items_ready = self._graph.n_items_ready
        mean_s = self.stages[number].statistics.mean_s
        if not mean_s:
            return 0
        total_s = 0.0
        for other in self._graph.ready_stages - self.caller_stages - {number}:
            statistics = self.stages[other].statistics
            if not statistics.is_known:
                total_s += mean_s
            elif other in self.unplaced or other in self.placed[Lane.INLINE]:
                total_s += statistics.mean_s * n_items_ready[other]
        return round(total_s / mean_s)

    def _gil_matters(self, number: int) -> bool:
        """Whether the lane would be another one if the GIL turned out to be free."""
        stage = self.stages[number]
        statistics = stage.statistics
        if statistics.gil_fraction is not None or statistics.n_finished > 1:
            return False
        if SIDE not in self._workers or not self._graph.ready[number]:
            return False
        lanes = self.lanes_of(number)
        held = self._choose(number, lanes)
        statistics.gil_fraction = 0.0
        free = self._choose(number, lanes)
        statistics.gil_fraction = None
        return held.lane is not free.lane

    def _settle(self, number: int, placement: Placement) -> None:
        stage = self.stages[number]
        old = stage.placement
        said = self._graph.graph.stage_workers.get(number)
        if said is not None:
            placement = _cap(placement, said)
        if stage.n_at_once is not None:
            placement = _lower(placement, stage.n_at_once)
        stage.placement = placement
        self.unplaced.discard(number)
        if old is not None:
            self.placed[old.lane].discard(number)
        if stage.n_left:
            self.placed[placement.lane].add(number)
        if number in self.caller_stages:
            return
        is_measured = placement.predicted is not None
        is_more = placement.n_workers > stage.n_recorded
        if (
            old is None
            or stage.is_lowered
            or old.lane is not placement.lane
            or (is_measured and (is_more or old.predicted is None))
        ):
            stage.n_recorded = placement.n_workers
            stage.is_lowered = False
            if stage.reasons:
                reasons = "; ".join(dict.fromkeys((placement.reason, *stage.reasons)))
                placement = replace(placement, reason=reasons)
            known = stage.statistics.is_known
            self.decisions.append(
                Decision(
                    stage=number,
                    placement=placement,
                    workload=stage.workload() if known else None,
                    n_finished=self._graph.n_finished,
                    n_left=stage.n_left,
                    n_up=self._count_up()[placement.lane],
                )
            )


def _lower(placement: Placement, n_at_once: int) -> Placement:
    """Return a placement in which no more tasks run at once than this."""
    note = f"no more than {n_at_once} at once: a worker was killed, probably for memory"
    reason = placement.reason
    if note not in reason:
        reason = f"{reason}; {note}"
    return replace(_cap(placement, n_at_once), reason=reason)


def _cap(placement: Placement, n_at_once: int) -> Placement:
    return replace(
        placement,
        n_workers=min(placement.n_workers, n_at_once),
        n_most=min(placement.n_most, n_at_once),
    )
