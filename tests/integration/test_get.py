"""What Dask expects of a scheduler, in every lane."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from operator import add
from time import sleep
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.base import get_scheduler
from dask.highlevelgraph import HighLevelGraph
from dask.utils_test import GetFunctionTestMixin, inc

from amorsize_dask import AmorsizeScheduler, amorsize_scheduler
from amorsize_dask.errors import ArgumentError

LANES = ("inline", "threads", "processes")

Force = Callable[[str], AmorsizeScheduler]


@pytest.mark.parametrize("lane", ["auto", *LANES])
class TestGetFunction(GetFunctionTestMixin):
    """Dask's own tests of a ``get`` function."""

    @pytest.fixture(autouse=True)
    def _get(self, forced: Force, lane: str) -> None:
        self.get = forced(lane)


def _lanes_of(scheduler: AmorsizeScheduler, stage: str) -> set[str]:
    assert scheduler.last_run is not None
    return {
        str(lane)
        for record in scheduler.last_run.stages
        if stage in record.name
        for lane in record.lanes
    }


@pytest.mark.parametrize("lane", LANES)
def test_forced_lane_is_used(forced: Force, lane: str) -> None:
    """With one lane allowed all of the user's tasks run there."""
    scheduler = forced(lane)
    bag = db.from_sequence(range(20), npartitions=10).map(inc)
    assert bag.compute(scheduler=scheduler) == list(range(1, 21))
    assert _lanes_of(scheduler, "inc") == {lane}


@pytest.mark.parametrize("lane", ["auto", *LANES])
def test_collections_of_all_kinds_at_once(forced: Force, lane: str) -> None:
    """Bags, delayed values, arrays and dataframes are computed, also together."""
    frame = pd.DataFrame({"a": range(10), "b": range(10)})
    collections = (
        db.from_sequence(range(10), npartitions=3).map(inc),
        dask.delayed(add)(dask.delayed(inc)(1), 2),
        da.ones((8, 8), chunks=4).sum(axis=0),
        dd.from_pandas(frame, npartitions=3).b.sum(),
    )
    with pytest.warns(UserWarning, match="mixed collections"):
        bag, delayed, array, total = dask.compute(*collections, scheduler=forced(lane))
    assert bag == list(range(1, 11))
    assert delayed == 4
    np.testing.assert_array_equal(array, np.full(8, 8.0))
    assert total == 45


@pytest.mark.parametrize("lane", ["auto", *LANES])
def test_dataframes_equal_sync(forced: Force, lane: str) -> None:
    """A dataframe's expression gives what it gives under sync."""
    frame = pd.DataFrame({"a": [1, 2, 1, 2, 3] * 4, "b": range(20)})
    means = dd.from_pandas(frame, npartitions=4).groupby("a").b.mean()
    pd.testing.assert_series_equal(
        means.compute(scheduler=forced(lane)), means.compute(scheduler="sync")
    )


@pytest.mark.parametrize("lane", ["auto", *LANES])
def test_persist(forced: Force, lane: str) -> None:
    """A persisted bag has its partitions in memory and computes to the same."""
    bag = db.from_sequence(range(10), npartitions=3).map(inc)
    persisted = bag.persist(scheduler=forced(lane))
    assert len(persisted.dask) == bag.npartitions
    assert persisted.map(inc).compute(scheduler="sync") == list(range(2, 12))


def test_registered_name() -> None:
    """The name "amorsize" stands for the ready instance."""
    amorsize_scheduler.last_run = None
    assert dask.delayed(inc)(1).compute(scheduler="Amorsize") == 2
    assert amorsize_scheduler.last_run is not None


def test_set_by_configuration() -> None:
    """`dask.config.set(scheduler=...)` takes an instance and the name."""
    amorsize_scheduler.last_run = None
    with dask.config.set(scheduler=amorsize_scheduler):
        assert get_scheduler() is amorsize_scheduler
        assert dask.delayed(inc)(1).compute() == 2
    assert amorsize_scheduler.last_run is not None
    with dask.config.set(scheduler="amorsize"):
        assert db.range(4, npartitions=2).sum().compute() == 6


@pytest.mark.parametrize("kind", [dict, HighLevelGraph])
def test_nested_keys_of_a_plain_graph(kind: type, forced: Force) -> None:
    """Keys may be nested lists, tuples being keys; lists come back as tuples."""
    layer: dict[Any, Any] = {("x", 0): 1, ("x", 1): (inc, ("x", 0)), "y": (add, 1, 2)}
    graph = layer if kind is dict else HighLevelGraph({"a": layer}, {"a": set()})
    keys = [[("x", 0), [("x", 1)]], "y", []]
    assert forced("auto")(graph, keys) == ((1, (2,)), 3, ())
    assert set(layer) == {("x", 0), ("x", 1), "y"}


