"""Stages of one graph run where each belongs, at the same time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import dask
import dask.bag as db
import pytest
from dask import delayed

from amorsize_dask import AmorsizeScheduler, ArgumentError, Pipeline, Stage


@pytest.fixture(scope="module")
def scheduler() -> Iterator[AmorsizeScheduler]:
    """Return a scheduler with workers that are up."""
    with AmorsizeScheduler() as made:
        work = db.from_sequence(range(1000), npartitions=100).map(spin)
        work.compute(scheduler=made)
        assert made.last_run is not None
        assert "processes" in made.last_run.lanes
        yield made


def locate(x: int) -> tuple[int, int]:
    """Return process and thread."""
    return os.getpid(), threading.get_ident()


def download(x: int) -> tuple[int, tuple[int, int]]:
    """Wait, as for a server."""
    time.sleep(0.03)
    return x, locate(x)


def parse(page: tuple[int, tuple[int, int]]) -> tuple[int, tuple[int, int], int]:
    """Compute, holding the GIL, for so long that who has the GIL may lose a core."""
    x, place = page
    total = 0
    end = time.thread_time() + 0.015
    while time.thread_time() < end:
        total += x
    return x, place, os.getpid()


def test_a_chain_waits_in_threads_and_computes_in_processes(
    scheduler: AmorsizeScheduler,
) -> None:
    """Fused by lowering, it is parted once it is known what its links do."""
    values = [delayed(parse)(delayed(download)(x)) for x in range(80)]
    results = dask.compute(*values, scheduler=scheduler)
    assert [x for x, _, _ in results] == list(range(80))
    record = scheduler.last_run
    assert record is not None
    lanes = {stage.name: set(stage.lanes) for stage in record.stages}
    assert "threads" in lanes["download-parse"]
    assert "processes" in lanes["download-parse (end)"]
    # All downloads were in this process, and most of the parsing wasn't.
    assert {pid for _, (pid, _), _ in results} == {os.getpid()}
    assert len({thread for _, (_, thread), _ in results}) > 2
    assert sum(pid != os.getpid() for _, _, pid in results) > 40


def spin(x: int) -> int:
    """Compute for two milliseconds, holding the GIL."""
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass
    return x + 1


@pytest.mark.parametrize("n_partitions", [1, 2, 3])
def test_few_partitions_use_all_workers(
    scheduler: AmorsizeScheduler, n_partitions: int
) -> None:
    """They are cut while they wait, and put together again under their keys."""
    bag = db.from_sequence(range(300), npartitions=n_partitions).map(spin)
    assert bag.compute(scheduler=scheduler) == list(range(1, 301))
    assert was_cut(scheduler, n_partitions)
    total = bag.filter(lambda x: x % 2).sum()
    names: set[str] = set()
    for _ in range(5):
        assert total.compute(scheduler=scheduler) == sum(range(1, 301, 2))
        assert was_cut(scheduler, n_partitions)
        assert scheduler.last_run is not None
        names.update(stage.name for stage in scheduler.last_run.stages)
        if "parts" in names:
            break
    assert "parts" in names


def was_cut(scheduler: AmorsizeScheduler, n_partitions: int) -> bool:
    """Whether several worker processes have had parts of so many partitions.

    What puts the parts together need not be a task of its own each time: the last of
    them may be done with it, if all others have come back.
    """
    assert scheduler.last_run is not None
    record = scheduler.last_run.lanes["processes"]
    return record.n_workers > 1 and record.n_tasks > 2 * n_partitions


def fail_at_200(x: int) -> int:
    """Compute, and fail in the middle of a partition."""
    if x == 200:
        raise ZeroDivisionError(x)
    return spin(x)


def test_what_a_part_raises_is_the_tasks(scheduler: AmorsizeScheduler) -> None:
    """An error in a part is what the whole task would have raised."""
    bag = db.from_sequence(range(300), npartitions=1).map(fail_at_200)
    with pytest.raises(ZeroDivisionError, match="200"):
        bag.compute(scheduler=scheduler)


def end_once(x: int) -> int:
    """End this process in the middle of a partition, the first time."""
    marker = os.environ["END_ONCE"]
    if x == 200 and not os.path.exists(marker):
        with open(marker, "x"):
            os._exit(1)
    return spin(x)


def test_a_part_that_is_lost_is_done_again(
    scheduler: AmorsizeScheduler,
    tmp_path: os.PathLike[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is missing and nothing is there twice."""
    monkeypatch.setenv("END_ONCE", os.fspath(tmp_path / "ended"))
    with AmorsizeScheduler(lanes=("processes",)) as forced:
        bag = db.from_sequence(range(300), npartitions=1).map(end_once)
        assert bag.compute(scheduler=forced) == list(range(1, 301))


def test_tasks_that_someone_watches_stay_whole(scheduler: AmorsizeScheduler) -> None:
    """Callbacks are told of the graph's own keys and of no others."""
    from dask.callbacks import Callback

    told: list[object] = []

    class Told(Callback):  # type: ignore[misc] # Dask has no types for it
        def _posttask(self, key: object, *_: object) -> None:
            told.append(key)

    bag = db.from_sequence(range(80), npartitions=80).map(download).map(parse)
    with Told():
        results = bag.compute(scheduler=scheduler)
    assert [x for x, _, _ in results] == list(range(80))
    assert len(told) == len(set(told))
    assert set(map(str, told)) >= {str(key) for key in bag.__dask_keys__()}


def test_arrays_are_stored_where_their_target_is() -> None:
    """A worker process would write to a copy of an array in memory."""
    array = pytest.importorskip("dask.array")
    numpy = pytest.importorskip("numpy")

    def add_slowly(block: Any) -> Any:
        for _ in range(1_500_000):
            pass
        return block + 1

    blocks = array.zeros(40, chunks=1).map_blocks(add_slowly, dtype=float)
    for _ in range(2):  # The second time it is known what tasks take.
        stored = numpy.zeros(40)
        with AmorsizeScheduler() as scheduler:
            array.store(blocks, stored, scheduler=scheduler)
        assert stored.tolist() == [1.0] * 40


def test_without_a_client_no_part_can_be_sent() -> None:
    """Neither a layer nor a stage of a pipeline, and nothing is run instead."""
    ran: list[int] = []
    with dask.annotate(lane="cluster"):
        sent = delayed(ran.append)(1)
    with AmorsizeScheduler() as scheduler:
        with pytest.raises(ArgumentError, match=r"no distributed\.Client is active"):
            sent.compute(scheduler=scheduler)
        pipeline = Pipeline([Stage(ran.append, lane="cluster")], scheduler=scheduler)
        with pytest.raises(ArgumentError, match=r"no distributed\.Client is active"):
            next(pipeline.run([1]))
        # Where there is a choice it needn't be the cluster.
        both = ("cluster", "inline")
        pipeline = Pipeline([Stage(ran.append, lane=both)], scheduler=scheduler)
        assert list(pipeline.run([2])) == [None]
    assert ran == [2]
