"""Pipelines: what goes in comes out, in whatever lanes the stages run."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import dask.bag as db
import pytest
from dask import delayed
from pipeline_functions import (
    NapAndAdd,
    add_one,
    add_set_up,
    add_up,
    count_bytes,
    count_down,
    count_slowly,
    double,
    fail_on_seven,
    fail_twice,
    is_odd,
    kill_always,
    kill_once,
    lose_one,
    make_bytes,
    name_worker,
    nap,
    nap_together,
    set_up_slowly,
    spin,
    with_worker,
)

from amorsize_dask import AmorsizeScheduler, Pipeline, Stage
from amorsize_dask.errors import (
    ArgumentError,
    BatchLengthError,
    SerializationError,
    WorkerLostError,
)
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.pipeline import pipeline as module
from amorsize_dask.pipeline.flow import INTAKE

Force = Callable[[str], AmorsizeScheduler]
LANES = ["auto", "inline", "threads", "processes"]


@pytest.fixture(params=LANES)
def scheduler(request: pytest.FixtureRequest, forced: Force) -> AmorsizeScheduler:
    return forced(request.param)


def lane_of(scheduler: AmorsizeScheduler) -> str | None:
    """Return the only lane that a scheduler may use, if there is only one."""
    lanes = scheduler._policy.limits.allowed_lanes
    return str(lanes[0]) if len(lanes) == 1 else None


def expect_lane(scheduler: AmorsizeScheduler) -> None:
    """Check that the lane that was forced was used."""
    record, lane = scheduler.last_run, lane_of(scheduler)
    assert record is not None
    assert lane is None or set(record.lanes) == {lane}


# -- what comes out -------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", [list, iter, range])
def test_each_item_goes_through_each_stage(
    scheduler: AmorsizeScheduler, ordered: bool, kind: Callable[[Any], Any]
) -> None:
    source = range(40) if kind is range else kind(list(range(40)))
    pipeline = Pipeline([double, nap, add_one], ordered=ordered, scheduler=scheduler)
    results = list(pipeline.run(source))
    expected = [2 * x + 1 for x in range(40)]
    assert (results if ordered else sorted(results)) == expected
    expect_lane(scheduler)
    report = pipeline.report()
    assert (report.n_in, report.n_out) == (40, 40)
    assert [stage.name for stage in report.stages] == ["double", "nap", "add_one"]
    assert all(stage.n_in == stage.n_out == 40 for stage in report.stages)
    assert all(sum(stage.lanes.values()) == 40 for stage in report.stages)


@pytest.mark.parametrize("ordered", [True, False])
def test_items_are_left_out_multiplied_and_gathered(
    scheduler: AmorsizeScheduler, ordered: bool
) -> None:
    stages = [
        Stage(count_down, flatten=True),
        Stage(is_odd, filter=True),
        Stage(add_one),
        Stage(add_up, batch=4),
    ]
    pipeline = Pipeline(stages, ordered=ordered, scheduler=scheduler)
    results = list(pipeline.run(iter(range(30))))
    items = [x for x, _ in results]
    expected = [y + 1 for x in range(30) for y in range(x % 4) if y % 2]
    assert (items if ordered else sorted(items)) == sorted(expected)
    assert all(1 <= n <= 4 for _, n in results)
    assert pipeline.report().stages[0].n_out == sum(x % 4 for x in range(30))


def test_batches_are_full_until_the_end(scheduler: AmorsizeScheduler) -> None:
    results = list(
        Pipeline([Stage(add_up, batch=8)], scheduler=scheduler).run(range(20))
    )
    assert results == [(x, 8 if x < 16 else 4) for x in range(20)]
    expect_lane(scheduler)


@pytest.mark.parametrize("ordered", [True, False])
def test_many_items_of_one_cost_what_they_cost_of_many(
    forced: Force, ordered: bool
) -> None:
    """Each is handed over in the same time, however many others there are."""
    stages = [Stage(range, flatten=True)]
    pipeline = Pipeline(stages, ordered=ordered, scheduler=forced("inline"))

    def measure_cpu_s(source: list[int]) -> float:
        start = time.process_time()
        assert sum(1 for _ in pipeline.run(source)) == sum(source)
        return time.process_time() - start

    assert measure_cpu_s([200_000]) < 3 * measure_cpu_s([1_000] * 200)


def test_flattened_again_and_again(scheduler: AmorsizeScheduler) -> None:
    stages = [Stage(count_down, flatten=True), Stage(add_one)] * 2
    results = list(Pipeline(stages, scheduler=scheduler).run(range(20)))
    once = [y + 1 for x in range(20) for y in range(x % 4)]
    assert results == [y + 1 for x in once for y in range(x % 4)]


def test_a_name_that_another_stage_would_get(forced: Force) -> None:
    """Items of stages with one name don't get lost among those of another."""
    names = ["step", "step", "step (2)"]
    stages = [Stage(add_one, name=name) for name in names]
    pipeline = Pipeline(stages, scheduler=forced("inline"))
    assert list(pipeline.run(range(5))) == [x + 3 for x in range(5)]
    assert len({stage.name for stage in pipeline.report().stages}) == 3


