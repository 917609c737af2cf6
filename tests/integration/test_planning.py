"""Plans that are followed: in our own lanes, in pools, and by bags."""

from __future__ import annotations

import copy
import inspect
import itertools
import operator
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import dask
import dask.bag as db
import numpy as np
import planned_functions as functions
import pytest

import amorsize_dask
from amorsize_dask import (
    AmorsizeScheduler,
    ArgumentError,
    Pipeline,
    Plan,
    estimate_safe_batch_size,
    execute,
    from_sequence,
    optimize,
    process_in_batches,
)
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.planning.execution import make_tasks

LANES = (("inline",), ("threads",), ("processes",))


@pytest.fixture
def several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan for four cores, however many there are."""
    from amorsize_dask.planning import putting_together

    machine = replace(measure_machine(), n_cores=4, n_physical_cores=4)
    monkeypatch.setattr(putting_together, "measure_machine", lambda: machine)


# -- running a plan --------------------------------------------------------------------


@pytest.mark.parametrize("lanes", LANES, ids="".join)
def test_each_item_is_called_once(tmp_path: Path, lanes: tuple[str, ...]) -> None:
    """In whatever lane the rest runs, what was sampled isn't run again."""
    recorder = functions.Recorder(tmp_path, 0.0005)
    with AmorsizeScheduler(lanes=lanes) as scheduler:
        plan = optimize(recorder, range(300), scheduler=scheduler)
        assert recorder.counts() == dict.fromkeys(plan.results, 1)
        assert plan.compute(scheduler) == [2 * x for x in range(300)]
        if lanes != ("inline",):  # that may be done before there is a run
            assert scheduler.last_run is not None
            assert scheduler.last_run.lanes[lanes[0]].n_tasks > 0
    assert recorder.counts() == dict.fromkeys(range(300), 1)


@pytest.mark.parametrize("lanes", LANES, ids="".join)
def test_executed_items_are_called_once(tmp_path: Path, lanes: tuple[str, ...]) -> None:
    recorder = functions.Recorder(tmp_path, 0.0005)
    with AmorsizeScheduler(lanes=lanes) as scheduler:
        found = execute(recorder, (x for x in range(300)), scheduler=scheduler)
        assert found == [2 * x for x in range(300)]
        assert scheduler.last_run is not None
        assert scheduler.last_run.lanes[lanes[0]].n_tasks > 0
    assert recorder.counts() == dict.fromkeys(range(300), 1)


def test_a_long_first_item_does_not_hold_up_the_others() -> None:
    """They are begun while it runs."""
    others_are_done = threading.Event()

    def wait(x: int) -> int:
        if x == 0:
            assert others_are_done.wait(30)
        if x == 9:
            others_are_done.set()
        return x

    with AmorsizeScheduler(lanes=("inline", "threads")) as scheduler:
        assert execute(wait, range(10), scheduler=scheduler) == list(range(10))


def test_a_function_known_to_be_quick_is_begun_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread is for a first call that may be long, as it was the last time."""
    from amorsize_dask.planning import execute as module

    # So long that no busy machine makes a quick call seem to take that.
    monkeypatch.setattr(module, "FIRST_S", 0.3)
    threads, naps = [], [0.0]

    def note(x: int) -> int:
        threads.append(threading.get_ident())
        time.sleep(naps[0])
        return x

    with AmorsizeScheduler(lanes=("inline", "threads")) as scheduler:
        for seconds, is_here in ((0.0, False), (0.4, True), (0.0, False)):
            naps[0] = seconds
            threads.clear()
            assert execute(note, range(2), scheduler=scheduler) == [0, 1]
            assert (threads[0] == threading.get_ident()) is is_here


def test_the_exception_of_a_first_item() -> None:
    for seconds in (0.0, 0.02):

        def fail(x: int, seconds: float = seconds) -> None:
            time.sleep(seconds)
            raise ValueError(x)

        with pytest.raises(ValueError, match="0"):
            execute(fail, range(10))


def test_without_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be begun beside is begun here; a plan can't be made then."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert execute(functions.double, range(100)) == list(range(0, 200, 2))
    with pytest.raises(RuntimeError, match="can't start"):
        optimize(functions.double, range(100))


def test_little_work_starts_nothing() -> None:
    with AmorsizeScheduler() as scheduler:
        assert execute(abs, range(-5000, 0), scheduler=scheduler)[0] == 5000
        assert scheduler.last_run is None
        assert scheduler.n_idle_workers == 0


def test_state_is_kept_in_order() -> None:
    """A function that counts its calls gets what a loop would give it."""
    n = 0

    def count(x: float) -> tuple[float, int]:
        nonlocal n
        n += 1
        time.sleep(x)
        return x, n

    for run in (
        lambda items: optimize(count, items).compute(),
        lambda items: list(optimize(count, items).stream()),
        lambda items: execute(count, items),
    ):
        n = 0
        items = [0.004] * 30
        assert run(items) == [(x, i + 1) for i, x in enumerate(items)]
    plan = optimize(count, [0.004] * 30)
    assert (plan.n_jobs, plan.lane) == (1, "inline")
    assert "(n)" in plan.reason


def test_an_endless_generator() -> None:
    """Is planned for, streamed, and can't be put into a list."""
    plan = optimize(abs, itertools.count(-3))
    assert any("no length" in warning for warning in plan.warnings)
    with pytest.raises(ArgumentError, match="no end"):
        plan.compute()
    with pytest.raises(ArgumentError, match="no end"):
        execute(functions.fail, itertools.count())
    stream = plan.stream()
    assert list(itertools.islice(stream, 6)) == [3, 2, 1, 0, 1, 2]
    stream.close()
    with pytest.raises(ArgumentError, match="gone through already"):
        next(plan.stream())


