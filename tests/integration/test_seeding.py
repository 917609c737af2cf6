"""Functions that seed the random numbers of a process."""

from __future__ import annotations

import dask
import pytest
from dask.bag import from_sequence
from seeding_calls import simulate

from amorsize_dask import AmorsizeScheduler, execute, optimize

SEEDS = range(200)


@pytest.fixture(scope="module")
def expected() -> list[float]:
    return [simulate(seed) for seed in SEEDS]


@pytest.mark.parametrize(
    "lanes", [None, ("inline", "threads"), ("threads", "processes")]
)
def test_a_bag_of_simulations(expected: list[float], lanes: tuple[str, ...]) -> None:
    """Each has its own numbers, though they wait, which threads are for.

    Two of them are never under way in one process.
    """
    arguments = {} if lanes is None else {"lanes": lanes}
    with AmorsizeScheduler(**arguments) as scheduler:
        bag = from_sequence(SEEDS, npartitions=20).map(simulate)
        assert bag.compute(scheduler=scheduler) == expected
        assert scheduler.last_run is not None
        assert scheduler.last_run.stages[0].lanes.get("threads", 0) == 0


def test_delayed_simulations(expected: list[float]) -> None:
    """It holds for tasks that aren't of a bag."""
    with AmorsizeScheduler() as scheduler:
        tasks = [dask.delayed(simulate)(seed) for seed in SEEDS]
        assert list(dask.compute(*tasks, scheduler=scheduler)) == expected


def test_plans_of_simulations(expected: list[float]) -> None:
    """Neither a plan nor `execute` takes threads."""
    plan = optimize(simulate, SEEDS)
    assert plan.lane != "threads"
    assert plan.compute() == expected
    assert execute(simulate, SEEDS) == expected
    bag = from_sequence(SEEDS, npartitions=20).map(simulate)
    assert optimize(bag).lane != "threads"
