"""Dask's diagnostics and own callbacks during real runs, in every lane.

What single calls are told is in the unit tests of `callbacks`; here it is the loop and
the lanes that tell it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from operator import add
from pathlib import Path
from typing import Any

import dask
import dask.bag as db
import pytest
from dask.cache import Cache
from dask.callbacks import Callback
from dask.delayed import Delayed, delayed
from dask.diagnostics import CacheProfiler, Profiler, ProgressBar, ResourceProfiler
from dask.utils_test import inc

from amorsize_dask import AmorsizeScheduler

LANES = ("auto", "inline", "threads", "processes")

Force = Callable[[str], AmorsizeScheduler]


@pytest.fixture(params=LANES, scope="module")
def lane(request: pytest.FixtureRequest) -> str:
    """Return the name of each lane in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def scheduler(forced: Force, lane: str) -> AmorsizeScheduler:
    """Return the scheduler that may use this lane only."""
    return forced(lane)


@pytest.fixture(autouse=True)
def _nothing_stays_active() -> Iterator[None]:
    yield
    assert not Callback.active


PARTS = [f"part-{i}" for i in range(5)]


def make_sum(function: Callable[[int], int] = inc) -> Delayed:
    """Return a sum of five parts, under keys that are known."""
    parts = [delayed(function)(i, dask_key_name=key) for i, key in enumerate(PARTS)]
    return delayed(sum)(parts, dask_key_name="sum")


SUM = 15


def fail(x: int) -> int:
    raise ZeroDivisionError(x)


def fail_at_two(x: int) -> int:
    return fail(x) if x == 2 else inc(x)


class Recorder(Callback):
    """Writes down all that it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.values: dict[Any, Any] = {}
        self.workers: dict[Any, str] = {}

    def keys(self, name: str) -> list[Any]:
        """Return what this was told under one name."""
        return [what for event, what in self.events if event == name]

    def _start(self, dsk: Any) -> None:
        self.events.append(("start", None))

    def _start_state(self, dsk: Any, state: Any) -> None:
        self.events.append(("start_state", None))

    def _pretask(self, key: Any, dsk: Any, state: Any) -> None:
        assert key in state["running"]
        self.events.append(("pretask", key))

    def _posttask(self, key: Any, value: Any, dsk: Any, state: Any, id: Any) -> None:
        assert key in state["finished"]
        self.events.append(("posttask", key))
        self.values[key] = value
        self.workers[key] = id

    def _finish(self, dsk: Any, state: Any, errored: bool) -> None:
        self.events.append(("finish", errored))


# -- own callbacks ---------------------------------------------------------------------


def test_all_is_told_in_order(scheduler: AmorsizeScheduler) -> None:
    """The start, the state, each task before and after its run, and the end."""
    with Recorder() as recorder:
        assert make_sum().compute(scheduler=scheduler) == SUM
    names = [name for name, _ in recorder.events]
    assert names[:2] == ["start", "start_state"]
    assert set(names[2:-1]) == {"pretask", "posttask"}
    assert recorder.events[-1] == ("finish", False)
    for name in ("pretask", "posttask"):
        assert sorted(recorder.keys(name)) == [*PARTS, "sum"]
    for key in (*PARTS, "sum"):
        before = recorder.events.index(("pretask", key))
        assert before < recorder.events.index(("posttask", key))
    # A task isn't begun before all that it needs is there.
    assert recorder.events[-3:-1] == [("pretask", "sum"), ("posttask", "sum")]
    assert recorder.values == {**{key: i + 1 for i, key in enumerate(PARTS)}, "sum": 15}


def test_the_workers_are_those_of_the_lane(
    scheduler: AmorsizeScheduler, lane: str
) -> None:
    """Each task is told of with the thread or process that it ran in."""
    with Recorder() as recorder:
        made = [delayed(locate)(i, dask_key_name=f"where-{i}") for i in range(6)]
        dask.compute(*made, scheduler=scheduler)
    here = locate(0)
    for key, (pid, thread) in recorder.values.items():
        expected = f"process {pid}"
        if pid == here[0]:
            expected = "caller" if thread == here[1] else f"thread {thread}"
        assert recorder.workers[key] == expected
    if lane != "auto":
        prefix = {"inline": "caller", "threads": "thread", "processes": "process"}[lane]
        assert {name.split()[0] for name in recorder.workers.values()} == {prefix}


def locate(_: int) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def test_a_task_that_raises(scheduler: AmorsizeScheduler) -> None:
    """It is told of before, not after, and the run's end is told as an error."""
    with (
        Recorder() as recorder,
        pytest.raises(ZeroDivisionError, match="2"),
    ):
        make_sum(fail_at_two).compute(scheduler=scheduler)
    assert recorder.events[-1] == ("finish", True)
    assert "part-2" in recorder.keys("pretask")
    assert "part-2" not in recorder.keys("posttask")
    assert "sum" not in recorder.keys("pretask")
    assert set(recorder.keys("posttask")) < set(recorder.keys("pretask"))


