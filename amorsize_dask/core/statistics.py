"""What is known about a stage from the tasks that have finished so far.

Covers seconds, and their shares in which a task computes or holds the GIL. What can be
told without the rest has files of its own: `sizes`, `packing`, `crew`, `sharing`,
`crowding` and `staleness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from amorsize_dask.core.crew import Crew
from amorsize_dask.core.crowding import Crowding
from amorsize_dask.core.experience import Experience
from amorsize_dask.core.fading import WINDOW, weigh
from amorsize_dask.core.model import WAITING_FRACTION, Lane, Workload
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.packing import Packing
from amorsize_dask.core.sharing import Sharing
from amorsize_dask.core.sizes import Sizes
from amorsize_dask.core.staleness import is_exceeded, is_refuted

#: Spread assumed of a stage of which one task has been seen, in means. Smaller:
#: uneven stages are taken for even; larger: even ones get needlessly small batches.
FIRST_SPREAD = 0.5

#: Items that earlier runs count for at most. Smaller: the first outcomes of a run,
#: which are not typical, outweigh what is known; larger: a stage that has become
#: somewhat different is seen as it was.
RECALLED_ITEMS = 10


class StageStatistics:
    """Fading means of the outcomes of one stage.

    They are per item of work: a task that could be cut counts as the items that it
    had, any other one as one. A mean over the first `WINDOW` outcomes is the plain
    mean; after that each new outcome counts ``1 / WINDOW`` at least.
    """

    __slots__ = (
        "_cpu_s",
        "_crew",
        "_crowded_s",
        "_crowding",
        "_glimpse_cpu_fraction",
        "_glimpse_crowded_s",
        "_glimpse_s",
        "_is_remembered",
        "_mean_s",
        "_n_items_counted",
        "_n_items_cpu",
        "_recalled",
        "_sharing",
        "_variance",
        "gil_fraction",
        "n_by_lane",
        "n_counted",
        "n_finished",
        "n_items_finished",
        "packing",
        "seconds_by_lane",
        "sizes",
    )

    def __init__(self, *, unwatched_s: float = inf) -> None:
        #: Finished tasks, their items, and those of the tasks whose seconds count.
        self.n_finished = 0
        self.n_items_finished = 0
        self.n_counted = 0
        #: Share of the time in which the GIL is held; ``None``: not measured.
        self.gil_fraction: float | None = None
        #: What is known in bytes, and of pickling these.
        self.sizes = Sizes()
        self.packing = Packing()
        #: Tasks and seconds of tasks by lane, for the record.
        self.n_by_lane: dict[Lane, int] = {}
        self.seconds_by_lane: dict[Lane, float] = {}
        self._mean_s = 0.0
        self._variance = 0.0
        self._cpu_s = 0.0
        self._n_items_counted = 0
        self._n_items_cpu = 0
        # Of the mean seconds, those in which a task lacked the GIL.
        self._crowded_s = 0.0
        self._crowding = Crowding(unwatched_s)
        # What tasks in threads take, and what they do to each other.
        self._crew = Crew()
        self._sharing = Sharing()
        self._glimpse_s = 0.0
        self._glimpse_cpu_fraction = 1.0
        self._glimpse_crowded_s = 0.0
        # What earlier runs have shown, until an outcome has shown the same or not; and
        # whether that still counts.
        self._recalled: Experience | None = None
        self._is_remembered = False

    @property
    def recalled(self) -> Experience | None:
        """What earlier runs have shown, as long as that is all that is known."""
        return self._recalled

    @property
    def is_recalled(self) -> bool:
        """Whether all that is known is from earlier runs."""
        return self._recalled is not None

    @property
    def is_known(self) -> bool:
        """Whether a task has been seen, if only a part of one."""
        return self.n_counted > 0 or self.has_glimpse

    @property
    def n_items_known(self) -> int:
        """Items that what is known rests on, those of earlier runs included."""
        return self._n_items_counted

    @property
    def mean_s(self) -> float:
        """Mean seconds of an item.

        An unfinished one counts with twice the time that it has taken so far, since
        half of all looks fall into the first half of a task. Alone they take no longer
        than beside others.
        """
        mean_s = self._mean_s - self._find_overrated_s()
        if not self._glimpse_s:
            return mean_s
        return self._with_glimpse(mean_s, max(mean_s, 2 * self._glimpse_s))

    def _find_overrated_s(self) -> float:
        """Return the seconds that tasks take less beside others than was counted.

        It is the first task of a run that counts too much, and not what whole runs have
        shown: where data is sorted the first ones are shorter than the others.
        """
        if self._is_remembered or not self._crew.mean_s:
            return 0.0
        return max(0.0, self._mean_s - self._crew.mean_s)

    @property
    def cpu_fraction(self) -> float:
        """Share of its seconds in which a task computes."""
        if not self._n_items_cpu or self._mean_s <= 0:
            return self._glimpse_cpu_fraction
        fraction = min(1.0, self._cpu_s / self._mean_s)
        others_s = min(self._mean_s, self._crew.mean_s)
        # What waits for the GIL would seem to wait for something else.
        if others_s and min(fraction, self.gil_fraction or 0.0) < WAITING_FRACTION:
            fraction = min(fraction, self._crew.cpu_s / others_s)
        return fraction

    @property
    def alone_s(self) -> float:
        """Mean seconds of an item, without those in which it lacked the GIL."""
        crowded_s = max(0.0, self._crowded_s - self._find_overrated_s())
        return max(0.0, self.mean_s - crowded_s)

    @property
    def is_waiting(self) -> bool:
        """Whether a task mostly waits, and that for something else than the GIL."""
        return self.mean_s * self.cpu_fraction < WAITING_FRACTION * self.alone_s

    @property
    def worked_s(self) -> float:
        """Seconds of work that this stage has had, as far as is known."""
        return sum(self.seconds_by_lane.values()) + self._glimpse_s

    def add(
        self,
        outcomes: Sequence[Outcome],
        lane: Lane,
        *,
        n_items: int | None = None,
        is_crowded: bool = False,
        shares_gil: bool | None = None,
    ) -> None:
        """Count tasks that have finished together.

        They have `n_items` items in all, by default one each.

        In threads, and where else `shares_gil` says so, a task's seconds contain its
        waiting for the GIL and for a core, so they only count while nothing better is
        known. Of one that mostly waits it is seen there if it computes less than was
        thought: the first task connects, or imports something. `is_crowded` says that
        it may have had to wait for the GIL elsewhere, too.
        """
        n = len(outcomes)
        n_items = n if n_items is None else n_items
        each_s = [outcome.seconds for outcome in outcomes]
        seconds = sum(each_s)
        if self._recalled is not None:
            if is_refuted(self._recalled, outcomes, n_items, lane):
                self._forget_seconds()
            self._recalled = None
        self.n_finished += n
        self.n_items_finished += n_items
        self.n_by_lane[lane] = self.n_by_lane.get(lane, 0) + n
        self.seconds_by_lane[lane] = self.seconds_by_lane.get(lane, 0.0) + seconds
        self.sizes.add(outcomes, n_items / n)
        if shares_gil is None:
            shares_gil = lane is Lane.THREADS
        if shares_gil and self.n_counted and self.gil_fraction is not None:
            self._crew.add(outcomes, n_items)
            return
        self.n_counted += n
        self._n_items_counted += n_items
        weight = weigh(n_items, self._n_items_counted)
        mean_s = seconds / n_items
        delta = mean_s - self._mean_s
        self._mean_s += weight * delta
        # What is seen are means of so many items, which spread less than these do.
        size = n_items / n
        within = 0.0
        if n > 1:
            task_s = seconds / n
            within = sum([(s - task_s) ** 2 for s in each_s]) / (n * size)
        self._variance = (1 - weight) * (self._variance + weight * size * delta**2)
        self._variance += weight * within
        measured_s = [out.cpu_s for out in outcomes if out.cpu_s is not None]
        crowded_s = 0.0
        if measured_s:
            self._n_items_cpu += n_items
            self._cpu_s += weigh(n_items, self._n_items_cpu) * (
                sum(measured_s) / (len(measured_s) * size) - self._cpu_s
            )
            if is_crowded:
                crowded_s = sum(
                    self._crowding.expect_s(out.seconds, out.cpu_s)
                    for out in outcomes
                    if out.cpu_s is not None
                )
        self._crowded_s += weight * (crowded_s / n_items - self._crowded_s)

    def add_shared(
        self, outcomes: Sequence[Outcome], n_items: int, n_threads: int, n_cores: int
    ) -> bool:
        """Look whether threads are in each other's way; say whether there is news.

        The arguments are those of `Sharing.add`.
        """
        is_news = self._sharing.add(outcomes, n_items, n_threads, n_cores, self._mean_s)
        return is_news and self.cpu_fraction >= WAITING_FRACTION

    @property
    def is_sharing_known(self) -> bool:
        """Whether threads have shown what they do to each other, or it doesn't matter.

        Waiting for the GIL is lost among other waiting.
        """
        return self._sharing.is_known or self.cpu_fraction < WAITING_FRACTION

    def recall(self, experience: Experience) -> None:
        """Take earlier runs' word for what is known, until there is an outcome."""
        self._recalled = experience
        self._is_remembered = True
        self._mean_s = experience.mean_s
        self._variance = experience.std_s**2
        self._cpu_s = experience.cpu_fraction * experience.mean_s
        n_items = min(experience.n_items, RECALLED_ITEMS)
        self.n_counted = self._n_items_counted = self._n_items_cpu = n_items
        self.gil_fraction = experience.gil_fraction
        self.sizes.recall(experience)
        if experience.pack_s:
            self.packing = Packing(experience.pack_s, experience.mean_s, n_items)

    def experience(self) -> Experience | None:
        """Return what a later run should know; ``None`` if it is nothing new."""
        n_items = self.n_items_finished
        if not n_items or not self.n_counted:
            return None
        workload = self.workload(0)
        overrated_s = self._find_overrated_s()
        mean_s = max(0.0, self._mean_s - max(self._crowded_s, overrated_s))
        cpu_fraction = workload.cpu_fraction
        if self._crowded_s > overrated_s and mean_s:
            cpu_fraction = min(1.0, cpu_fraction * self._mean_s / mean_s)
        std_s = workload.std_s
        if self.n_counted == 1 and self._crew.n_items > 1:
            # Better than a guess.
            std_s = self._crew.variance**0.5
        return Experience(
            n_items=n_items,
            mean_s=mean_s,
            std_s=std_s,
            cpu_fraction=cpu_fraction,
            gil_fraction=None if self.gil_fraction is None else workload.gil_fraction,
            in_bytes=self.sizes.in_bytes,
            out_bytes=self.sizes.out_bytes,
            held_bytes=self.sizes.held_bytes,
            pack_s=self.packing.expect_s(mean_s),
            peak_bytes=self.sizes.peak_bytes,
        )

    def _forget_seconds(self) -> None:
        """Forget what tasks take.

        Whether they hold the GIL while they compute is kept: the code is the same.
        """
        self._recalled = None
        self._is_remembered = False
        self._mean_s = self._variance = self._cpu_s = 0.0
        self._crew = Crew()
        self.n_counted = self._n_items_counted = self._n_items_cpu = 0

    def restart(self, seconds: float, cpu_s: float) -> None:
        """Forget all tasks; from now on they are like one that took this."""
        self._forget_seconds()
        self._mean_s, self._cpu_s = seconds, cpu_s
        self._crowded_s = 0.0
        self.n_counted = self._n_items_counted = self._n_items_cpu = 1
        self.gil_fraction = None
        self._sharing.forget()
        self.sizes.forget_results()
        self.packing = Packing()

    def watch(self, gil_fraction: float, cpu_fraction: float) -> None:
        """Take note of a task's shares while it was watched closely."""
        self.gil_fraction = gil_fraction
        self._crowding.watch(gil_fraction, cpu_fraction)

    def add_glimpse(
        self, seconds: float, cpu_fraction: float, *, is_crowded: bool = False
    ) -> None:
        """Take note of a task that goes on and has run for `seconds` an item."""
        if self._recalled is not None and is_exceeded(self._recalled, seconds):
            self._forget_seconds()
        self._glimpse_s = seconds
        self._glimpse_cpu_fraction = cpu_fraction
        self._glimpse_crowded_s = 0.0
        if is_crowded:
            self._glimpse_crowded_s = self._crowding.expect_s(
                seconds, seconds * cpu_fraction
            )

    @property
    def has_glimpse(self) -> bool:
        """Whether a part of an unfinished task has been seen."""
        return self._glimpse_s > 0

    def end_glimpse(self) -> None:
        """Forget the unfinished task: it has finished and was counted."""
        self._glimpse_s = 0.0

    def _with_glimpse(self, mean: float, glimpse: float) -> float:
        """Return a mean with the unfinished task counted as one more."""
        if not self.has_glimpse:
            return mean
        n = min(self.n_counted, WINDOW)
        return (n * mean + glimpse) / (n + 1)

    def workload(self, n_tasks: int, n_items_a_task: float = 1.0) -> Workload:
        """Return these measurements for what is left, by items: `n_tasks` of them."""
        mean_s = self.mean_s
        is_spread_known = self.n_counted > 1
        std_s = self._variance**0.5 if is_spread_known else FIRST_SPREAD * mean_s
        cpu_fraction = self.cpu_fraction
        gil_fraction = cpu_fraction
        if self.gil_fraction is not None:
            gil_fraction = min(self.gil_fraction, cpu_fraction)
        gil_fraction, handover = self._sharing.limit(
            gil_fraction, cpu_fraction, self._mean_s
        )
        return Workload(
            n_tasks=n_tasks,
            mean_s=mean_s,
            std_s=std_s,
            cpu_fraction=cpu_fraction,
            gil_fraction=gil_fraction,
            gil_handover=handover,
            crowded_s=self._with_glimpse(
                max(0.0, self._crowded_s - self._find_overrated_s()),
                2 * self._glimpse_crowded_s,
            ),
            in_bytes=self.sizes.in_bytes,
            out_bytes=self.sizes.out_bytes,
            held_bytes=self.sizes.held_bytes,
            pack_s=self.packing.expect_s(mean_s),
            peak_bytes=self.sizes.peak_bytes,
            n_items_a_task=n_items_a_task,
        )
