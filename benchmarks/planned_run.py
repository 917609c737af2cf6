"""One workload of the benchmark of plans: what is planned, and a grid."""

from __future__ import annotations

import multiprocessing
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from planned_work import WORKS, Work

#: Numbers of partitions that a bag is tried with.
PARTS = (1, 2, 8, 32, 128)


@dataclass(slots=True, kw_only=True)
class Round:
    """What one plan said, and what it took."""

    #: What the plan said, by the titles of the calls: see `Found`.
    pool: str
    bag: str
    lane: str
    cpu_fraction: float
    #: Mean seconds of a call.
    item_s: float
    #: Seconds of `optimize`, and those of them whose results the plan keeps.
    optimize_s: float
    kept_s: float
    pool_predicted_s: float
    compute_predicted_s: float
    #: What the scheduler predicted of the bag as planned when a tenth of it was done,
    #: over what it took; ``None``: the run was over before.
    early_predicted: float | None = None
    #: Seconds of each call.
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Found:
    """What came of one workload.

    Calls are "pool n k" for n processes and chunks of k ("pool 1 1" is a loop), "bag k"
    for partitions of k, "compute" and "execute".
    """

    rounds: list[Round]

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Found:
        """Return what was made ready for JSON."""
        return cls(rounds=[Round(**each) for each in found["rounds"]])


def measure(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call took, and what it returned."""
    start = perf_counter()
    value = call()
    return perf_counter() - start, value


def run_pool(work: Work, n_jobs: int, chunksize: int) -> list[Any]:
    """Call the function with all items as users of a pool do."""
    if n_jobs == 1:
        return [work.function(item) for item in work.items]
    with multiprocessing.Pool(n_jobs) as pool:
        return pool.map(work.function, work.items, chunksize=chunksize)


def make_grid(n_items: int, n_cores: int) -> list[tuple[int, int]]:
    """Return process counts and chunk sizes, a loop among them.

    Counts go up to one more than there are cores.
    """
    grid = [(1, 1)]
    for n_jobs in range(2, n_cores + 2):
        size = 1
        while size * n_jobs <= n_items:
            grid.append((n_jobs, size))
            size *= 2 if n_jobs <= n_cores else 16
        grid.append((n_jobs, max(1, n_items // n_jobs)))
    return list(dict.fromkeys(grid))


def run_bag(bag: Any, work: Work, scheduler: Any) -> list[Any]:
    """Compute a bag of the items, mapped."""
    return list(bag.map(work.function).compute(scheduler=scheduler))


def run_part(name: str, n_rounds: int) -> Found:
    """Run one workload, some rounds.

    Each round begins with a new plan. Its pool and its partitions are calls of the
    grid; if they aren't there yet they are added. In each round another call is first.

    Raises
    ------
    AssertionError
        If results differ.
    """
    from amorsize_dask import AmorsizeScheduler

    work = WORKS[name]()
    rounds: list[Round] = []
    with AmorsizeScheduler() as scheduler:
        for i in range(n_rounds + 1):
            found = _run_round(work, scheduler, i)
            if i:  # in the first, all that is loaded for the first time is loaded
                rounds.append(found)
    return Found(rounds=rounds)


def _run_round(work: Work, scheduler: Any, shift: int) -> Round:
    import dask.bag as db

    from amorsize_dask import execute, from_sequence, optimize

    function, items = work
    n_items = len(items)
    taken, plan = measure(lambda: optimize(function, items, scheduler=scheduler))
    assert plan.diagnostic_profile is not None
    pool = (1, 1) if plan.n_jobs == 1 else (plan.n_jobs, plan.chunksize)
    # Bags are made before the clock.
    planned_bag = from_sequence(items, function)
    size = -(-n_items // planned_bag.npartitions)
    bags = {
        f"bag {n}": db.from_sequence(items, partition_size=n)
        for n in (max(1, n_items // n_parts) for n_parts in PARTS)
    }
    bags[f"bag {size}"] = planned_bag
    found = Round(
        pool="pool {} {}".format(*pool),
        bag=f"bag {size}",
        lane=plan.lane,
        cpu_fraction=plan.diagnostic_profile.cpu_fraction,
        item_s=plan.diagnostic_profile.avg_execution_time,
        optimize_s=taken,
        kept_s=plan.diagnostic_profile.kept_s,
        pool_predicted_s=plan.pool_predicted_s,
        compute_predicted_s=plan.predicted_s,
    )
    n_cores = len(os.sched_getaffinity(0))
    grid = list(dict.fromkeys([*make_grid(n_items, n_cores), pool]))
    calls: dict[str, Callable[[], Any]] = {
        f"pool {n_jobs} {k}": lambda n_jobs=n_jobs, k=k: run_pool(work, n_jobs, k)
        for n_jobs, k in grid
    }
    calls["compute"] = lambda: plan.compute(scheduler)
    calls["execute"] = lambda: execute(function, items, scheduler=scheduler)
    for title, bag in bags.items():
        calls[title] = lambda bag=bag: run_bag(bag, work, scheduler)
    titles = list(calls)
    shift = 5 * shift % len(titles)
    expected = None
    for title in titles[shift:] + titles[:shift]:
        found.seconds[title], value = measure(calls[title])
        expected = value if expected is None else expected
        assert value == expected, f"{title} gives another result"
        run = scheduler.last_run
        if title == found.bag and run.early_predicted_s is not None:
            found.early_predicted = run.early_predicted_s / run.actual_s
    return found


def gather(found: Found) -> dict[str, list[float]]:
    """Return the seconds of each call in all rounds."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for each in found.rounds:
        for title, taken in each.seconds.items():
            seconds[title].append(taken)
    return seconds