def test_a_stream_of_known_data(tmp_path: Path) -> None:
    recorder = functions.Recorder(tmp_path)
    plan = optimize(recorder, range(100), sample_size=3)
    stream = plan.stream()
    assert next(stream) == 0
    assert list(stream) == [2 * x for x in range(1, 100)]
    assert recorder.counts() == dict.fromkeys(range(100), 1)


# -- what is recognised ----------------------------------------------------------------


def test_a_stream_of_what_has_no_slices() -> None:
    plan = Plan(func=functions.double, data=deque(range(100)))
    assert list(plan.stream()) == [2 * x for x in range(100)]


def test_a_plan_for_other_work() -> None:
    """What was sampled is of the function and the data that it was sampled with."""
    plan = optimize(functions.double, list(range(100)))
    assert plan.results
    other_data = replace(plan, data=range(100, 300))
    other_function = replace(plan, func=str)
    with ThreadPoolExecutor(2) as pool:
        for run in (Plan.compute, Plan.stream, lambda plan: plan.map(pool)):
            assert list(run(other_data)) == list(range(200, 600, 2))
            assert list(run(other_function)) == list(map(str, range(100)))


def test_copies_know_what_was_sampled(tmp_path: Path) -> None:
    recorder = functions.Recorder(tmp_path)
    plan = optimize(recorder, list(range(50)), sample_size=3)
    assert plan.results
    copies = [
        replace(plan, max_workers=1),
        copy.copy(plan),
        copy.deepcopy(plan),
        pickle.loads(pickle.dumps(plan)),
    ]
    for one in copies:
        assert one.compute() == [2 * x for x in range(50)]
    counts = recorder.counts()
    assert {counts[place] for place in plan.results} == {1}


def test_too_fast() -> None:
    plan = optimize(functions.double, range(10_000))
    assert (plan.n_jobs, plan.lane) == (1, "inline")
    assert "too fast" in plan.reason
    assert "vectorised" in plan.reason


def test_too_few() -> None:
    plan = optimize(functions.spin, [0.002] * 5)
    assert (plan.n_jobs, plan.lane) == (1, "inline")
    assert "too few" in plan.reason


def test_waiting(several_cores: None) -> None:
    """Serial for a pool, and threads for us."""
    plan = optimize(functions.nap, [0.01] * 300)
    assert plan.n_jobs == 1
    assert plan.lane == "threads"
    assert plan.n_workers > 4
    assert plan.speedup > 4
    assert "asyncio" in plan.reason
    assert "serial execution" in plan.reason
    assert plan.pool_arguments("threads") == {"max_workers": plan.n_workers}