def test_chains_are_told_link_by_link(scheduler: AmorsizeScheduler) -> None:
    """What is fused without callbacks isn't with them."""
    chain = delayed(0, name="link-0")
    for i in range(1, 6):
        chain = delayed(inc)(chain, dask_key_name=f"link-{i}")
    with Recorder() as recorder:
        assert chain.compute(scheduler=scheduler) == 5
    links = [key for key in recorder.keys("posttask") if key != "link-0"]
    assert links == [f"link-{i}" for i in range(1, 6)]


def test_passed_callbacks_take_the_place_of_active_ones(
    scheduler: AmorsizeScheduler,
) -> None:
    """One, several or none, as the argument `callbacks`."""
    active, one, two = Recorder(), Recorder(), Recorder()
    with active:
        make_sum().compute(scheduler=scheduler, callbacks=one)
        make_sum().compute(scheduler=scheduler, callbacks=[one, two])
        make_sum().compute(scheduler=scheduler, callbacks=[])
        assert not active.events
        make_sum().compute(scheduler=scheduler)
    assert len(active.keys("posttask")) == 6
    assert len(one.keys("posttask")) == 12
    assert len(two.keys("posttask")) == 6


def test_registered_callbacks_are_told_until_unregistered(
    scheduler: AmorsizeScheduler,
) -> None:
    """As those in a ``with``."""
    recorder = Recorder()
    recorder.register()
    try:
        make_sum().compute(scheduler=scheduler)
        assert scheduler({"x": (inc, 1)}, "x") == 2
    finally:
        recorder.unregister()
    make_sum().compute(scheduler=scheduler)
    assert sorted(recorder.keys("posttask")) == [*PARTS, "sum", "x"]
    assert recorder.keys("finish") == [False, False]


def compute_inside(x: int) -> int:
    """Compute something in a task, by the name of the scheduler."""
    inner = delayed(inc)(x, dask_key_name=f"inner-{x}")
    value: int = inner.compute(scheduler="amorsize")
    return value


def test_computes_inside_of_tasks_are_not_told_of(
    scheduler: AmorsizeScheduler,
) -> None:
    """Those who look on the outer run, or are registered, hear of its tasks only."""
    registered = Recorder()
    registered.register()
    try:
        with Recorder() as recorder:
            value = make_sum(compute_inside).compute(scheduler=scheduler)
    finally:
        registered.unregister()
    assert value == SUM
    for told in (registered, recorder):
        assert sorted(told.keys("pretask")) == [*PARTS, "sum"]
        assert len(told.keys("start")) == len(told.keys("finish")) == 1


