"""What worker processes have imported when they get up, and what comes later."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import dask
import dask.bag as db
import pytest
import slow_module

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.errors import WorkerLostError
from amorsize_dask.execute.pool import live_processes
from amorsize_dask.execute.start_method import choose_start_method


@pytest.fixture(params=["forkserver", "spawn"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[AmorsizeScheduler]:
    with (
        dask.config.set({"amorsize.start-method": request.param}),
        AmorsizeScheduler(lanes=("processes",), max_workers=1) as made,
    ):
        assert choose_start_method(request.param) == request.param
        yield made


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


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

    def collects_garbage(_: Any) -> bool:
        import gc

        return gc.isenabled()

    tasks = is_loaded, read_setting, compute, collects_garbage
    return {task.__name__: task for task in tasks}


def run(scheduler: AmorsizeScheduler, function: Any, argument: Any) -> Any:
    bag = db.from_sequence([argument], npartitions=1).map(function)
    (value,) = bag.compute(scheduler=scheduler)
    assert scheduler.last_run is not None
    assert set(scheduler.last_run.lanes) == {"processes"}
    return value


def test_garbage_is_collected_in_workers(scheduler: AmorsizeScheduler) -> None:
    """It isn't while they boot."""
    assert run(scheduler, make_tasks()["collects_garbage"], None)


@pytest.mark.parametrize("module", ["forkserver", "spawned"])
def test_boots_import_little(module: str) -> None:
    """Nothing that takes long beside all else: each boot would take longer by it."""
    code = (
        f"import sys; from amorsize_dask.execute import {module}, item_call; "
        f"{module}.worker.preload([]); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    slow = "cloudpickle", "dataclasses", "inspect", "logging", "pathlib"
    assert "amorsize_dask.execute.worker" in done.stdout.split()
    assert not {*slow} & {*done.stdout.split()}


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


def test_the_caller_works_while_workers_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What takes long to import keeps a worker from getting up, and no one waits."""
    n = 600
    with AmorsizeScheduler(lanes=("inline", "processes"), max_workers=2) as scheduler:
        monkeypatch.setenv("SLOW_MODULE_S", "60")
        for _ in range(2):  # the second run finds workers that aren't ready either
            bag = db.from_sequence(range(n), npartitions=n).map(slow_module.spin)
            assert bag.compute(scheduler=scheduler) == list(range(n))
            assert scheduler.last_run is not None
            assert scheduler.last_run.lanes["inline"].n_tasks >= n
            assert "processes" not in scheduler.last_run.lanes
            assert scheduler.n_idle_workers == 0


def test_workers_that_a_run_does_not_wait_for_serve_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are up by then, have imported what tasks need, and aren't booted anew."""
    n = 600
    with AmorsizeScheduler(lanes=("inline", "processes"), max_workers=2) as scheduler:
        monkeypatch.setenv("SLOW_MODULE_S", "2")
        bag = db.from_sequence(range(n), npartitions=n).map(slow_module.spin)
        assert bag.compute(scheduler=scheduler) == list(range(n))
        wait_until(lambda: scheduler.n_idle_workers == 2)
        pids = live_processes()
        bag = db.from_sequence(range(n), npartitions=n).map(slow_module.spin)
        assert bag.compute(scheduler=scheduler) == list(range(n))
        assert scheduler.last_run is not None
        assert scheduler.last_run.lanes["processes"].n_tasks > n / 2
        assert live_processes() == pids


def test_module_that_ends_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of the task that needs it: what is asked for first only helps."""
    monkeypatch.setenv("SLOW_MODULE_EXIT", "1")
    bag = db.from_sequence(range(600), npartitions=600).map(slow_module.spin)
    with (
        AmorsizeScheduler(lanes=("processes",), max_workers=2) as scheduler,
        pytest.raises(WorkerLostError, match=r"spin.* exit code 7"),
    ):
        bag.compute(scheduler=scheduler)


def test_what_warns_when_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller sees the warning, once."""
    monkeypatch.setenv("SLOW_MODULE_WARNS", "1")
    bag = db.from_sequence(range(8), npartitions=8).map(slow_module.spin)
    with (
        AmorsizeScheduler(lanes=("processes",), max_workers=2) as scheduler,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("default")
        assert bag.compute(scheduler=scheduler) == list(range(8))
    assert [str(warning.message) for warning in caught] == ["slow to import"]


def test_what_workers_cannot_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps no worker from getting up: functions of such a module travel whole."""
    module = ModuleType("made_up_here")
    exec("def double(x):\n    return 2 * x\n", module.__dict__)
    monkeypatch.setitem(sys.modules, "made_up_here", module)
    bag = db.from_sequence(range(8), npartitions=8).map(module.double)
    with AmorsizeScheduler(lanes=("processes",), max_workers=1) as scheduler:
        assert bag.compute(scheduler=scheduler) == list(range(0, 16, 2))