def test_what_the_scheduler_allows(several_cores: None) -> None:
    """A plan is one for the scheduler that is going to run it."""
    for lanes in LANES:
        with AmorsizeScheduler(lanes=lanes, max_workers=3) as scheduler:
            plan = optimize(functions.nap, [0.002] * 200, scheduler=scheduler)
            assert plan.lane == lanes[0]
            assert plan.n_workers <= 3
            assert plan.compute(scheduler) == [0.002] * 200
            plan = optimize(lambda x: threading.Lock(), [1] * 10, scheduler=scheduler)
            assert plan.lane in ("inline", lanes[0])
            assert plan.lane != "processes"


def test_computing(several_cores: None) -> None:
    plan = optimize(functions.spin, [0.005] * 2000)
    assert plan.n_jobs == 4
    assert plan.lane == "processes"
    assert plan.speedup > 2
    assert plan.pool_speedup > 2
    assert "holding the GIL" in plan.reason
    assert optimize(functions.spin, [0.005] * 2000, max_workers=2).n_jobs == 2


def test_without_the_gil(several_cores: None) -> None:
    plan = optimize(functions.digest, [3_000_000] * 1000)
    assert plan.lane == "threads"
    assert "without the GIL" in plan.reason


def test_large_results() -> None:
    plan = optimize(functions.make_bytes, [20_000_000] * 10)
    assert any("stream()" in warning for warning in plan.warnings)


def test_large_functions(several_cores: None) -> None:
    plan = optimize(partial(functions.double), range(10))
    assert not any("along" in warning for warning in plan.warnings)
    table = np.zeros(1_000_000)
    plan = optimize(partial(np.add, table), range(10))
    assert any("8 MB along" in warning for warning in plan.warnings)


def test_unpicklable(several_cores: None) -> None:
    """A pool can't send it, and we can; what no one can send stays here."""
    plan = optimize(lambda x: functions.spin(0.005), range(2000))
    assert plan.n_jobs == 1
    assert plan.lane == "processes"
    assert any("cloudpickle" in warning for warning in plan.warnings)
    lock = threading.Lock()
    plan = optimize(lambda x: (lock, functions.spin(0.005)), range(2000))
    assert plan.n_jobs == 1
    assert plan.lane != "processes"
    assert any("Processes can't be used" in warning for warning in plan.warnings)


class Handle:
    """Can't be sent, nor say how large it is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __sizeof__(self) -> int:
        raise ValueError


def test_items_that_cannot_say_how_large_they_are() -> None:
    items = [Handle() for _ in range(100)]
    assert optimize(lambda item: item, items).compute() == items
    assert process_in_batches(lambda item: item, items) == items
    assert estimate_safe_batch_size(lambda item: item, items) >= 1


def test_a_function_that_always_fails() -> None:
    plan = optimize(functions.fail, range(100))
    assert plan.n_jobs == 1
    assert "ValueError" in plan.reason
    with pytest.raises(ValueError, match="no"):
        plan.compute()


class SilentError(Exception):
    """Can't say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def test_errors_that_say_much_or_nothing() -> None:
    """A plan says which they are, and not all that is in them."""

    def fail(x: int) -> None:
        raise SilentError if x < 5 else ValueError("x" * 1_000_000)

    for items, name in (([1] * 9, "SilentError"), ([5] * 9, "ValueError: xxx")):
        plan = optimize(fail, items)
        assert name in plan.reason
        assert len(plan.explain()) < 2000


def test_a_function_that_fails_at_times() -> None:
    plan = optimize(functions.fail_at_odd, range(100))
    assert any("ValueError" in warning for warning in plan.warnings)
    assert plan.diagnostic_profile is not None
    assert 0 < plan.diagnostic_profile.n_failed < plan.diagnostic_profile.n_sampled
    with pytest.raises(ValueError, match="odd"):
        plan.compute()


@pytest.mark.parametrize(
    ("func", "data"),
    [
        (len, ["a", "bb"]),
        (str.upper, ["a", "b"]),
        (int, ["1", "2"]),
        (operator.itemgetter(0), [(1, 2), (3, 4)]),
        (np.sqrt, np.array([4.0, 9.0])),
        (partial(pow, 2), [1, 2, 3]),
        (lru_cache(functions.double), [1, 1]),
        (functions.Recorder, ["a", "b"]),
        ({1: "a"}.get, [1, 2]),
        (Mock(return_value=3), [1, 2]),
    ],
    ids=repr,
)
def test_whatever_can_be_called(func: Callable[[Any], Any], data: Any) -> None:
    expected = [func(item) for item in data]
    kinds = [type(value) for value in expected]
    plan = optimize(func, data)
    for found in (plan.compute(), list(plan.stream()), execute(func, data)):
        assert [type(value) for value in found] == kinds
        if func is not functions.Recorder:
            assert found == expected
    with AmorsizeScheduler(lanes=("threads",)) as scheduler:
        tasks, keys = make_tasks(func, list(data), 2)
        values = scheduler.run_tasks(tasks, keys)
        assert len(values) == 2


