"""The first look at a stage: which task is watched, and how much of it."""

from __future__ import annotations

from math import ceil

from amorsize_dask.core.dispatch import Dispatch
from amorsize_dask.core.events import SIDE
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import Lane
from amorsize_dask.core.placing import Placing
from amorsize_dask.core.slicing import Slicing
from amorsize_dask.core.workers import Workers

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


def are_few(graph: GraphState, number: int, n_cores: int) -> bool:
    """Whether a stage has so few ready tasks that one is much of the work."""
    return len(graph.ready[number]) < FEW_A_CORE * n_cores


def count_first(graph: GraphState, number: int, n_cores: int) -> int:
    """Return the items to look at first, of a stage of which nothing is known.

    Parameters
    ----------
    graph : GraphState
        The state of its tasks.
    number : int
        A stage that has ready tasks.
    n_cores : int
        Cores to share them, >= 1.
    """
    size = graph.n_items(graph.ready[number].head)
    if not are_few(graph, number, n_cores):
        return size
    return max(1, min(FIRST_ITEMS, size // (8 * n_cores)))


class Sampling:
    """Has the side thread run tasks of stages that aren't known, and watch them."""

    def __init__(
        self,
        graph: GraphState,
        workers: Workers,
        placing: Placing,
        slicing: Slicing,
        dispatch: Dispatch,
        n_cores: int,
    ) -> None:
        self._graph = graph
        self._workers = workers
        self._placing = placing
        self._slicing = slicing
        self._dispatch = dispatch
        self._n_cores = n_cores

    def sample(self) -> None:
        """Watch a task of a stage that isn't placed, the first such stage first."""
        if not self._workers.side_is_idle or not self._dispatch.may_add():
            return
        candidates = self._find_candidates()
        if not candidates:
            return
        graph = self._graph
        number = min(candidates, key=lambda number: graph.ready[number].head)
        may_cut = are_few(graph, number, self._n_cores)
        least = 1 if may_cut else graph.n_items(graph.ready[number].head)
        n = self._dispatch.fit(number, self._size(number), Lane.INLINE, least)
        if n:
            self._placing.stages[number].sampling = True
            tasks = self._dispatch.take(number, n, may_cut=may_cut)
            self._dispatch.run(SIDE, number, tasks, watched=True)

    def _find_candidates(self) -> list[int]:
        """Return the stages that have ready tasks and are to be looked at."""
        placing, ready = self._placing, self._graph.ready_stages
        return [
            number
            for number in (placing.unplaced | placing.unwatched) & ready
            if not placing.stages[number].sampling
            and not placing.stages[number].suspects
        ]

    def _size(self, number: int) -> int:
        """Return the items to watch of a stage."""
        statistics = self._placing.stages[number].statistics
        mean_s = statistics.mean_s
        if not statistics.n_finished or not mean_s:
            return count_first(self._graph, number, self._n_cores)
        n_ready = self._graph.n_items_ready[number]
        n = ceil(min(WATCH_S / mean_s, n_ready / 4))
        return min(n, self._slicing.most_to_trust(number, mean_s))
