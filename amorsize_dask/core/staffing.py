"""How many workers there should be, and when more are started.

Threads start when they are needed. Worker processes take long to boot, so it is looked
at first whether there is enough to do for them: the caller works meanwhile.
"""

from __future__ import annotations

from amorsize_dask.core.events import StartWorkers
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import Costs, Lane, Limits
from amorsize_dask.core.placing import Placing
from amorsize_dask.core.workers import Workers

#: Share of the time that workers take to boot for which a stage must have been at work
#: before they are started. Smaller: a first task that is slow because it imports
#: something starts workers that no one needs; larger: the other cores idle longer.
PATIENCE_FRACTION = 0.25

#: Times of a boot that workers must be predicted to save a pipeline to be started when
#: its first item is through. Smaller: one that imports something starts workers that no
#: one needs; larger: the other cores idle until more items have come.
AHEAD_BOOTS = 5

#: Threads that are started before those that are up get work. Smaller: more rounds of
#: the loop; larger: the first ones wait until the last one has been started.
THREADS_AT_ONCE = 16


class Staffing:
    """Compares the workers that there are with those that the stages can use.

    Attributes
    ----------
    unstartable : dict of Lane to str
        Lanes in which no more workers can be started, and why.
    """

    def __init__(
        self,
        graph: GraphState,
        workers: Workers,
        placing: Placing,
        costs: Costs,
        limits: Limits,
        n_warm: int,
    ) -> None:
        self.unstartable: dict[Lane, str] = {}
        self._graph = graph
        self._workers = workers
        self._placing = placing
        self._costs = costs
        self._allowed = limits.allowed_lanes
        self._n_warm = n_warm

    def start(self, lane: Lane) -> list[StartWorkers]:
        """Start the workers that a lane lacks, if that is worth it by now."""
        n = self._n_wanted(lane) - self._workers.count(lane)
        if lane is Lane.THREADS:
            n = min(n, THREADS_AT_ONCE)
        if n <= 0 or lane in self.unstartable or not self._is_worth_booting(lane):
            return []
        return [StartWorkers(lane, self._workers.add(lane, n))]

    def boot_ahead(self) -> list[StartWorkers]:
        """Start processes for a stage that is going to need them, of an open graph.

        Its first item tells, or earlier runs do, if there are many like it: until more
        of them come, cores have nothing to do.
        """
        lane = Lane.PROCESSES
        if self._workers.count(lane) or self._n_warm or lane in self.unstartable:
            return []
        for number, stage in enumerate(self._placing.stages):
            placement = stage.placement
            if placement is None or placement.lane is not lane:
                continue
            n_boots = 1 if stage.statistics.is_recalled else AHEAD_BOOTS
            worth_s = n_boots * self._costs.boot_first_s
            if self._placing.saved_s(number) >= worth_s:
                numbers = self._workers.add(lane, placement.n_workers)
                return [StartWorkers(lane, numbers)]
        return []

    def is_understaffed(self, lane: Lane) -> bool:
        """Whether fewer workers of a lane are up than it has a use for."""
        if not self._placing.placed[lane]:
            return False
        return self._workers.count_up(lane) < max(1, self._n_wanted(lane))

    def count_sharing(self, number: int, lane: Lane) -> int:
        """Return how many workers are going to share a stage's tasks.

        Threads that aren't up yet will be in a moment.
        """
        placement = self._placing.stages[number].placement
        assert placement is not None
        n = min(placement.n_workers, self._workers.count(lane))
        if lane is Lane.THREADS and lane not in self.unstartable:
            pacing = self._placing.pacing
            return max(n, pacing.count_useful(number, placement.n_workers))
        return n

    def _n_wanted(self, lane: Lane) -> int:
        """How many workers the stages placed in a lane can use now."""
        n_ready = most = 0
        for number in self._placing.placed[lane] & self._graph.ready_stages:
            placement = self._placing.stages[number].placement
            assert placement is not None
            n_ready += self._graph.n_items_ready[number]
            n_useful = placement.n_workers
            if lane is Lane.THREADS:
                n_useful = self._placing.pacing.count_useful(number, n_useful)
            most = max(most, n_useful)
        n_free = self._workers.count(lane) - self._workers.count_busy(lane)
        return min(most, self._workers.count(lane) + max(0, n_ready - n_free))

    def _is_worth_booting(self, lane: Lane) -> bool:
        """Whether the stages of a lane have been at work long enough to start workers.

        Threads start at once, warm processes and clusters are up, and where the caller
        may not work meanwhile there is nothing to wait for.
        """
        n_up = max(self._n_warm, self._workers.count(lane))
        if lane is not Lane.PROCESSES or n_up or Lane.INLINE not in self._allowed:
            return True
        numbers = self._placing.placed[lane]
        if not all(map(self._placing.may_be_inline, numbers)):
            return True
        statistics = [self._placing.stages[number].statistics for number in numbers]
        if any(known.is_recalled for known in statistics):
            return True
        worked_s = max(known.worked_s for known in statistics)
        return worked_s >= PATIENCE_FRACTION * self._costs.boot_first_s