def test_empty_data() -> None:
    for data in ([], iter(()), {}):
        plan = optimize(functions.fail, data)
        assert plan.n_jobs == plan.chunksize == plan.npartitions == 1
        assert "no items" in plan.reason
        assert plan.compute() == list(plan.stream()) == []
        assert execute(functions.fail, data) == []


def test_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    plan = optimize(functions.double, range(10), verbose=True, return_diagnostics=True)
    told = capsys.readouterr().err
    assert plan.explain() in told
    assert plan.reason in told
    profile = plan.diagnostic_profile
    assert profile is not None
    assert profile.avg_execution_time > 0
    assert profile.avg_pickle_time > 0
    assert profile.spawn_cost > 0
    assert profile.estimated_speedup == plan.speedup
    assert execute(functions.double, range(3), verbose=True) == [0, 2, 4]
    assert "compute()" in capsys.readouterr().err


def test_load_is_respected(
    monkeypatch: pytest.MonkeyPatch, several_cores: None
) -> None:
    from amorsize_dask.measure.load import CoreUse, Load
    from amorsize_dask.planning import putting_together

    class Watch:
        n_busy = 2.0

        def look(self, pids: Any) -> Load:
            return Load(cores=(CoreUse("cores", 4, self.n_busy),))

    watch = Watch()
    monkeypatch.setattr(putting_together, "_load_watch", lambda: watch)
    plan = optimize(functions.spin, [0.005] * 2000, respect_load=True)
    assert plan.n_jobs == plan.max_workers == 2
    watch.n_busy = 4.0
    assert optimize(functions.spin, [0.005] * 2000, respect_load=True).n_jobs == 1
    assert optimize(functions.spin, [0.005] * 2000).n_jobs == 4
    items = [0.0001] * 10
    assert execute(functions.spin, items, respect_load=True) == items


# -- pools -----------------------------------------------------------------------------


POOLS = {
    "fork": lambda: get_context("fork").Pool(2),
    "threads": lambda: ThreadPool(2),
    "executor": lambda: ProcessPoolExecutor(2, get_context("fork")),
    "thread-executor": lambda: ThreadPoolExecutor(2),
}


@pytest.mark.parametrize("make", POOLS.values(), ids=POOLS)
def test_pools_of_ones_own(tmp_path: Path, make: Callable[[], Any]) -> None:
    """Each item is called once, lambdas included."""
    recorder = functions.Recorder(tmp_path)
    plan = optimize(lambda x: recorder(x), range(50), sample_size=3)
    with make() as pool:
        assert plan.map(pool) == [2 * x for x in range(50)]
        if not isinstance(pool, Executor):
            pool.close()
            pool.join()
    assert recorder.counts() == dict.fromkeys(range(50), 1)


def test_a_pool_for_a_plan_from_disk() -> None:
    """What was measured of the function isn't there any more."""
    plan = Plan(n_jobs=2, func=lambda x: x + 1, data=range(50))
    with get_context("fork").Pool(2) as pool:
        assert plan.map(pool) == list(range(1, 51))
        pool.close()
        pool.join()


