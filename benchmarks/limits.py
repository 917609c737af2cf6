"""What the scheduler must reach, and whether it does.

A limit looks at results only through `Results`, so workloads can state theirs without
knowing how anything is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

#: Dask's own schedulers, with a pool that is warm and with a cluster that is up too.
STOCK = ("sync", "threads", "processes", "pool", "cluster")
#: What is measured against them.
OURS = ("cold", "warm")
#: The best of all ways to do a workload by hand.
HAND = "hand"

#: What limits and the table call a runner.
TITLES = {
    "sync": "`sync`",
    "threads": "`threads`",
    "processes": "`processes`",
    "pool": "`processes`, warm pool",
    "cluster": "LocalCluster",
    "joblib": "joblib",
    HAND: "by hand",
    "cold": "amorsize, cold",
    "warm": "amorsize, warm",
}


class Results(Protocol):
    """Measured figures; ``None`` stands for what wasn't measured or failed."""

    def seconds(self, workload: str, runners: Iterable[str]) -> float | None:
        """Return the median seconds of the quickest of some runners."""

    def seconds_per_task(self, workload: str, runner: str) -> float | None:
        """Return the median seconds of a runner by the workload's tasks."""

    def peak_bytes(self, workload: str, runner: str) -> float | None:
        """Return the median of the highest resident bytes of the caller."""

    def n_processes(self, workload: str, runner: str) -> float | None:
        """Return how many processes were started at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A figure that must not be above a bound."""

    #: What the figure is, such as "warm / `sync`".
    text: str
    at_most: float
    #: Returns the figure for the workload of the given name.
    measure: Callable[[Results, str], float | None]
    #: Runners whose figure it is; they are measured in every round.
    runners: frozenset[str]

    def is_reached(self, results: Results, workload: str) -> bool | None:
        """Return whether the limit is reached; ``None`` if that wasn't measured."""
        figure = self.measure(results, workload)
        return None if figure is None else figure <= self.at_most


def ratio(at_most: float, *against: str, ours: str = "warm") -> Limit:
    """Return a limit of our seconds by those of the quickest of other runners."""

    def measure(results: Results, workload: str) -> float | None:
        mine = results.seconds(workload, [ours])
        other = results.seconds(workload, against)
        return None if mine is None or other is None else mine / other

    if against == STOCK:
        text = "best stock"
    else:
        names = ", ".join(TITLES.get(name, name) for name in against)
        text = "best of " * (len(against) > 1) + names
    return Limit(
        text=f"{ours} / {text}",
        at_most=at_most,
        measure=measure,
        runners=frozenset(against) | {ours},
    )


#: What holds for a workload for which nothing stricter is stated.
NOT_SLOWER_THAN_STOCK = ratio(1.05, *STOCK)


def microseconds_per_task(at_most: float) -> Limit:
    """Return a limit of the time of one task."""

    def measure(results: Results, workload: str) -> float | None:
        seconds = results.seconds_per_task(workload, "warm")
        return None if seconds is None else seconds * 1e6

    return Limit(
        text="µs a task, warm",
        at_most=at_most,
        measure=measure,
        runners=frozenset({"warm"}),
    )


def flat(at_most: float, workloads: tuple[str, ...]) -> Limit:
    """Return a limit of the slowest time of a task by the quickest, over workloads."""

    def measure(results: Results, workload: str) -> float | None:
        found = [results.seconds_per_task(name, "warm") for name in workloads]
        times = [seconds for seconds in found if seconds is not None]
        return max(times) / min(times) if len(times) == len(workloads) else None

    return Limit(
        text="longest / shortest time of a task over all sizes",
        at_most=at_most,
        measure=measure,
        runners=frozenset({"warm"}),
    )


def peak_memory(at_most: float, against: str) -> Limit:
    """Return a limit of the caller's peak memory by that of another runner."""

    def measure(results: Results, workload: str) -> float | None:
        mine = results.peak_bytes(workload, "warm")
        other = results.peak_bytes(workload, against)
        return None if mine is None or other is None else mine / other

    return Limit(
        text=f"peak memory of the caller, warm / {TITLES[against]}",
        at_most=at_most,
        measure=measure,
        runners=frozenset({"warm", against}),
    )


def no_process() -> Limit:
    """Return the limit that no process is started."""

    def measure(results: Results, workload: str) -> float | None:
        found = [results.n_processes(workload, runner) for runner in OURS]
        counts = [n for n in found if n is not None]
        return max(counts) if counts else None

    return Limit(
        text="processes started",
        at_most=0,
        measure=measure,
        runners=frozenset(OURS),
    )