def test_nothing_in_nothing_out(scheduler: AmorsizeScheduler) -> None:
    pipeline = Pipeline([double], scheduler=scheduler)
    assert list(pipeline.run([])) == []
    assert list(pipeline.run(iter([]))) == []
    assert pipeline.report().n_in == 0


def test_a_bag_goes_through(forced: Force) -> None:
    bag = db.from_sequence(range(30), npartitions=5).map(add_one)
    results = Pipeline([double], scheduler=forced("auto")).run(bag)
    assert list(results) == [2 * (x + 1) for x in range(30)]


def test_stages_of_one_name_are_told_apart(forced: Force) -> None:
    pipeline = Pipeline([add_one, add_one], scheduler=forced("auto"))
    assert list(pipeline.run([1])) == [3]
    names = [stage.name for stage in pipeline.report().stages]
    assert names == ["add_one (1)", "add_one (2)"]


def test_long_runs_are_run_in_parts(
    scheduler: AmorsizeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what each task leaves doesn't fill the memory; no one can tell."""
    monkeypatch.setattr(module, "MAX_TASKS", 25)
    stages = [Stage(add_one), Stage(is_odd, filter=True), Stage(add_up, batch=3)]
    pipeline = Pipeline(stages, scheduler=scheduler, max_items=10)
    results = [x for x, _ in pipeline.run(iter(range(100)))]
    assert results == list(range(1, 101, 2))
    report = pipeline.report()
    assert (report.n_in, report.n_out) == (100, 50)


# -- lanes ----------------------------------------------------------------------------


def test_each_stage_has_its_lane(forced: Force) -> None:
    """Waiting in threads, computing in processes, at the same time."""
    pipeline = Pipeline([Stage(nap), Stage(spin)], scheduler=forced("auto"))
    assert list(pipeline.run(range(400))) == list(range(400))
    waiting, computing = pipeline.report().stages
    assert waiting.lane == "threads"
    assert waiting.n_workers > 4
    assert computing.lane == "processes"
    assert "processes" in computing.lanes
    assert "bottleneck" in str(pipeline.report())


def test_a_stage_may_be_told_its_lane(forced: Force) -> None:
    stages = [Stage(double, lane="processes"), Stage(add_one, lane=("threads",))]
    pipeline = Pipeline(stages, scheduler=forced("auto"))
    assert list(pipeline.run(range(30))) == [2 * x + 1 for x in range(30)]
    assert [set(stage.lanes) for stage in pipeline.report().stages] == [
        {"processes"},
        {"threads"},
    ]


def test_a_lane_that_the_scheduler_may_not_use(forced: Force) -> None:
    pipeline = Pipeline([Stage(double, lane="threads")], scheduler=forced("inline"))
    with pytest.raises(ArgumentError, match="inline"):
        next(pipeline.run(range(3)))


def test_coroutines_wait_in_one_event_loop(forced: Force) -> None:
    results = list(Pipeline([nap_together], scheduler=forced("auto")).run(range(60)))
    assert [x for x, _ in results] == list(range(60))
    assert len({thread for _, thread in results}) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_an_event_loop_ends_the_run(
    forced: Force, kind: type[BaseException]
) -> None:
    """The other coroutines that wait in it don't wait for ever."""

    async def end_on_three(x: int) -> int:
        await asyncio.sleep(0.01)
        if x == 3:
            raise kind(x)
        return x

    pipeline = Pipeline([end_on_three], scheduler=forced("threads"))
    with pytest.raises(kind, match="3"):
        list(pipeline.run(range(60)))


def test_coroutines_of_functions_that_do_not_tell(scheduler: AmorsizeScheduler) -> None:
    """An object whose call is a coroutine, and a function that returns one."""
    stages = [NapAndAdd(1), lambda x: NapAndAdd(2)(x)]
    results = list(Pipeline(stages, scheduler=scheduler).run(range(6)))
    assert results == [x + 3 for x in range(6)]


def test_coroutines_in_other_processes(forced: Force) -> None:
    scheduler = forced("processes")
    results = list(Pipeline([nap_together], scheduler=scheduler).run(range(6)))
    assert [x for x, _ in results] == list(range(6))
    expect_lane(scheduler)


def test_set_up_once_in_each_worker(scheduler: AmorsizeScheduler) -> None:
    stage = Stage(with_worker, set_up=name_worker)
    results = list(Pipeline([stage], scheduler=scheduler).run(range(30)))
    assert [x for x, _ in results] == list(range(30))


def test_set_up_is_no_items_time(forced: Force) -> None:
    scheduler = forced("inline")
    stage = Stage(add_set_up, set_up=set_up_slowly)
    assert list(Pipeline([stage], scheduler=scheduler).run([1, 2])) == [2, 3]
    record = scheduler.last_run
    assert record is not None
    assert record.stages[0].mean_s < 0.1


def test_no_more_workers_than_a_stage_allows(forced: Force) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def count(x: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return x

    stage, scheduler = Stage(count, max_workers=1), forced("threads")
    assert list(Pipeline([stage], scheduler=scheduler).run(range(20)))
    assert most == 1
    # It was the user's word, and no worker has died.
    assert "killed" not in str(scheduler.last_run)


def test_a_run_that_ends_early_takes_no_more_time(forced: Force) -> None:
    """Whether its user leaves it or a stage fails, the report's seconds stay."""
    pipeline = Pipeline([fail_on_seven], scheduler=forced("inline"))
    left = pipeline.run(itertools.count())
    assert next(left) == 0
    left.close()
    assert pipeline.report().seconds == pipeline.report().seconds
    with pytest.raises(ValueError, match="seven"):
        list(pipeline.run(itertools.count()))
    assert pipeline.report().seconds == pipeline.report().seconds


def test_parts_that_are_over_are_forgotten(
    forced: Force, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each task leaves goes with its part, though its counts are reported."""
    graphs: list[weakref.ref[TaskGraph]] = []

    class NotedGraph(TaskGraph):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            graphs.append(weakref.ref(self))

    monkeypatch.setattr(module, "TaskGraph", NotedGraph)
    monkeypatch.setattr(module, "MAX_TASKS", 25)
    pipeline = Pipeline([add_one], scheduler=forced("inline"))
    results = pipeline.run(itertools.count())
    assert [next(results) for _ in range(500)] == list(range(1, 501))
    gc.collect()
    assert len(graphs) > 5
    assert sum(graph() is not None for graph in graphs) <= 2
    assert pipeline.report().n_out == 500
    results.close()


def test_what_was_left_is_let_go(scheduler: AmorsizeScheduler) -> None:
    """Neither the report nor the record keeps the items of a run that was closed."""

    class Item:
        pass

    items = [Item() for _ in range(10)]
    is_there = weakref.ref(items[0])
    pipeline = Pipeline([lambda item: item], scheduler=scheduler)
    results = pipeline.run(iter(items))
    next(results)
    results.close()
    del items
    end = time.monotonic() + 5
    while is_there() is not None:
        assert time.monotonic() < end
        gc.collect()  # after the threads, which end after their present task
    assert pipeline.report().n_out == 1
    assert scheduler.last_run is not None
    assert isinstance(scheduler.last_run.error, GeneratorExit)


# -- what goes wrong ------------------------------------------------------------------


def test_an_exception_ends_the_run(scheduler: AmorsizeScheduler) -> None:
    pipeline = Pipeline([add_one, fail_on_seven], scheduler=scheduler)
    with pytest.raises(ValueError, match="seven") as caught:
        list(pipeline.run(range(100)))
    assert any("fail_on_seven" in note for note in caught.value.__notes__)
    assert list(pipeline.run([1])) == [2]


@pytest.mark.parametrize("ordered", [True, False])
def test_items_that_fail_are_skipped_and_listed(
    scheduler: AmorsizeScheduler, ordered: bool
) -> None:
    stages = [Stage(fail_on_seven, on_error="skip"), Stage(double)]
    pipeline = Pipeline(stages, ordered=ordered, scheduler=scheduler)
    results = sorted(pipeline.run(iter(range(50))))
    assert results == [2 * x for x in range(50) if x % 10 != 7]
    skipped = sorted(item.path for item in pipeline.report().skipped)
    assert skipped == [(7,), (17,), (27,), (37,), (47,)]
    assert pipeline.report().skipped[0].stage == "fail_on_seven"
    assert "ValueError: seven" in str(pipeline.report())


def test_an_exception_without_a_text_is_skipped(forced: Force) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise AttributeError("no text")

    def fail(x: int) -> int:
        raise SilentError

    stage = Stage(fail, on_error="skip")
    pipeline = Pipeline([stage], scheduler=forced("inline"))
    assert list(pipeline.run([1])) == []
    assert pipeline.report().skipped[0].error.startswith("SilentError")


def test_retries(forced: Force, tmp_path: Path) -> None:
    scheduler = forced("inline")
    pipeline = Pipeline([Stage(fail_twice, retries=2)], scheduler=scheduler)
    assert list(pipeline.run([tmp_path / "a", tmp_path / "b"])) == [1, 1]
    pipeline = Pipeline([Stage(fail_twice, retries=1)], scheduler=scheduler)
    with pytest.raises(OSError, match="not yet"):
        list(pipeline.run([tmp_path / "c"]))


def test_a_batch_that_comes_back_shorter(scheduler: AmorsizeScheduler) -> None:
    pipeline = Pipeline([Stage(lose_one, batch=5)], scheduler=scheduler)
    with pytest.raises(BatchLengthError, match="5 items and returned 4"):
        list(pipeline.run(range(20)))


def test_workers_that_die_lose_nothing(forced: Force, tmp_path: Path) -> None:
    scheduler = forced("processes")
    paths = [tmp_path / f"{i:02}" for i in range(40)]
    for path in paths:
        if int(path.name) % 13:
            path.touch()
    pipeline = Pipeline([kill_once], scheduler=scheduler)
    assert list(pipeline.run(iter(paths))) == [path.name for path in paths]


def test_an_item_that_kills_each_worker(forced: Force, tmp_path: Path) -> None:
    """Results that are there before come out, and then what went wrong."""
    pipeline = Pipeline([kill_always], scheduler=forced("processes"))
    results = pipeline.run(iter([1, 2, 3, -1, 4]))
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(WorkerLostError, match="kill_always"):
        next(results)


def test_what_the_source_raises_comes_last(scheduler: AmorsizeScheduler) -> None:
    def read() -> Iterator[int]:
        yield from range(10)
        raise OSError("the source is broken")

    results = Pipeline([double], scheduler=scheduler).run(read())
    assert [next(results) for _ in range(10)] == [2 * x for x in range(10)]
    with pytest.raises(OSError, match="the source is broken"):
        next(results)


def test_what_a_sequence_raises_comes_last(scheduler: AmorsizeScheduler) -> None:
    class Broken(Sequence[int]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: Any) -> Any:
            if index == 10:
                raise OSError("the source is broken")
            return index

    results = Pipeline([double], scheduler=scheduler).run(Broken())
    assert [next(results) for _ in range(10)] == [2 * x for x in range(10)]
    with pytest.raises(OSError, match="the source is broken"):
        next(results)


def test_what_cannot_be_sent_runs_in_the_caller(forced: Force) -> None:
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return spin(x)

    pipeline = Pipeline([locked], scheduler=forced("auto"))
    assert list(pipeline.run(range(50))) == list(range(50))
    with pytest.raises(SerializationError):
        list(Pipeline([locked], scheduler=forced("processes")).run(range(3)))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"stages": []}, "at least one"),
        ({"stages": 3}, "stages"),
        ({"stages": [3]}, "callable"),
        ({"stages": [len], "ordered": "no"}, "ordered"),
        ({"stages": [len], "max_items": 0}, "max_items"),
    ],
)
def test_bad_pipelines(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        Pipeline(**arguments)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"batch": 0}, "batch"),
        ({"batch": 2, "flatten": True}, "at most"),
        ({"filter": True, "flatten": True}, "at most"),
        ({"filter": "yes"}, "filter"),
        ({"on_error": "ignore"}, "on_error"),
        ({"retries": -1}, "retries"),
        ({"max_workers": 0}, "max_workers"),
        ({"set_up": 3}, "set_up"),
        ({"set_up": nap_together}, "set_up"),
        ({"function": count_slowly}, "asynchronous generator"),
        ({"name": 3}, "name"),
        ({"lane": "clouds"}, "lane"),
    ],
)
def test_bad_stages(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        Stage(**{"function": len, **arguments})


class Listed:
    """Has items by their places, and no iterator of its own."""

    def __getitem__(self, place: int) -> int:
        return [1, 2, 3][place]


def test_a_source_may_be_all_that_can_be_iterated(scheduler: AmorsizeScheduler) -> None:
    source: Any = Listed()
    assert list(Pipeline([double], scheduler=scheduler).run(source)) == [2, 4, 6]


@pytest.mark.parametrize("source", [3, delayed(len)([])], ids=["int", "delayed"])
def test_bad_source(source: Any) -> None:
    with pytest.raises(ArgumentError, match=r"source.*expected"):
        Pipeline([len]).run(source)


def test_no_report_without_a_run() -> None:
    with pytest.raises(RuntimeError, match="run"):
        Pipeline([len]).report()


# -- backpressure ---------------------------------------------------------------------


def test_no_further_read_than_there_is_room(scheduler: AmorsizeScheduler) -> None:
    """A consumer that stops taking finds nothing lost and nothing twice afterwards."""
    n_read = 0

    def read() -> Iterator[int]:
        nonlocal n_read
        for x in itertools.count():
            n_read += 1
            yield x

    stages = [Stage(fail_on_seven, on_error="skip"), double]
    pipeline = Pipeline(stages, max_items=20, scheduler=scheduler)
    results = pipeline.run(read())
    expected = [2 * x for x in range(250) if x % 10 != 7]
    for start in range(0, len(expected), 45):
        found = [next(results) for _ in range(45)]
        assert found == expected[start : start + 45]
        time.sleep(0.1)
        # Those that are on their way, and those that have been read and wait.
        assert n_read <= found[-1] // 2 + 1 + 2 * 20
    results.close()
    skipped = [item.path for item in pipeline.report().skipped]
    assert sorted(skipped)[:25] == [(x,) for x in range(250) if x % 10 == 7]


def test_large_items_are_held_within_the_limit() -> None:
    """Items of 5 MB, 100 MB in all of which at most a part of 40 MB is held."""
    with AmorsizeScheduler(memory_limit="40 MB", lanes=("inline",)) as scheduler:
        pipeline = Pipeline([make_bytes, count_bytes], scheduler=scheduler)
        sizes = list(pipeline.run(iter(range(20))))
        assert [n - 5_000_000 for n in sizes] == [len(str(x)) for x in range(20)]


def test_an_iterator_that_is_left_ends_the_work(scheduler: AmorsizeScheduler) -> None:
    """And closes the source."""
    closed = threading.Event()

    def read() -> Generator[int, None, None]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    results = Pipeline([nap, double], scheduler=scheduler).run(read())
    assert next(results) == 0
    results.close()
    assert closed.wait(2)


@pytest.mark.parametrize(
    ("stage", "first", "second"),
    [(double, 2, 4), (Stage(add_up, batch=10), (1, 1), (2, 1))],
    ids=["items", "batches"],
)
def test_results_come_before_a_slow_source_goes_on(
    stage: Any, first: Any, second: Any, scheduler: AmorsizeScheduler
) -> None:
    """Whoever waits for a source doesn't hold up what came of its first items."""
    goes_on = threading.Event()

    def read() -> Iterator[int]:
        yield 1
        assert goes_on.wait(10)
        yield 2

    results = Pipeline([stage], scheduler=scheduler).run(read())
    assert next(results) == first
    goes_on.set()
    assert list(results) == [second]


def test_the_first_item_doesnt_wait_for_all_of_the_source() -> None:
    """A part of it is taken in, and the rest while items are under way."""
    read: list[int] = []
    n_read_at: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    def note(number: int) -> int:
        n_read_at.append(len(read))
        return number

    with AmorsizeScheduler(lanes=("inline",)) as scheduler:
        found = list(Pipeline([note], scheduler=scheduler).run(source()))
    assert found == list(range(1000))
    assert n_read_at[0] <= 2 * INTAKE
