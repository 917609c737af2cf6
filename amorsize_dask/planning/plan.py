"""What `optimize` answers: how to run some work, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from amorsize_dask.planning.profile import DiagnosticProfile

#: Fields of a plan that are the work itself, and nothing to keep or to show.
_WORK = ("func", "data", "results", "diagnostic_profile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to run some work.

    It serves two kinds of users. Those who have a pool of their own take `n_jobs` and
    `chunksize`: a loop is best if `n_jobs` is 1, and it is 1 for functions that wait,
    which processes don't help. Those who let the plan run itself, by `compute` or
    `stream`, get `n_workers` of `lane`: for functions that wait, many threads.
    """

    #: Processes for a pool of one's own, >= 1; 1: a loop is as fast.
    n_jobs: int = 1
    #: Items that such a pool should send at once, >= 1.
    chunksize: int = 1
    #: Items of a partition of a bag, >= 1, and how many such partitions there are.
    partition_size: int = 1
    npartitions: int = 1
    #: Where the plan itself runs the work: "inline", "threads" or "processes".
    lane: str = "inline"
    #: Threads or processes of that lane, >= 1.
    n_workers: int = 1
    #: Times as fast as a loop that lane is predicted to be; about 1 if it is a loop.
    speedup: float = 1.0
    #: The same for a pool of `n_jobs` processes.
    pool_speedup: float = 1.0
    #: Seconds that `compute` is predicted to take: what was sampled isn't run again.
    predicted_s: float = 0.0
    #: Seconds that a new pool of `n_jobs` is predicted to take for all items; if that
    #: is 1, a loop.
    pool_predicted_s: float = 0.0
    #: Seconds that a loop over all items is predicted to take.
    serial_s: float = 0.0
    #: Why, for people.
    reason: str = ""
    #: What else people should know, and what to do about it.
    warnings: tuple[str, ...] = ()
    #: What to call with each item; ``None`` for a Dask collection.
    func: Callable[[Any], Any] | None = field(default=None, repr=False)
    #: All items, with those that were read from a generator to be sampled; or the Dask
    #: collection.
    data: Any = field(default=(), repr=False)
    #: Results of the items that were sampled, by their places in the data.
    results: Mapping[int, Any] = field(default_factory=dict, repr=False)
    #: Most workers that were asked for; ``None``: as many as pay.
    max_workers: int | None = None
    #: All that was measured.
    diagnostic_profile: DiagnosticProfile | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers and texts by name, ready for JSON, without the work."""
        found = {
            name: getattr(self, name) for name in self.__slots__ if name not in _WORK
        }
        found["warnings"] = list(self.warnings)
        return found
