"""Which worker gets which tasks, turn by turn."""

from __future__ import annotations

from amorsize_dask.core.batching import Batching
from amorsize_dask.core.caller import Caller
from amorsize_dask.core.dispatch import Dispatch
from amorsize_dask.core.events import Action
from amorsize_dask.core.experience import Sampled
from amorsize_dask.core.fitting import Fitting
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import WAITING_FRACTION, Lane, Limits, Machine
from amorsize_dask.core.placement import count_slots
from amorsize_dask.core.placing import Placing
from amorsize_dask.core.sampling import Sampling
from amorsize_dask.core.slicing import Slicing
from amorsize_dask.core.staffing import Staffing
from amorsize_dask.core.workers import MAX_DEPTH, MOST_DEPTH, Workers

#: Times as large as in earlier runs that results may be for all that wait to begin at
#: once. Smaller: more memory may be taken than is allowed, where data has become
#: another; larger: where memory is short a round of waiting is lost.
LARGER = 100


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
        self._workers = workers
        self._placing = placing
        self._fitting = fitting
        self._staffing = staffing
        self._dispatch = dispatch
        self._machine = machine
        self._limits = limits
        slicing = Slicing(graph, placing, fitting, dispatch, limits)
        self._sampling = Sampling(
            graph, workers, placing, slicing, dispatch, machine.n_cores
        )
        self._batching = Batching(graph, placing, staffing, machine, limits)
        self._caller = Caller(
            graph,
            workers,
            placing,
            staffing,
            slicing,
            dispatch,
            limits,
            is_streamed=is_streamed,
        )
        # Seconds for which the user of a stream has been busy, lately.
        self._away_s = 0.0

    def hand_out(self) -> list[Action]:
        """Return what to run where now, and which workers to start.

        A `Run` of `CALLER` comes last.
        """
        is_known = not (self._placing.unplaced or self._placing.unwatched)
        if not is_known and not self._caller.has_lone_task():
            self._sampling.sample()
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
        self._caller.feed()
        return self._dispatch.collect()

    def note_machine(self, machine: Machine) -> None:
        """Go by another machine from now on."""
        self._machine = machine
        self._batching.note_machine(machine)

    def note_away(self, seconds: float) -> None:
        """Take note that for so long nothing could be handed out.

        It is going to happen again, so workers get more ahead; if it doesn't, that is
        forgotten by half each time.
        """
        self._away_s = max(seconds, self._away_s / 2)

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
                    n = self._batching.choose_size(number, lane)
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
