"""What the caller does itself, and in which of its two threads.

The calling thread is the one that feeds the workers, so most of the caller's work is
done in the side thread. What that costs isn't worth it for next to nothing, nor where
there is no one to be fed.
"""

from __future__ import annotations

from amorsize_dask.core.dispatch import Dispatch
from amorsize_dask.core.events import CALLER, SIDE
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import Lane, Limits
from amorsize_dask.core.placing import Placing
from amorsize_dask.core.slicing import CALLER_SLICE_S, Slicing
from amorsize_dask.core.staffing import Staffing
from amorsize_dask.core.stage import Stage
from amorsize_dask.core.workers import Workers

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


class Caller:
    """Gives the caller its share of the work."""

    def __init__(
        self,
        graph: GraphState,
        workers: Workers,
        placing: Placing,
        staffing: Staffing,
        slicing: Slicing,
        dispatch: Dispatch,
        limits: Limits,
        *,
        is_streamed: bool,
    ) -> None:
        self._graph = graph
        self._workers = workers
        self._placing = placing
        self._staffing = staffing
        self._slicing = slicing
        self._dispatch = dispatch
        self._allowed = limits.allowed_lanes
        self._is_streamed = is_streamed

    def has_lone_task(self) -> bool:
        """Whether one ready task is all there is to do, and the caller may do it."""
        graph = self._graph
        return (
            Lane.INLINE in self._allowed
            and graph.n_in_flight == 0
            and graph.n_ready == 1
            and sum(graph.n_items_ready) == 1
            and all(map(self._placing.may_be_inline, graph.ready_stages))
        )

    def feed(self) -> None:
        """Give the caller a slice of the work that belongs to it, or that waits."""
        is_lone = self.has_lone_task()
        numbers = self._find_stages(is_lone=is_lone)
        booked = self._placing.caller_stages
        # Bookkeeping, and what is all there is to do, is for the calling thread.
        may_use_side = SIDE in self._workers and not is_lone and not numbers <= booked
        if may_use_side and not self._workers.side_is_idle:
            numbers, may_use_side = numbers & booked, False
        if not numbers:
            return
        tasks, seconds = self._slicing.take(numbers)
        if tasks and may_use_side:
            self._run_slice(tasks, seconds)
        elif tasks:
            self._dispatch.run(CALLER, -1, tasks)

    def _find_stages(self, *, is_lone: bool) -> set[int]:
        """Return the stages that have ready tasks for the caller.

        Those of workers that aren't up yet are among them.
        """
        placing = self._placing
        numbers = placing.placed[Lane.INLINE]
        if Lane.INLINE in self._allowed:
            for lane in (Lane.PROCESSES, Lane.CLUSTER):
                if self._staffing.is_understaffed(lane):
                    waiting = filter(placing.may_be_inline, placing.placed[lane])
                    numbers = numbers.union(waiting)
        if is_lone:
            numbers = numbers | placing.unplaced
        numbers = numbers & self._graph.ready_stages
        return numbers if self._dispatch.may_add() else numbers & placing.caller_stages

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

    def _is_unsure(self, task: int) -> bool:
        """Whether a task may take long, of a stage that only earlier runs have seen."""
        stage = self._placing.stages[self._graph.stage_of[task]]
        return stage.statistics.is_recalled and not stage.is_little

    def _is_alone_with(self, tasks: list[int], most_s: float) -> bool:
        """Whether no one else is at work, and no one need be.

        Tasks take less than `most_s` seconds, or are all that is ready. Then there is
        nothing that the calling thread should be free for.
        """
        if any(self._workers.count(lane) for lane in Lane if lane is not Lane.INLINE):
            return False
        if not self._graph.n_ready:
            return True
        numbers = {self._graph.stage_of[task] for task in tasks}
        return all(_is_short(self._placing.stages[n], most_s) for n in numbers)


def _is_short(stage: Stage, most_s: float) -> bool:
    if not stage.statistics.is_known:
        return False
    return stage.is_little or stage.statistics.mean_s * stage.n_items_a_task < most_s
