"""Plans lose nothing, run nothing twice and keep the order, whatever the data is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amorsize_dask import AmorsizeScheduler, execute, optimize
from amorsize_dask.core.model import Limits, Machine, Workload
from amorsize_dask.planning.choice import choose_partitions
from amorsize_dask.planning.execution import leave_out, make_tasks, put_back
from amorsize_dask.planning.pools import choose_pool

MAKERS: dict[str, Callable[[list[int]], Iterable[int]]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "generator": lambda items: (item for item in items),
    "dict": dict.fromkeys,
}

items = st.lists(st.integers(-50, 50), max_size=200)
makers = st.sampled_from(sorted(MAKERS))


def in_order(maker: str, values: list[int]) -> list[int]:
    return list(MAKERS[maker](values))


@pytest.fixture(scope="module")
def scheduler() -> Iterable[AmorsizeScheduler]:
    with AmorsizeScheduler(lanes=("inline", "threads")) as made:
        yield made


@settings(max_examples=60, deadline=None)
@given(items, makers, st.none() | st.integers(1, 20))
def test_a_plan_computes_what_a_loop_does(
    scheduler: AmorsizeScheduler, values: list[int], maker: str, sample_size: int | None
) -> None:
    """Each item of what is seen to be the data is called once."""
    called: list[int] = []

    def double(x: int) -> int:
        called.append(x)
        return 2 * x

    expected = in_order(maker, values)
    plan = optimize(
        double, MAKERS[maker](values), sample_size=sample_size, scheduler=scheduler
    )
    assert plan.compute(scheduler) == [2 * x for x in expected]
    assert sorted(called) == sorted(expected)
    assert list(plan.data) == expected
    if plan.n_jobs == 1:
        assert "serial execution" in plan.reason.lower()


@settings(max_examples=40, deadline=None)
@given(items, makers)
def test_a_stream_yields_what_a_loop_does(
    scheduler: AmorsizeScheduler, values: list[int], maker: str
) -> None:
    plan = optimize(abs, MAKERS[maker](values), scheduler=scheduler)
    assert list(plan.stream(scheduler)) == list(map(abs, in_order(maker, values)))


@settings(max_examples=60, deadline=None)
@given(items, makers)
def test_execute_does_what_a_loop_does(
    scheduler: AmorsizeScheduler, values: list[int], maker: str
) -> None:
    called: list[int] = []

    def double(x: int) -> int:
        called.append(x)
        return 2 * x

    found = execute(double, MAKERS[maker](values), scheduler=scheduler)
    expected = in_order(maker, values)
    assert found == [2 * x for x in expected]
    assert sorted(called) == sorted(expected)


@settings(max_examples=60, deadline=None)
@given(items, st.sets(st.integers(0, 199)), st.integers(1, 300))
def test_pieces_and_results_make_the_whole(
    values: list[int], known: set[int], n_pieces: int
) -> None:
    """What is left out and what is put back are all of it, in order."""
    results = {place: values[place] for place in known if place < len(values)}
    others = leave_out(values, results)
    assert len(others) + len(results) == len(values)
    assert put_back(others, results) == values
    if values:
        tasks, keys = make_tasks(abs, values, n_pieces)
        assert len(keys) == min(n_pieces, len(values))
        parts = [tasks.nodes[tasks.keys.index(key)]({}) for key in keys]
        assert [x for part in parts for x in part] == list(map(abs, values))


workloads = st.builds(
    Workload,
    n_tasks=st.integers(0, 10**6),
    mean_s=st.floats(0, 10),
    std_s=st.floats(0, 10),
    cpu_fraction=st.floats(0, 1),
    in_bytes=st.floats(0, 1e9),
    out_bytes=st.floats(0, 1e9),
    peak_bytes=st.floats(0, 1e9),
)
machines = st.builds(
    Machine,
    n_cores=st.just(8),
    n_physical_cores=st.integers(1, 8),
    memory_bytes=st.integers(10**6, 10**11),
)


@settings(max_examples=150, deadline=None)
@given(workloads, machines, st.floats(0.001, 10), st.none() | st.integers(1, 16))
def test_pools_get_valid_arguments(
    workload: Workload, machine: Machine, target_s: float, most: int | None
) -> None:
    """A pool is never taken to be slower than a loop, nor larger than may be."""
    pool = choose_pool(
        workload, machine, Limits(max_workers=most), target_chunk_s=target_s
    )
    assert 1 <= pool.n_jobs <= min(machine.n_physical_cores + 8, most or 100)
    assert 1 <= pool.chunksize <= max(1, workload.n_tasks)
    assert 0 <= pool.predicted_s <= workload.n_tasks * workload.mean_s
    if workload.cpu_fraction <= 0.5:
        assert pool.n_jobs == 1
    if workload.mean_s and pool.chunksize > 1:
        assert pool.chunksize * workload.mean_s <= 1.001 * target_s


@settings(max_examples=150, deadline=None)
@given(workloads, st.integers(1, 200), st.floats(0.001, 10))
def test_partitions_have_all_items(
    workload: Workload, n_workers: int, target_s: float
) -> None:
    size, n = choose_partitions(workload, n_workers, target_s)
    assert size >= 1
    assert n >= 1
    assert (n - 1) * size < max(1, workload.n_tasks) <= max(1, n * size)


def test_what_is_known_is_used(scheduler: Any) -> None:
    """A plan's run begins where its sample has left off."""
    import time

    plan = optimize(lambda s: time.sleep(s), [0.005] * 100, scheduler=scheduler)
    plan.compute(scheduler)
    first = scheduler.last_run.decisions[0]
    assert first.lane == "threads"
    assert "by earlier runs" in first.reason
