"""Which worker gets which tasks."""

from __future__ import annotations

from math import ceil

from amorsize_dask.core.batch_size import choose_batch_size
from amorsize_dask.core.dispatch import Dispatch
from amorsize_dask.core.events import (
    CALLER,
    SIDE,
    Action,
)
from amorsize_dask.core.experience import Sampled
from amorsize_dask.core.fitting import Fitting
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import Lane, Limits, Machine
from amorsize_dask.core.placement import count_slots
from amorsize_dask.core.placing import Placing
from amorsize_dask.core.staffing import Staffing
from amorsize_dask.core.stage import Stage
from amorsize_dask.core.statistics import SHARED_S, WAITING_FRACTION
from amorsize_dask.core.workers import MAX_DEPTH, MOST_DEPTH, Workers

#: Seconds of work that the caller takes at once. Smaller: a hand-over every few tasks;
#: larger: workers that have come up wait for tasks that the caller holds.
CALLER_SLICE_S = 0.02

#: Seconds of work below which the calling thread does a slice itself instead of
#: handing it to the side thread. Smaller: hand-overs that cost as much as the work;
#: larger: workers wait for the calling thread, which is the one that feeds them.
CALLER_THREAD_S = 0.001

#: Seconds of a task below which the calling thread does a whole slice of such tasks,
#: if no worker has to be fed. Smaller: hand-overs between two threads, for nothing;
#: larger: one that takes much longer than those before is noticed when it has ended.
SHORT_S = 0.0005

#: Seconds after which it begins no more tasks of a slice of longer ones, which it does
#: as well if no worker has to be fed. Smaller: where a core was lacking for a moment
#: slices are cut; larger: tasks that take longer than those before are noticed late.
OVERTIME_S = 0.04

#: Times that the caller may take more items at once than are known so far.
#: Smaller: many slices of short tasks; larger: where the first items are short, and
#: the later ones long, it takes all of them, and the other cores have nothing to do.
SLICE_GROWTH = 4

#: Seconds of work that it may take in any case. Smaller: graphs of trivial tasks are
#: begun in many slices; larger: so many items are taken on the word of a first one.
TRUST_S = 0.001

#: Bytes of results that one slice of the caller may make, so that short tasks with
#: large results are consumed before the next slice makes more. Smaller: hand-overs;
#: larger: memory that depth-first order would not have needed.
SLICE_BYTES = 16e6

#: Share of the memory limit that results of one batch of a cluster may take. Smaller:
#: more round trips; larger: what is read of them isn't noticed in time.
SLICE_FRACTION = 0.1

#: Seconds of tasks to watch to know a stage's GIL share. Smaller: a few wake-ups
#: decide, and noise with them; larger: workers start later.
WATCH_S = 0.02

#: Ready tasks for each core below which a task is cut before it is looked at. Smaller:
#: a first look takes a large share of the work, on one core; larger: what a call costs
#: is taken for what the items of small tasks cost.
FEW_A_CORE = 4

#: Most items of a task that are looked at first, if it has to be cut. Smaller: what a
#: call costs is taken for what items cost; larger: the other cores wait for the first
#: look.
FIRST_ITEMS = 16

#: Times as large as in earlier runs that results may be for all that wait to begin at
#: once. Smaller: more memory may be taken than is allowed, where data has become
#: another; larger: where memory is short a round of waiting is lost.
LARGER = 100

#: Times as long as others that a batch may take whose results no one misses yet.
#: Smaller: each costs the caller its time, which feeds slower stages; larger: who waits
#: for the end of one, or counts what it holds, does so for longer.
UNMISSED_BATCHES = 5


