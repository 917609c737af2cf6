"""All figures of a suite, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from statistics import geometric_mean, median
from typing import NamedTuple

from limits import HAND, OURS, STOCK, Limit
from runners import HAND_PREFIX
from turns import Entry
from workload import Workload

#: Dask's schedulers that need nothing started before.
NOTHING_STARTED = ("sync", "threads", "processes")


class Verdict(NamedTuple):
    """A limit of a workload, and whether it is reached."""

    workload: Workload
    limit: Limit
    #: ``None`` if it wasn't measured.
    figure: float | None
    is_reached: bool | None


@dataclass(frozen=True, slots=True)
class Measured:
    """Entries by the names of the workload and the runner; the `Results` of limits."""

    rows: Mapping[str, Mapping[str, Entry]]

    def seconds(self, workload: str, runners: Iterable[str]) -> float | None:
        """Return the median seconds of the quickest of some runners.

        A run of ours that failed or was ended took for ever. One of others that was
        ended took as long as it was given, which is too little: a ratio to it is too
        large.
        """
        times = []
        for name, entry in self._entries(workload, runners):
            if name in OURS and (entry.error or entry.over_s is not None):
                times.append(inf)
            elif entry.median_s is not None:
                times.append(entry.median_s)
        return min(times, default=None)

    def seconds_per_task(self, workload: str, runner: str) -> float | None:
        """Return the median seconds of a runner by the workload's tasks."""
        seconds = self.seconds(workload, [runner])
        entry = self.rows.get(workload, {}).get(runner)
        if seconds is None or entry is None or not entry.n_tasks:
            return seconds if seconds == inf else None
        return seconds / entry.n_tasks

    def peak_bytes(self, workload: str, runner: str) -> float | None:
        """Return the median of the highest resident bytes of the caller."""
        entry = self.rows.get(workload, {}).get(runner)
        return median(entry.peak_bytes) if entry and entry.peak_bytes else None

    def n_processes(self, workload: str, runner: str) -> float | None:
        """Return how many processes were started at most."""
        entry = self.rows.get(workload, {}).get(runner)
        return max(entry.n_processes) if entry and entry.n_processes else None

    def quickest(self, workload: str, runners: Iterable[str]) -> str | None:
        """Return which of some runners is the quickest."""
        found = [
            (entry.median_s, name)
            for name, entry in self._entries(workload, runners)
            if entry.median_s is not None
        ]
        return min(found)[1] if found else None

    def ratio(
        self, workload: str, ours: str, against: Iterable[str] = STOCK
    ) -> float | None:
        """Return our seconds by those of the quickest of others."""
        mine, other = self.seconds(workload, [ours]), self.seconds(workload, against)
        return None if mine is None or other is None else mine / other

    def mean_ratio(
        self,
        workloads: Iterable[Workload],
        ours: str,
        against: Iterable[str] = STOCK,
    ) -> tuple[float, int] | None:
        """Return the geometric mean of the ratios that count, and how many they are."""
        found = [
            self.ratio(workload.name, ours, against)
            for workload in workloads
            if workload.is_counted
        ]
        ratios = [ratio for ratio in found if ratio is not None]
        return (geometric_mean(ratios), len(ratios)) if ratios else None

    def judge(self, workloads: Iterable[Workload]) -> list[Verdict]:
        """Return a verdict for each limit."""
        return [
            Verdict(
                workload,
                limit,
                limit.measure(self, workload.name),
                limit.is_reached(self, workload.name),
            )
            for workload in workloads
            for limit in workload.limits
        ]

    def errors(self) -> list[str]:
        """Say what failed, and whose results were wrong."""
        return [
            f"{workload}, {runner}: {entry.error}"
            for workload, entries in self.rows.items()
            for runner, entry in entries.items()
            if entry.error
        ]

    def _entries(
        self, workload: str, runners: Iterable[str]
    ) -> Iterable[tuple[str, Entry]]:
        names = set(runners)
        for name, entry in self.rows.get(workload, {}).items():
            if name in names or (HAND in names and name.startswith(HAND_PREFIX)):
                yield name, entry
