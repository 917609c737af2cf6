"""What the core keeps of a stage."""

from __future__ import annotations

from amorsize_dask.core.model import Lane, Placement, Workload
from amorsize_dask.core.statistics import StageStatistics


class Stage:
    """One stage's statistics, where it is placed, and what it can't do."""

    __slots__ = (
        "barred",
        "is_little",
        "missed_s",
        "n_items_a_task",
        "n_left",
        "n_losses",
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
        #: Unfinished tasks, by their items.
        self.n_left = 0
        #: Seconds that splitting its tasks would have saved with worker processes up.
        self.missed_s = 0.0
        #: Items that each of its tasks has, in the mean.
        self.n_items_a_task = 1.0
        #: Those of them that were running when their worker died, and how it ended.
        #: They may be what killed it, so the stage stays out of the calling process
        #: while there are any.
        self.suspects: dict[int, str] = {}
        #: How often a task's worker has died while it was running.
        self.n_losses: dict[int, int] = {}
        #: Whether all that there is to do is too little to share out.
        self.is_little = False
        #: Whether a sample is in flight.
        self.sampling = False
        #: Workers in the last decision that was recorded.
        self.n_recorded = 0
        #: Finished tasks at which to look at the placement again.
        self.next_look = 1

    def workload(self) -> Workload:
        """Return what is left to do."""
        return self.statistics.workload(self.n_left, self.n_items_a_task)