def test_unknown_keywords_are_ignored(forced: Force) -> None:
    """What other schedulers take is taken too; what no one knows is ignored."""
    value = dask.delayed(inc)(1).compute(
        scheduler=forced("inline"), chunksize=3, pool=None, no_such_thing=1
    )
    assert value == 2


def test_num_workers_is_honoured() -> None:
    """`num_workers` limits one compute, as an argument and by configuration."""
    # Of tasks that are over at once the first thread may have done all, and should.
    bag = db.from_sequence([0.01] * 8, npartitions=8).map(sleep)
    with AmorsizeScheduler(lanes=("threads",), max_workers=3) as scheduler:
        bag.compute(scheduler=scheduler, num_workers=1)
        assert scheduler.last_run.lanes["threads"].n_workers == 1
        with dask.config.set(num_workers=2):
            bag.compute(scheduler=scheduler)
        assert scheduler.last_run.lanes["threads"].n_workers == 2
        with pytest.raises(ArgumentError, match="num_workers=0"):
            bag.compute(scheduler=scheduler, num_workers=0)


def test_an_empty_request(forced: Force) -> None:
    """Nothing asked for is nothing computed."""
    assert forced("auto")({"x": (inc, 1)}, []) == ()


@pytest.mark.parametrize("lane", ["auto", "inline"])
def test_large_results_are_consumed_before_more_are_made(
    forced: Force, lane: str
) -> None:
    """Short tasks with large results run in the graph's order, and are dropped."""
    alive = most = 0

    class Big(bytearray):
        def __init__(self, n: int) -> None:
            nonlocal alive, most
            super().__init__(n)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    graph: dict[Any, Any] = {}
    for i in range(50):
        graph["big", i] = (Big, 10_000_000)
        graph["one", i] = (bool, ("big", i))
        before = [("sum", i - 1)] if i else []
        graph["sum", i] = (sum, [("one", i), *before])
    assert forced(lane)(graph, ("sum", 49)) == 50
    assert alive == 0
    assert most <= 4


def test_task_sees_the_same_object_inline(forced: Force) -> None:
    """Data in the graph isn't copied on its way to a task of the caller."""
    data = object()
    assert forced("auto")({"x": data, "y": (id, "x")}, "y") == id(data)


class Data:
    """Something whose end can be seen."""


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("lane", ["auto", *LANES])
def test_nothing_of_a_run_waits_for_the_collector(
    forced: Force, lane: str, is_streamed: bool
) -> None:
    """A graph is gone as soon as it has been computed, however large it is."""
    scheduler = forced(lane)
    data = [Data() for _ in range(20)]
    gone = [weakref.ref(one) for one in data]
    bag = db.from_sequence(data, npartitions=10).map(type)
    gc.collect()
    gc.disable()
    try:
        if is_streamed:
            assert list(scheduler.stream(bag)) == [Data] * 20
        else:
            assert bag.compute(scheduler=scheduler) == [Data] * 20
        del bag, data
        assert [ref() for ref in gone] == [None] * 20
    finally:
        gc.enable()


def test_bad_arguments_fail_at_once() -> None:
    """Arguments that can't be used are refused, with what is expected instead."""
    for arguments in (
        {"max_workers": 0},
        {"max_workers": 1.5},
        {"max_workers": True},
        {"lanes": ("gpu",)},
        {"lanes": ()},
        {"memory_limit": "a lot"},
        {"memory_limit": -1},
        {"memory_limit": 0.0},
        {"memory_limit": 1.5},
        {"memory_limit": 80},
        {"memory_limit": float("nan")},
        {"memory_limit": None},
        {"target_batch_duration": 0},
        {"target_batch_duration": "soon"},
    ):
        (name,) = arguments
        with pytest.raises(ArgumentError, match=f"^{name}=.*: expected") as info:
            AmorsizeScheduler(**arguments)
        assert info.value.name == name
        assert isinstance(info.value, ValueError)


@pytest.mark.parametrize("value", [0, "0 s", -1, "soon", [1]])
def test_bad_idle_timeout_fails_at_once(value: Any) -> None:
    """Workers that end as soon as they are up are refused before any is started."""
    with (
        dask.config.set({"amorsize.idle-timeout": value}),
        pytest.raises(ArgumentError, match="idle-timeout"),
    ):
        AmorsizeScheduler()


def test_memory_limits_are_understood() -> None:
    """Bytes, text and fractions of the available memory are memory limits."""
    for limit in ("auto", 10**9, "1 GB", 0.5, 1.0, 2e9):
        scheduler = AmorsizeScheduler(memory_limit=limit)
        assert dask.delayed(inc)(1).compute(scheduler=scheduler) == 2
