"""What worker processes have imported when they get up, and what comes later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import dask.bag as db
import pytest

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.execute.start_method import choose_start_method


@pytest.fixture(params=["forkserver", "spawn"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[AmorsizeScheduler]:
    with (
        dask.config.set({"amorsize.start-method": request.param}),
        AmorsizeScheduler(lanes=("processes",), max_workers=1) as made,
    ):
        assert choose_start_method(request.param) == request.param
        yield made


def make_tasks() -> dict[str, Any]:
    """Return functions that travel by value and use no global."""

    def is_loaded(name: str) -> bool:
        import sys

        return name in sys.modules

    def read_setting(name: str) -> Any:
        from dask import config

        return config.get(name, None)

    def compute(n: int) -> Any:
        import dask.bag

        bag = dask.bag.from_sequence(range(n), npartitions=2)
        return bag.sum().compute(scheduler="amorsize")

    return {"is_loaded": is_loaded, "read_setting": read_setting, "compute": compute}


def run(scheduler: AmorsizeScheduler, function: Any, argument: Any) -> Any:
    bag = db.from_sequence([argument], npartitions=1).map(function)
    (value,) = bag.compute(scheduler=scheduler)
    assert scheduler.last_run is not None
    assert set(scheduler.last_run.lanes) == {"processes"}
    return value


def test_tasks_that_import_dask_find_it_as_in_the_caller(
    scheduler: AmorsizeScheduler,
) -> None:
    """It isn't there before, and then has the caller's settings, each run's own."""
    tasks = make_tasks()
    assert not run(scheduler, tasks["is_loaded"], "dask")
    assert not run(scheduler, tasks["is_loaded"], "psutil")
    with dask.config.set({"amorsize-test.depth": 3}):
        assert run(scheduler, tasks["read_setting"], "amorsize-test.depth") == 3
    with dask.config.set({"amorsize-test.depth": 4}):
        assert run(scheduler, tasks["read_setting"], "amorsize-test.depth") == 4
    assert run(scheduler, tasks["read_setting"], "amorsize-test.depth") is None
    assert run(scheduler, tasks["compute"], 10) == 45


def test_what_tasks_are_seen_to_need_comes_first(scheduler: AmorsizeScheduler) -> None:
    """The settings arrive all the same."""
    tasks = make_tasks()

    def use(name: str) -> Any:
        return dask.config.get(name)

    use.__module__ = "__main__"
    with dask.config.set({"amorsize-test.depth": 5}):
        assert run(scheduler, use, "amorsize-test.depth") == 5
    assert run(scheduler, tasks["is_loaded"], "dask")