def test_joblib(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    recorder = functions.Recorder(tmp_path)
    plan = optimize(recorder, range(50), sample_size=3)
    pool = joblib.Parallel(**plan.pool_arguments("joblib"), prefer="threads")
    assert plan.map(pool) == [2 * x for x in range(50)]
    assert recorder.counts() == dict.fromkeys(range(50), 1)


def test_joblib_out_of_order() -> None:
    """Nobody could tell which result is whose."""
    joblib = pytest.importorskip("joblib")
    plan = optimize(functions.double, range(50))
    pool = joblib.Parallel(2, return_as="generator_unordered", prefer="threads")
    with pytest.raises(ArgumentError, match="in order"):
        plan.map(pool)


def test_the_code_of_the_guide() -> None:
    """It works for lists and for generators, also where a loop is recommended."""
    for data in ([1, 2, 3], (x for x in [1, 2, 3])):
        result = optimize(functions.double, data)
        with get_context("fork").Pool(result.n_jobs) as pool:
            found = pool.map(functions.double, result.data, chunksize=result.chunksize)
            pool.close()
            pool.join()
        assert found == [2, 4, 6]


# -- bags and other collections --------------------------------------------------------


def test_a_bag(several_cores: None) -> None:
    """Real items of it go through the whole chain, and it is left as it is."""
    seen: list[float] = []

    def spin(x: float) -> float:
        seen.append(x)
        return functions.spin(x)

    bag = db.from_sequence([0.004] * 500, npartitions=3).map(spin).filter(bool)
    plan = optimize(bag)
    assert 0 < len(seen) < 100
    assert plan.lane == "processes"
    assert plan.npartitions > 3
    assert plan.npartitions * plan.partition_size >= 500
    assert plan.data is bag
    assert plan.serial_s >= 1.9


def test_delayed_values() -> None:
    values = [dask.delayed(functions.nap)(0.005) for _ in range(100)]
    plan = optimize(values)
    assert plan.lane == "threads"
    assert plan.compute() == [0.005] * 100
    one = optimize(dask.delayed(functions.double)(4))
    assert one.compute() == 8
    assert one.lane == "inline"


def test_chains_of_delayed_values() -> None:
    """What needs results that were made is tried as well."""
    first = dask.delayed(functions.nap)(0.002)
    plan = optimize([dask.delayed(functions.nap)(first) for _ in range(20)])
    assert plan.serial_s >= 21 * 0.002


def test_what_needs_all_is_left_out() -> None:
    bag = db.from_sequence(range(100), npartitions=4).map(functions.double)
    plan = optimize(bag.groupby(lambda x: x % 2))
    assert any("aren't part" in warning for warning in plan.warnings)
    found = {key: sorted(items) for key, items in plan.compute()}
    assert found == {0: list(range(0, 200, 2))}


def test_a_collection_that_fails() -> None:
    plan = optimize(db.from_sequence(range(10), npartitions=2).map(functions.fail))
    assert "ValueError" in plan.reason
    assert plan.n_jobs == 1


plan_of_sevens = Plan(partition_size=7, npartitions=2)


@pytest.mark.parametrize(
    "change",
    [
        lambda bag: bag,
        lambda bag: bag.map(functions.double),
        lambda bag: bag.map(functions.double).filter(bool).map(str),
        lambda bag: bag.map(pow, 2),
        lambda bag: bag.map(lambda x: {"a": x}).pluck("a"),
        lambda bag: bag.map(lambda x: [x, x]).flatten(),
        lambda bag: bag.remove(lambda x: x % 3),
    ],
)
def test_partitions_are_applied(change: Callable[[Any], Any]) -> None:
    """Where nobody can tell."""
    bag = change(db.from_sequence(range(20), npartitions=4))
    applied = plan_of_sevens.apply(bag)
    assert applied.npartitions == 3
    expected = bag.compute(scheduler="sync")
    assert applied.compute(scheduler="sync") == expected
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        assert applied.compute(scheduler=scheduler) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda bag: bag.map_partitions(lambda items: [sum(items)]),
        lambda bag: bag.map_partitions(len),
        lambda bag: bag.repartition(npartitions=2),
        lambda bag: bag.random_sample(0.5, random_state=3),
        lambda bag: bag.distinct(),
        lambda bag: db.zip(bag, bag),
        lambda bag: bag.map(pow, bag),
        lambda bag: bag.groupby(lambda x: x % 2),
    ],
)
def test_partitions_that_can_be_told_stay(change: Callable[[Any], Any]) -> None:
    bag = change(db.from_sequence(range(20), npartitions=4))
    assert plan_of_sevens.apply(bag) is bag


def test_from_sequence(several_cores: None) -> None:
    """All items in order, in partitions that suit the function."""
    for items in (list(range(300)), (x for x in range(300)), range(300), "ab", []):
        expected = list(range(300)) if isinstance(items, Iterator) else list(items)
        assert from_sequence(items).compute(scheduler="sync") == expected
    bag = from_sequence([0.01] * 300, functions.spin)
    assert bag.npartitions >= 4
    assert bag.map(functions.double).compute(scheduler="sync") == [0.02] * 300