class Feeding:
    """Hands out ready tasks, each to a worker of the lane its stage is placed in."""

    def __init__(
        self,
        graph: GraphState,
        workers: Workers,
        placing: Placing,
        fitting: Fitting,
        staffing: Staffing,
        dispatch: Dispatch,
        machine: Machine,
        limits: Limits,
        *,
        is_streamed: bool = False,
    ) -> None:
        self._graph = graph
        self._stage_of = graph.stage_of
        self._workers = workers
        self._placing = placing
        self._fitting = fitting
        self._staffing = staffing
        self._dispatch = dispatch
        self._machine = machine
        self._limits = limits
        self._allowed = limits.allowed_lanes
        self._is_streamed = is_streamed
        # Seconds for which the user of a stream has been busy, lately.
        self._away_s = 0.0

    def hand_out(self) -> list[Action]:
        """Return what to run where now, and which workers to start.

        A `Run` of `CALLER` comes last.
        """
        self._sample()
        if self._graph.graph.is_open:
            self._placing.pacing.begin_turn()
            self._dispatch.actions += self._staffing.boot_ahead()
        for lane in (Lane.CLUSTER, Lane.PROCESSES):
            if self._placing.placed[lane]:
                self._dispatch.actions += self._staffing.start(lane)
                self._feed_workers(lane)
        if self._placing.placed[Lane.THREADS]:
            # Those that are up needn't wait until more have been started.
            self._feed_workers(Lane.THREADS)
            self._dispatch.actions += self._staffing.start(Lane.THREADS)
        self._feed_caller()
        return self._dispatch.collect()

    def note_machine(self, machine: Machine) -> None:
        """Go by another machine from now on."""
        self._machine = machine

    def note_away(self, seconds: float) -> None:
        """Take note that for so long nothing could be handed out.

        It is going to happen again, so workers get more ahead; if it doesn't, that is
        forgotten by half each time.
        """
        self._away_s = max(seconds, self._away_s / 2)

    # -- sampling -------------------------------------------------------------------

    def _sample(self) -> None:
        """Watch a task of a stage that isn't placed, the first such stage first."""
        if not (self._placing.unplaced or self._placing.unwatched):
            return
        if (
            not self._workers.side_is_idle
            or self._is_lone()
            or not self._dispatch.may_add()
        ):
            return
        ready = self._graph.ready
        candidates = [
            number
            for number in (self._placing.unplaced | self._placing.unwatched)
            & self._graph.ready_stages
            if not self._placing.stages[number].sampling
            and not self._placing.stages[number].suspects
        ]
        if not candidates:
            return
        number = min(candidates, key=lambda number: ready[number].head)
        stage = self._placing.stages[number]
        n = self._sample_size(number)
        n_ready = self._graph.n_items_ready[number]
        if stage.statistics.n_finished and stage.statistics.mean_s:
            n = ceil(min(WATCH_S / stage.statistics.mean_s, n_ready / 4))
            n = min(n, self._most_to_trust(number, stage.statistics.mean_s))
        may_cut = self._are_few(number)
        size = self._graph.n_items(ready[number].head)
        least = 1 if may_cut else size
        n = self._dispatch.fit(number, n, Lane.INLINE, least)
        if not n:
            return
        stage.sampling = True
        tasks = self._dispatch.take(number, n, may_cut=may_cut)
        self._dispatch.run(SIDE, number, tasks, watched=True)

    def _are_few(self, number: int) -> bool:
        """Whether a stage has so few ready tasks that one is much of the work."""
        n_ready = len(self._graph.ready[number])
        return n_ready < FEW_A_CORE * self._machine.n_cores

    def _sample_size(self, number: int) -> int:
        """Return the items to look at first, of a stage of which nothing is known."""
        size = self._graph.n_items(self._graph.ready[number].head)
        if not self._are_few(number):
            return size
        return max(1, min(FIRST_ITEMS, size // (8 * self._machine.n_cores)))

    def _is_lone(self) -> bool:
        """Whether one ready task is all there is to do, and the caller may do it."""
        return (
            Lane.INLINE in self._allowed
            and self._graph.n_in_flight == 0
            and self._graph.n_ready == 1
            and sum(self._graph.n_items_ready) == 1
            and all(map(self._placing.may_be_inline, self._graph.ready_stages))
        )

    # -- workers --------------------------------------------------------------------

    def _feed_workers(self, lane: Lane) -> None:
        """Hand out batches: to idle workers first, then to wait behind others."""
        for depth in range(self._count_ahead()):
            # Stages that leave their tasks to workers that are idle: so they do then
            # for all workers, of which there may be a hundred.
            waiting: set[int] = set()
            for worker in self._workers.with_depth(lane, depth):
                ready = self._placing.placed[lane] & self._graph.ready_stages
                if not ready:
                    return
                if ready <= waiting:
                    break
                for number in self._stages_for(ready, worker):
                    if not self._dispatch.may_add():
                        return
                    if number in waiting:
                        break
                    n = self._batch_size(number, lane)
                    if depth and not self._may_queue(number, lane, n, depth):
                        waiting.add(number)
                        break
                    n = self._dispatch.fit(number, n, lane)
                    if n:
                        tasks = self._dispatch.take(number, n, may_cut=True)
                        self._dispatch.run(worker, number, tasks)
                        break

    def _stages_for(self, ready: set[int], worker: int) -> list[int]:
        """Return those of some stages that a worker could join, lowest first."""
        numbers = [number for number in ready if self._may_join(number, worker)]
        if len(numbers) > 1:
            numbers.sort(key=self._graph.rank)
        return numbers

    def _may_join(self, number: int, worker: int) -> bool:
        """Whether a stage has room for one more worker, or has this one already."""
        stage = self._placing.stages[number]
        placement = stage.placement
        assert placement is not None
        n_on, n_most = self._workers.count_on(number), placement.n_most
        if number in self._dispatch.side_stages and placement.lane is not Lane.CLUSTER:
            # If memory leaves no room for one on each core, the side thread has one.
            n_on += n_most < count_slots(self._machine, placement.lane)
        recalled = stage.statistics.recalled
        if recalled is not None and not isinstance(recalled, Sampled):
            n_slots = count_slots(self._machine, placement.lane)
            n_most = min(n_most, max(n_slots, self._count_trusted(number)))
        if number in self._workers[worker].stages:
            # If there are too many, they get less work until there aren't.
            return n_on <= n_most
        return n_on < n_most

    def _count_trusted(self, number: int) -> int:
        """Return how many tasks may be begun on the word of earlier runs alone.

        Results may be larger than theirs: no more than there are cores. Of an open
        graph whatever waits is waited for at once, if there is room for much larger
        ones: nothing else can be done before some are there.
        """
        stage = self._placing.stages[number]
        waits = stage.statistics.cpu_fraction < WAITING_FRACTION
        if not self._graph.graph.is_open or not waits:
            return 0
        return self._fitting.count_fitting(number, Lane.THREADS, LARGER)

    def _count_ahead(self) -> int:
        """Return how many batches a worker may have.

        Two, and as many more as are done while the user of a stream is busy.
        """
        n_more = int(self._away_s / self._limits.target_batch_s)
        return min(MAX_DEPTH + n_more, MOST_DEPTH)

    def _may_queue(self, number: int, lane: Lane, n: int, depth: int) -> bool:
        """Whether a batch of `n` tasks may wait behind those that a worker has."""
        statistics = self._placing.stages[number].statistics
        mean_s = statistics.mean_s
        if not statistics.n_finished:
            return False
        if mean_s > self._limits.target_batch_s and depth * mean_s > self._away_s:
            # It could have to wait for long, and no one else could take it.
            return False
        # Near the end others will want it.
        n_left = self._graph.n_items_ready[number] - n
        n_sharing = self._staffing.count_sharing(number, lane)
        return n_left >= n * max(self._workers.count(lane), n_sharing)

    def _batch_size(self, number: int, lane: Lane) -> int:
        stage = self._placing.stages[number]
        ready = self._graph.ready[number]
        if not stage.statistics.is_known or stage.statistics.is_recalled:
            return self._sample_size(number)
        assert stage.placement is not None
        n_workers = self._staffing.count_sharing(number, lane)
        if number in self._placing.unwatched:
            # There are going to be more of them.
            n_workers = count_slots(self._machine, lane)
        # Each may have that many batches of this size.
        n_sharing = MAX_DEPTH * max(1, n_workers)
        target_s = self._limits.target_batch_s
        if lane is Lane.THREADS and not stage.statistics.is_sharing_known:
            # Until it has shown whether they are in each other's way.
            target_s = min(target_s, SHARED_S / n_sharing)
        if self._graph.graph.is_open and self._placing.has_unplaced:
            # Its stages can't begin, or be placed, until this has results.
            target_s = 0.0
        target_s = min(target_s, self._placing.pacing.most_batch_s(number))
        n = self._limits.cap(
            choose_batch_size(
                self._graph.n_items_ready[number],
                n_sharing,
                stage.statistics.mean_s,
                self._overhead_s(lane, n_workers),
                target_s,
            )
        )
        if lane is Lane.THREADS:
            n = max(n, self._n_unmissed(number, n_workers))
        if lane is Lane.CLUSTER:
            n = min(n, self._n_movable(stage))
        if stage.suspects:
            # A suspect goes alone, so that no other task dies with it.
            n_alone = 0
            for task in ready.lowest(n):
                if task in stage.suspects:
                    return n_alone or self._graph.n_items(task)
                n_alone += self._graph.n_items(task)
        return max(1, n)

    def _n_unmissed(self, number: int, n_workers: int) -> int:
        """Return how many items a batch may have that no one waits for meanwhile.

        The end of such a stage needn't be even.
        """
        seconds = self._placing.pacing.least_batch_s(number)
        mean_s = self._placing.stages[number].statistics.mean_s
        if not seconds or not mean_s:
            return 1
        n = int(min(seconds, UNMISSED_BATCHES * self._limits.target_batch_s) / mean_s)
        return self._limits.cap(min(n, self._graph.n_items_ready[number]))

    def _overhead_s(self, lane: Lane, n_workers: int) -> float:
        """Return what a batch costs beside its tasks."""
        costs, cluster = self._machine.costs, self._machine.cluster
        if lane is Lane.CLUSTER and cluster is not None:
            # Its round trips are longer, but others are under way meanwhile.
            return cluster.overhead_s(n_workers)
        return costs.hand_off_s if lane is Lane.THREADS else costs.batch_s

    def _n_movable(self, stage: Stage) -> int:
        """Return how many items one message should have, going by their bytes."""
        workload = stage.statistics.workload(0)
        most_bytes = max(1.0, workload.in_bytes, workload.out_bytes)
        limit_bytes = self._limits.memory_limit_bytes or self._machine.memory_bytes
        room_bytes = min(SLICE_BYTES, SLICE_FRACTION * limit_bytes)
        return max(1, int(room_bytes / most_bytes))

    # -- the caller -----------------------------------------------------------------

    def _feed_caller(self) -> None:
        """Give the caller a slice of the work that belongs to it, or that waits."""
        numbers = self._placing.placed[Lane.INLINE]
        if Lane.INLINE in self._allowed:
            for lane in (Lane.PROCESSES, Lane.CLUSTER):
                if self._staffing.is_understaffed(lane):
                    numbers = numbers | {
                        number
                        for number in self._placing.placed[lane]
                        if self._placing.may_be_inline(number)
                    }
            if self._is_lone():
                numbers = numbers | self._placing.unplaced
        numbers = numbers & self._graph.ready_stages
        if not self._dispatch.may_add():
            numbers &= self._placing.caller_stages
        if not numbers:
            return
        is_booking = numbers <= self._placing.caller_stages
        has_side = SIDE in self._workers and not self._is_lone()
        if has_side and not is_booking:
            if self._workers.side_is_idle:
                tasks, seconds = self._take_slice(numbers)
                if not tasks:
                    return
                self._run_slice(tasks, seconds)
                return
            numbers &= self._placing.caller_stages
            if not numbers:
                return
        tasks, _ = self._take_slice(numbers)
        if tasks:
            self._dispatch.run(CALLER, -1, tasks)

    def _run_slice(self, tasks: list[int], seconds: float) -> None:
        """Run a slice that should take so long in the calling thread or beside it.

        Beside it each takes two hand-overs, and memory from elsewhere: what large
        results need comes to the calling thread at half of the cost, or less.
        """
        if self._is_unsure(tasks[-1]):
            self._dispatch.run(SIDE, -1, tasks)
        elif seconds < CALLER_THREAD_S or self._is_alone_with(tasks, SHORT_S):
            self._dispatch.run(CALLER, -1, tasks)
        elif not self._is_streamed and self._is_alone_with(tasks, CALLER_SLICE_S):
            # Who takes a stream's results wants the next ones made meanwhile.
            self._dispatch.run(CALLER, -1, tasks, most_s=OVERTIME_S)
        else:
            self._dispatch.run(SIDE, -1, tasks)

    def _is_alone_with(self, tasks: list[int], most_s: float) -> bool:
        """Whether no one else is at work, and no one need be.

        Tasks take less than `most_s` seconds, or are all that is ready. Then there is
        nothing that the calling thread should be free for.
        """
        if any(self._workers.count(lane) for lane in Lane if lane is not Lane.INLINE):
            return False
        if not self._graph.n_ready:
            return True
        stages = {self._stage_of[task] for task in tasks}
        return all(_is_short(self._placing.stages[number], most_s) for number in stages)

    def _is_unsure(self, task: int) -> bool:
        """Whether a task may take long, of a stage that only earlier runs have seen."""
        stage = self._placing.stages[self._stage_of[task]]
        return stage.statistics.is_recalled and not stage.is_little

    def _take_slice(self, numbers: set[int]) -> tuple[list[int], float]:
        """Take ready tasks of these stages, lowest first, for a slice of time."""
        ready = self._graph.ready
        tasks: list[int] = []
        left_s, left_bytes = CALLER_SLICE_S, SLICE_BYTES
        most = self._limits.cap(len(self._stage_of))
        is_booking = numbers <= self._placing.caller_stages
        # Bookkeeping takes next to nothing, unless what it passes on is on disk.
        if not is_booking or self._fitting.has_unread:
            first = min(numbers, key=self._graph.rank)
            size = self._graph.n_items(ready[first].head)
            n_tasks = len(ready[first])
            n_items = size * n_tasks
            n = self._dispatch.fit(first, n_items, Lane.INLINE, size)
            n //= size
            if not n:
                return [], 0.0
            if n < n_tasks or self._fitting.has_unread:
                numbers, most = {first}, min(most, n)
            left_bytes = min(left_bytes, max(1.0, self._fitting.room_bytes))
        room_bytes = self._fitting.room_bytes - left_bytes
        heads = sorted((self._graph.rank(number), number) for number in numbers)
        while heads and len(tasks) < most and left_s > 0 and left_bytes > 0:
            _, number = heads.pop(0)
            item_s, item_bytes = self._expect(number)
            if (
                tasks
                and self._placing.stages[number].statistics.peak_bytes > room_bytes
            ):
                break  # the first stage alone is known to fit
            # Tasks of a stage are taken to be of the first one's size.
            size = self._graph.n_items(ready[number].head)
            n_wanted = ceil(min(left_s / item_s, left_bytes / item_bytes))
            n = min(n_wanted, self._most_to_trust(number, item_s))
            n_tasks = min(ceil(n / size), most - len(tasks), len(ready[number]))
            if heads and not self._graph.graph.is_open:
                n_tasks = ready[number].count_below(heads[0][0], n_tasks)
            n = min(n, n_tasks * size)
            may_cut = any(
                number in self._placing.placed[lane]
                for lane in (Lane.PROCESSES, Lane.CLUSTER)
            )
            if self._placing.stages[number].statistics.is_recalled:
                # It ends with the first task of which only earlier runs tell.
                n_tasks, n = 1, min(n, size)
                most = len(tasks) + 1
            tasks += self._dispatch.take(number, n, most=n_tasks, may_cut=may_cut)
            left_s -= n * item_s
            left_bytes -= n * item_bytes
            if n < n_wanted:
                break
            if ready[number]:
                heads.append((self._graph.rank(number), number))
                heads.sort()
        return tasks, CALLER_SLICE_S - left_s

    def _expect(self, number: int) -> tuple[float, float]:
        """Seconds and bytes to expect of an item, both > 0."""
        statistics = self._placing.stages[number].statistics
        if not statistics.is_known:
            # A slice ends with the first task of which nothing is known: it may be
            # long, or its result large.
            return CALLER_SLICE_S, SLICE_BYTES
        return max(statistics.mean_s, 1e-9), max(statistics.held_bytes, 1.0)

    def _most_to_trust(self, number: int, item_s: float) -> int:
        """Return how many more items those that are known can speak for."""
        if number in self._placing.caller_stages:
            return len(self._stage_of)
        n_known = self._placing.stages[number].statistics.n_items_known
        return max(SLICE_GROWTH * max(1, n_known), int(TRUST_S / item_s))


def _is_short(stage: Stage, most_s: float) -> bool:
    if not stage.statistics.is_known:
        return False
    return stage.is_little or stage.statistics.mean_s * stage.n_items_a_task < most_s