def test_a_callback_may_compute(scheduler: AmorsizeScheduler) -> None:
    """With the very scheduler that tells it; no one is told of that."""
    seen: list[tuple[Any, Any]] = []

    def look(key: Any, value: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        seen.append((value, delayed(inc)(value).compute(scheduler=scheduler)))

    with Callback(posttask=look):
        assert make_sum().compute(scheduler=scheduler) == SUM
    assert sorted(seen) == [(i, i + 1) for i in (1, 2, 3, 4, 5, SUM)]


class OwnError(Exception):
    """A callback's."""


HOOKS = ("start", "start_state", "pretask", "posttask", "finish")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_raises_ends_the_run(
    scheduler: AmorsizeScheduler, hook: str
) -> None:
    """With its own error; others hear of the end, and the scheduler can be used."""

    def refuse(*_: Any) -> None:
        raise OwnError(hook)

    with Recorder() as recorder:
        with Callback(**{hook: refuse}), pytest.raises(OwnError, match=hook) as info:
            make_sum().compute(scheduler=scheduler)
        assert not hasattr(info.value, "__notes__"), "it is no task's"
        # Callbacks are a set, so the one that refuses to start may be the first.
        assert recorder.keys("finish") in ([hook != "finish"], [])
        assert len(recorder.keys("finish")) == len(recorder.keys("start"))
        before = len(recorder.events)
        assert make_sum(int).compute(scheduler=scheduler) == 10
        assert len(recorder.events) == before + 3 + 12


def test_a_callback_that_raises_in_the_middle_leaves_nothing_behind(
    scheduler: AmorsizeScheduler,
) -> None:
    """Results that come late are not taken for those of the next run."""

    def refuse(key: Any, *_: Any) -> None:
        if key == PARTS[1]:
            raise OwnError(key)

    for n in range(5):
        for callback in (Callback(pretask=refuse), Callback(posttask=refuse)):
            with callback, pytest.raises(OwnError):
                make_sum().compute(scheduler=scheduler)
            values = [delayed(add)(n, i) for i in range(8)]
            expected = tuple(range(n, n + 8))
            assert dask.compute(*values, scheduler=scheduler) == expected


def die_once(x: int, folder: Path) -> int:
    """End the process in the first call with 2."""
    if x == 2 and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(3)
    return inc(x)


def test_a_task_that_is_tried_again_has_one_end(forced: Force, tmp_path: Path) -> None:
    """After the loss of its worker it may be told to start twice, but ends once."""
    parts = [delayed(die_once)(i, tmp_path, dask_key_name=f"{i}") for i in range(5)]
    with Recorder() as recorder, Profiler() as profiler:
        values = dask.compute(*parts, scheduler=forced("processes"))
    assert values == (1, 2, 3, 4, 5)
    assert sorted(recorder.keys("posttask")) == ["0", "1", "2", "3", "4"]
    assert sorted(entry.key for entry in profiler.results) == ["0", "1", "2", "3", "4"]
    assert recorder.events[-1] == ("finish", False)


# -- Dask's diagnostics ----------------------------------------------------------------


def test_progress_bar(scheduler: AmorsizeScheduler) -> None:
    """It comes to 100 %, once, and its thread ends with the run."""
    out = StringIO()
    bag = db.from_sequence(range(20), npartitions=5).map(inc)
    with ProgressBar(dt=0.005, out=out) as bar:
        for made, expected in ((make_sum(), SUM), (bag, list(range(1, 21)))):
            assert made.compute(scheduler=scheduler) == expected
            assert not bar._timer.is_alive()
            assert bar.last_duration > 0
            lines = out.getvalue().splitlines()
            assert "100% Completed" in lines[-1]
            assert out.getvalue().count("100% Completed") == 1
            out.seek(0)
            out.truncate()


def test_progress_bar_of_a_run_that_fails(scheduler: AmorsizeScheduler) -> None:
    """It doesn't come to 100 %, and its thread ends as well."""
    out = StringIO()
    with ProgressBar(dt=0.005, out=out) as bar, pytest.raises(ZeroDivisionError):
        make_sum(fail_at_two).compute(scheduler=scheduler)
    assert not bar._timer.is_alive()
    assert "Completed" in out.getvalue()
    assert "100%" not in out.getvalue()


def test_profiler(scheduler: AmorsizeScheduler) -> None:
    """One record for each task, under the user's own key, with its times."""
    with Profiler() as profiler:
        assert make_sum().compute(scheduler=scheduler) == SUM
    assert sorted(entry.key for entry in profiler.results) == [*PARTS, "sum"]
    for entry in profiler.results:
        assert profiler.start_time <= entry.start_time <= entry.end_time
        assert entry.end_time <= profiler.end_time
        assert entry.task.key == entry.key
    total = next(entry for entry in profiler.results if entry.key == "sum")
    assert all(
        entry.end_time <= total.start_time
        for entry in profiler.results
        if entry is not total
    )


def test_profiler_sees_the_tasks_that_dask_sees(scheduler: AmorsizeScheduler) -> None:
    """Under the keys of Dask's own scheduler: aliases count, data doesn't."""
    graph = {
        ("x", 0): (inc, 1),
        ("x", 1): (add, ("x", 0), (inc, 3)),
        "same": ("x", 1),
        "data": [1, 2],
        "y": (sum, ["same", ("x", 0), "number"]),
        "number": 4,
    }
    keys = ["y", [("x", 1), "data"]]
    with Profiler() as ours:
        assert scheduler(graph, keys) == (12, (6, [1, 2]))
    with Profiler() as theirs:
        assert dask.get(graph, keys) == (12, (6, [1, 2]))
    assert {entry.key for entry in ours.results} == {("x", 0), ("x", 1), "same", "y"}
    assert {entry.key for entry in ours.results} == {e.key for e in theirs.results}
    assert len(ours.results) == 4


def test_resource_profiler(scheduler: AmorsizeScheduler) -> None:
    """Its process takes samples during the run, and is gone after it."""
    before = set(multiprocessing.active_children())
    with ResourceProfiler(dt=0.01) as profiler:
        assert profiler._is_running()
        assert make_sum().compute(scheduler=scheduler) == SUM
    assert not profiler._is_running()
    assert set(multiprocessing.active_children()) == before
    assert profiler.results
    assert all(sample.mem > 0 for sample in profiler.results)
    assert profiler.results == sorted(profiler.results)


@pytest.mark.parametrize("function", [inc, fail_at_two])
def test_resource_profiler_that_is_registered(
    scheduler: AmorsizeScheduler, function: Callable[[int], int]
) -> None:
    """A run starts it, and takes what it has collected, also if the run fails."""
    profiler = ResourceProfiler(dt=0.01)
    profiler.register()
    try:
        if function is inc:
            assert make_sum(function).compute(scheduler=scheduler) == SUM
        else:
            with pytest.raises(ZeroDivisionError):
                make_sum(function).compute(scheduler=scheduler)
        assert profiler.results
    finally:
        profiler.unregister()
        profiler.close()
    assert not profiler._is_running()


def test_cache_profiler(scheduler: AmorsizeScheduler) -> None:
    """Each value with its metric, held until what needs it has run."""
    with CacheProfiler(metric=int) as profiler:
        assert make_sum().compute(scheduler=scheduler) == SUM
    entries = {entry.key: entry for entry in profiler.results}
    assert len(entries) == len(profiler.results)
    metrics = {key: entry.metric for key, entry in entries.items()}
    assert metrics == {**{key: i + 1 for i, key in enumerate(PARTS)}, "sum": SUM}
    for key in PARTS:
        assert entries[key].cache_time <= entries[key].free_time
        assert entries["sum"].cache_time <= entries[key].free_time
    assert profiler._metric_name == "int"


def test_all_diagnostics_at_once(scheduler: AmorsizeScheduler) -> None:
    """They don't get in each other's way."""
    out = StringIO()
    bag = db.from_sequence(range(20), npartitions=5).map(inc)
    with (
        Profiler() as tasks,
        CacheProfiler() as held,
        ResourceProfiler(dt=0.01) as samples,
        ProgressBar(out=out),
    ):
        assert bag.sum().compute(scheduler=scheduler) == 210
    assert samples.results
    assert {entry.key for entry in tasks.results} == {e.key for e in held.results}
    assert len(tasks.results) > 5
    assert "100% Completed" in out.getvalue()


def count_call(x: int, folder: Path) -> int:
    """Leave a mark in a folder, since calls may be in any process."""
    with (folder / f"{x}").open("a") as file:
        file.write("!")
    return x + 1


def test_cache(scheduler: AmorsizeScheduler, tmp_path: Path) -> None:
    """What one run has found the next one takes from there; only the rest is run."""

    def make(n: int) -> Delayed:
        parts = [
            delayed(count_call)(i, tmp_path, dask_key_name=f"call-{i}")
            for i in range(n)
        ]
        return delayed(sum)(parts, dask_key_name=f"sum-{n}")

    cache = Cache(1e6)
    with cache:
        assert make(3).compute(scheduler=scheduler) == 6
        assert {"call-0", "call-1", "call-2", "sum-3"} <= set(cache.cache.data)
        with Recorder() as recorder:
            assert make(3).compute(scheduler=scheduler) == 6
            assert make(5).compute(scheduler=scheduler) == 15
        assert sorted(recorder.keys("posttask")) == ["call-3", "call-4", "sum-5"]
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "3", "4"}
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {1}
    # Without the cache there is nothing to take from.
    assert make(3).compute(scheduler=scheduler) == 6
    assert (tmp_path / "0").stat().st_size == 2


def test_cache_of_values_that_look_like_keys(scheduler: AmorsizeScheduler) -> None:
    """What comes from there is a value, also if a key has the same name."""
    graph = {"x": (str.lower, "Y"), "y": (inc, 1), "list": (str.split, "x y")}
    cache = Cache(1e6)
    for _ in range(2):
        with cache, Recorder() as recorder:
            values = scheduler(graph, ["x", "y", "list"])
        assert values == ("y", 2, ["x", "y"])
    assert not recorder.keys("posttask")


def test_cache_of_a_run_that_fails(scheduler: AmorsizeScheduler) -> None:
    """What did run is kept; what failed is tried again."""
    cache = Cache(1e6)
    with cache:
        with pytest.raises(ZeroDivisionError):
            make_sum(fail_at_two).compute(scheduler=scheduler)
        assert not {"part-2", "sum"} & set(cache.cache.data)
        assert make_sum().compute(scheduler=scheduler) == SUM
        assert {*PARTS, "sum"} <= set(cache.cache.data)
    assert not cache.starttimes