def test_partitions_of_large_items_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    from amorsize_dask.planning import choice

    monkeypatch.setattr(choice, "PARTITION_BYTES", 10_000)
    assert from_sequence([bytes(1000)] * 400, max_workers=1).npartitions > 40
    assert from_sequence([bytes(10)] * 400, max_workers=1).npartitions <= 20


# -- arguments -------------------------------------------------------------------------


class Asynchronous:
    """Only returns a coroutine when it is called."""

    async def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: optimize(3, [1]), "func"),
        (lambda: optimize(functions.wait_by_loop, [1]), "coroutine"),
        (lambda: execute(functions.wait_by_loop, [1]), "coroutine"),
        (lambda: optimize(abs, 3), "data"),
        (lambda: optimize(abs, None), "data"),
        (lambda: optimize(abs), "data"),
        (lambda: optimize(3), "collection"),
        (lambda: optimize([1, 2]), "collection"),
        (lambda: optimize(abs, [1], sample_size=-1), "sample_size"),
        (lambda: optimize(abs, [1], sample_size=0), "sample_size"),
        (lambda: optimize(abs, [1], sample_size=1.5), "sample_size"),
        (lambda: optimize(abs, [1], target_chunk_duration=-1), "target_chunk_duration"),
        (
            lambda: optimize(abs, [1], target_chunk_duration=float("nan")),
            "target_chunk_duration",
        ),
        (
            lambda: optimize(abs, [1], target_chunk_duration=10**400),
            "target_chunk_duration",
        ),
        (lambda: execute(Asynchronous(), [1]), "func"),
        (lambda: optimize(abs, [1], max_workers=0), "max_workers"),
        (lambda: optimize(abs, [1], respect_load="often"), "respect_load"),
        (lambda: execute(abs, [1], respect_load="often"), "respect_load"),
        (lambda: optimize(abs, [1], max_workers=-2), "max_workers"),
        (lambda: execute(None, [1]), "func"),
        (lambda: execute(abs, 3), "data"),
        (lambda: execute(abs, [1], max_workers=0), "max_workers"),
        (lambda: execute(abs, [1], sample_size=-1), "sample_size"),
        (
            lambda: execute(abs, [1], target_chunk_duration=float("nan")),
            "target_chunk_duration",
        ),
        (lambda: from_sequence(3), "data"),
        (lambda: from_sequence([1], 3), "func"),
        (lambda: from_sequence([1], max_workers=0), "max_workers"),
        (lambda: optimize(abs, [1], scheduler="threads"), "scheduler"),
        (lambda: execute(abs, [1], scheduler="threads"), "scheduler"),
        (lambda: optimize(abs, [1]).compute("threads"), "scheduler"),
        (lambda: optimize(abs, [1]).stream("threads"), "scheduler"),
        (lambda: process_in_batches(abs, [1], scheduler="threads"), "scheduler"),
        (lambda: Pipeline([abs], scheduler="threads"), "scheduler"),
        (lambda: optimize(abs, [1]).map(3), "pool"),
        (lambda: optimize(dask.delayed(1)).map(3), "self"),
        (lambda: optimize(abs, [1]).pool_arguments("pool"), "kind"),
        (lambda: optimize(abs, [1]).apply([1]), "bag"),
    ],
)
def test_arguments_that_make_no_sense(call: Callable[[], Any], name: str) -> None:
    """They are refused before anything runs."""
    with pytest.raises(ArgumentError, match=name):
        call()


def test_numbers_of_numpy() -> None:
    for seconds in (np.float32(0.5), np.int64(1)):
        assert optimize(abs, [1], target_chunk_duration=seconds).compute() == [1]


def test_execute_is_a_function_and_a_folder() -> None:
    """Whatever was imported first, the name can be called and be imported from."""
    code = """
import amorsize_dask
from amorsize_dask import execute
assert execute(abs, [-1]) == [1]
from amorsize_dask.execute.recipe import Recipe
import amorsize_dask.execute.loop
from amorsize_dask import execute
assert execute(abs, [-2]) == [2]
assert amorsize_dask.execute is execute
"""
    for first in ("", "import amorsize_dask.scheduler\n"):
        subprocess.run([sys.executable, "-W", "error", "-c", first + code], check=True)
    parameters = list(inspect.signature(amorsize_dask.execute).parameters)
    assert parameters[:2] == ["func", "data"]
