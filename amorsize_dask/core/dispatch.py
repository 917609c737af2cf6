"""Gives tasks to workers: the one place where a batch begins.

Covers: what is taken out of the graph, cut if need be, counted against the budget and
noted of the worker. Does not cover whose turn it is, or how much of it.
"""

from __future__ import annotations

from amorsize_dask.core.events import SIDE, Action, Cut, Run
from amorsize_dask.core.fitting import Fitting
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import CALLER_LANES, Lane, Limits
from amorsize_dask.core.placing import Placing
from amorsize_dask.core.workers import Workers


class Dispatch:
    """Takes ready tasks and gives them to workers.

    Attributes
    ----------
    actions : list of Action
        What is to be done, in order, since it was last collected.
    last_tries : set of int
        Unfinished tasks that would end the run if they lost one more worker, where
        memory probably was the cause. While there are any, one batch runs at a time.
    side_stages : set of int
        The stages of what the side thread is running.
    """

    def __init__(
        self,
        graph: GraphState,
        workers: Workers,
        placing: Placing,
        fitting: Fitting,
        limits: Limits,
    ) -> None:
        self.actions: list[Action] = []
        self.last_tries: set[int] = set()
        self.side_stages: set[int] = set()
        self._graph = graph
        self._stage_of = graph.stage_of
        self._workers = workers
        self._placing = placing
        self._fitting = fitting
        self._limits = limits
        # For the caller's two, whether its batch began among busy threads.
        self._began_crowded: dict[int, bool] = {}

    def collect(self) -> list[Action]:
        """Return what is to be done, and begin anew."""
        actions, self.actions = self.actions, []
        return actions

    # -- a batch --------------------------------------------------------------------

    def may_add(self) -> bool:
        """Whether a batch may be started beside those that are running."""
        return not self.last_tries or not self._graph.n_in_flight

    def fit(self, number: int, n: int, lane: Lane, least: int = 1) -> int:
        """Return how many of `n` items of a stage may be started as one batch.

        `Fitting` says it; what has to be done before is added to the actions.
        """
        return self._fitting.fit(number, n, lane, self.actions, least)

    def take(
        self, number: int, n: int, *, may_cut: bool, most: int | None = None
    ) -> list[int]:
        """Take about `n` items of a stage, in `most` tasks at most."""
        most = self._limits.cap(n if most is None else most)
        if self._graph.graph.rest_stage is None:
            return self._graph.take(number, min(n, most))
        cuts: list[tuple[int, int, int]] = []
        tasks = self._graph.take_items(number, n, cuts, most=most, may_cut=may_cut)
        for task, part, size in cuts:
            self.actions.append(Cut(task, part, size))
            if self._stage_of[task] == self._graph.graph.rest_stage:
                self._placing.expect_rest()
        return tasks

    def run(
        self,
        worker: int,
        stage: int,
        tasks: list[int],
        *,
        watched: bool = False,
        most_s: float | None = None,
    ) -> None:
        """Have a worker run tasks that were taken.

        The caller and its side thread may have tasks of several stages; for these the
        stage is -1.
        """
        self._workers.take_up(worker, stage, tasks)
        if worker > SIDE:
            state = self._placing.stages[stage]
            state.n_used = max(state.n_used, self._workers.count_on(stage))
        if worker == SIDE:
            self.side_stages = {self._stage_of[task] for task in tasks}
        if worker <= SIDE:
            self._began_crowded[worker] = self._has_crowd(tasks[0])
        self._fitting.begin(worker, tasks, stage, self._workers[worker].lane)
        self.actions.append(Run(worker, tasks, watched, most_s))

    # -- its company ----------------------------------------------------------------

    def note_side_done(self) -> None:
        """Take note that the side thread has finished its batch."""
        self.side_stages = set()

    def is_crowded(self, worker: int, batch: list[int]) -> bool:
        """Whether threads with other stages' tasks may have kept a batch waiting."""
        if self._workers[worker].lane not in CALLER_LANES or not batch:
            return False
        return self._began_crowded.get(worker, False) or self._has_crowd(batch[0])

    def _has_crowd(self, task: int) -> bool:
        """Whether threads are busy with tasks of other stages than this one's."""
        number = self._stage_of[task]
        n_own = self._workers.count_on(number) * (
            number in self._placing.placed[Lane.THREADS]
        )
        return self._workers.count_busy(Lane.THREADS) > n_own
