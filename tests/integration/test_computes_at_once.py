"""Computes inside of tasks, and from several threads at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dask.bag as db
import pytest
from dask.utils_test import inc

from amorsize_dask import AmorsizeScheduler, amorsize_scheduler

Force = Callable[[str], AmorsizeScheduler]


def sum_up_to(x: int) -> int:
    """Compute inside of a task, by name so that it works in any process."""
    bag = db.from_sequence(range(x + 1), npartitions=3)
    return bag.map(inc).sum().compute(scheduler="amorsize") - (x + 1)


@pytest.mark.parametrize("lane", ["auto", "inline", "threads", "processes"])
def test_task_that_computes(forced: Force, lane: str) -> None:
    """A task may compute, also in a worker process, where no workers are started."""
    bag = db.from_sequence(range(12), npartitions=12).map(sum_up_to)
    expected = [x * (x + 1) // 2 for x in range(12)]
    assert bag.compute(scheduler=forced(lane)) == expected


@pytest.mark.parametrize("lane", ["auto", "inline", "threads", "processes"])
def test_task_that_computes_with_the_same_scheduler(forced: Force, lane: str) -> None:
    """A task may use the very scheduler that runs it."""
    scheduler = forced(lane)

    def total(x: int) -> int:
        return db.range(x + 2, npartitions=2).sum().compute(scheduler=scheduler)

    bag = db.from_sequence(range(6), npartitions=6).map(total)
    expected = [sum(range(x + 2)) for x in range(6)]
    assert bag.compute(scheduler=scheduler) == expected


@pytest.mark.parametrize("lane", ["auto", "inline", "threads", "processes"])
def test_computes_from_several_threads(forced: Force, lane: str) -> None:
    """Computes at the same time don't get in each other's way."""
    scheduler = forced(lane)

    def compute(i: int) -> int:
        bag = db.from_sequence(range(50), npartitions=10).map(lambda x: x + i)
        return bag.sum().compute(scheduler=scheduler)

    with ThreadPoolExecutor(4) as executor:
        totals = list(executor.map(compute, range(12)))
    assert totals == [1225 + 50 * i for i in range(12)]


def test_default_scheduler_of_bags_inside_of_a_task() -> None:
    """A task in a worker may start processes of its own."""

    def total(x: int) -> int:
        bag = db.range(4, npartitions=2)
        return bag.sum().compute(scheduler="processes", num_workers=1)

    # Closed here, since `multiprocessing` keeps a process of its own in the worker.
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        bag = db.from_sequence([1], npartitions=1).map(total)
        assert bag.compute(scheduler=scheduler) == [6]


def test_the_ready_instance_can_be_closed_and_used_again() -> None:
    """Closing ends the workers; the next compute starts new ones."""
    bag = db.range(10, npartitions=2).map(inc)
    for _ in range(2):
        assert bag.compute(scheduler=amorsize_scheduler) == list(range(1, 11))
        amorsize_scheduler.close()
