"""What the core keeps of a stage."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from amorsize_dask.core.crowding import UNWATCHED_S
from amorsize_dask.core.model import Lane, Placement, Workload
from amorsize_dask.core.statistics import StageStatistics


class Stage:
    """One stage's statistics, where it is placed, and what it can't do."""

    __slots__ = (
        "barred",
        "guessed_peak_bytes",
        "is_away",
        "is_little",
        "is_lowered",
        "left_s",
        "missed_s",
        "n_at_once",
        "n_items_a_task",
        "n_left",
        "n_losses",
        "n_losses_alone",
        "n_more",
        "n_recorded",
        "n_used",
        "next_look",
        "placement",
        "reasons",
        "sampling",
        "statistics",
        "suspects",
    )

    def __init__(self, *, is_open: bool = False) -> None:
        unwatched_s = UNWATCHED_S if is_open else inf
        self.statistics = StageStatistics(unwatched_s=unwatched_s)
        self.placement: Placement | None = None
        #: Lanes that this stage can't use, each with a task that couldn't go there or
        #: come back, and what they answered.
        self.barred: dict[Lane, int] = {}
        self.reasons: list[str] = []
        #: Unfinished tasks, by their items.
        self.n_left = 0
        #: Those that are expected beside them, in a graph that is open.
        self.n_more = 0
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
        #: The same where no other task was in its batch.
        self.n_losses_alone: dict[int, int] = {}
        #: Whether its results stay on the cluster where they are made there.
        self.is_away = False
        #: Whether all that there is to do is too little to share out.
        self.is_little = False
        #: Most of its tasks that may run at once since a worker was killed, probably
        #: for memory; ``None``: as many as fit. Whether that has just been lowered.
        self.n_at_once: int | None = None
        self.is_lowered = False
        #: What a task is taken to need at least since then. It is a guess, for which
        #: no task is refused.
        self.guessed_peak_bytes = 0.0
        #: Mean and deviation of the seconds of what is left, by items, if sizes tell
        #: that it differs from what has finished.
        self.left_s: tuple[float, float] | None = None
        #: Whether a sample is in flight.
        self.sampling = False
        #: Workers in the last decision that was recorded.
        self.n_recorded = 0
        #: Most workers, other than the caller's two, that had tasks of it at once.
        self.n_used = 0
        #: Finished tasks at which to look at the placement again.
        self.next_look = 1

    def workload(self) -> Workload:
        """Return what is left to do."""
        n_tasks = self.n_left + self.n_more
        workload = self.statistics.workload(n_tasks, self.n_items_a_task)
        if self.left_s is not None:
            mean_s, std_s = self.left_s
            workload = replace(workload, mean_s=mean_s, std_s=std_s)
        if self.guessed_peak_bytes > workload.peak_bytes:
            return replace(workload, peak_bytes=self.guessed_peak_bytes)
        return workload

    def lower(self, n_running: int, grown_bytes: float) -> None:
        """Take note that a worker was killed, probably for memory.

        Parameters
        ----------
        n_running : int
            How many workers had tasks of this stage, the one that was killed included.
        grown_bytes : float
            Most that this one is known to have had; it wanted more.
        """
        self.guessed_peak_bytes = max(
            self.guessed_peak_bytes, grown_bytes, 2 * self.statistics.sizes.peak_bytes
        )
        # Not half of the last value: when many are killed at once, each of them says
        # how many were left.
        n_at_once = max(1, n_running // 2)
        self.n_at_once = min(self.n_at_once or n_at_once, n_at_once)
        self.is_lowered = True
