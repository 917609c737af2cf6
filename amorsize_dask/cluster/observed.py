"""What a cluster shows of a stage while it works on it: plain numbers, and not many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from amorsize_dask.core.experience import Experience
from amorsize_dask.core.model import Lane, Workload
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.statistics import StageStatistics

#: Tasks that are counted together. Smaller: the scheduler's loop, which is everyone's,
#: spends more on each; larger: memory.
MAX_TOGETHER = 32

#: What Dask's workers count for each prefix, by activity and unit.
Metrics = Mapping[tuple[str, str], float]


class ObservedStage:
    """The tasks that have a prefix in common, as the scheduler of a cluster sees them.

    It takes the same few hundred bytes however many tasks there are.

    Parameters
    ----------
    name : str
        The prefix of their keys.
    identity : str
        Under what the history knows it.
    experience : Experience, optional
        What the history knows.
    metrics : mapping, optional
        What Dask's workers had counted for the prefix before.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        experience: Experience | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.name = name
        self.identity = identity
        self.n_failed = 0
        #: When a worker has last told its memory that was taken note of here.
        self.told_at = 0.0
        self.longest_s = 0.0
        #: Seconds in which workers got what tasks needed from others.
        self.transfer_s = 0.0
        #: Highest resident, managed and unmanaged bytes of a worker that was at it.
        self.worker_bytes = self.managed_bytes = self.unmanaged_bytes = 0
        self._statistics = StageStatistics()
        if experience is not None:
            self._statistics.recall(experience)
        # Those to be counted, and the bytes that they needed.
        self._outcomes: list[Outcome] = []
        self._in_bytes = 0.0
        self._before: Metrics = dict(metrics or {})
        self._task_bytes = 0.0

    def _count(self) -> StageStatistics:
        if self._outcomes:
            outcomes, self._outcomes = self._outcomes, []
            self._statistics.add(outcomes, Lane.PROCESSES)
            self._statistics.sizes.add_sent(self._in_bytes / len(outcomes))
            self._in_bytes = 0.0
        return self._statistics

    @property
    def n_finished(self) -> int:
        """How many tasks have finished."""
        return self._count().n_finished

    @property
    def is_known(self) -> bool:
        """Whether it is known what a task takes."""
        return self._count().is_known

    @property
    def is_recalled(self) -> bool:
        """Whether all that is known is from earlier runs."""
        return self._count().is_recalled

    @property
    def total_s(self) -> float:
        """Seconds of all tasks, added up."""
        return sum(self._count().seconds_by_lane.values())

    def add(
        self, seconds: float, transfer_s: float, in_bytes: float, out_bytes: int
    ) -> None:
        """Count a task that has finished."""
        self._outcomes.append(Outcome(0, seconds, out_bytes=max(0, out_bytes)))
        self._in_bytes += in_bytes
        if len(self._outcomes) == MAX_TOGETHER:
            self._count()
        self.longest_s = max(self.longest_s, seconds)
        self.transfer_s += transfer_s

    def add_memory(self, worker: int, managed: int, unmanaged: int) -> None:
        """Take note of the bytes of a worker that is at it."""
        self.worker_bytes = max(self.worker_bytes, worker)
        self.managed_bytes = max(self.managed_bytes, managed)
        self.unmanaged_bytes = max(self.unmanaged_bytes, unmanaged)

    def add_task_bytes(self, n_bytes: float) -> None:
        """Take note of what one of its tasks takes while it runs."""
        self._task_bytes = max(self._task_bytes, n_bytes)

    def find_workload(self, n_tasks: int, metrics: Metrics) -> Workload:
        """Return so many of its tasks as a workload."""
        workload = self._count().workload(n_tasks)
        cpu_fraction = self._find_cpu_fraction(metrics, workload.cpu_fraction)
        return replace(
            workload,
            cpu_fraction=cpu_fraction,
            gil_fraction=min(workload.gil_fraction, cpu_fraction),
            peak_bytes=max(self._task_bytes, workload.peak_bytes),
        )

    def find_experience(self, metrics: Metrics) -> Experience | None:
        """Return what a later run should know; ``None`` if it is nothing new."""
        experience = self._count().experience()
        if experience is None:
            return None
        return replace(
            experience,
            cpu_fraction=self._find_cpu_fraction(metrics, experience.cpu_fraction),
            peak_bytes=max(self._task_bytes, experience.peak_bytes),
        )

    def count(self, metrics: Metrics, activity: str, unit: str) -> float:
        """Return what workers have counted since this stage began."""
        name = activity, unit
        return max(0.0, metrics.get(name, 0) - self._before.get(name, 0))

    def _find_cpu_fraction(self, metrics: Metrics, otherwise: float) -> float:
        cpu_s = self.count(metrics, "thread-cpu", "seconds")
        whole_s = cpu_s + self.count(metrics, "thread-noncpu", "seconds")
        return cpu_s / whole_s if whole_s else otherwise


def group_metrics(
    counted: Iterable[tuple[object, float]], names: Iterable[str]
) -> dict[str, dict[tuple[str, str], float]]:
    """Return what workers have counted while running tasks, by prefix.

    Parameters
    ----------
    counted : iterable of tuple
        Names and numbers as the scheduler has them; those of tasks have a name of four
        texts: "execute", the prefix, the activity and the unit.
    names : iterable of str
        The prefixes that are wanted.
    """
    found: dict[str, dict[tuple[str, str], float]] = {name: {} for name in names}
    for name, number in counted:
        match name:
            case ("execute", str(prefix), str(activity), str(unit)):
                if prefix in found:
                    found[prefix][activity, unit] = number
    return found
