"""`dask.annotate` and ``retries={...}``: each task runs as was said of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import dask
import dask.bag as db
import dask.dataframe as dd
import pytest
from dask import delayed
from dask.callbacks import Callback
from dask.utils_test import inc

from amorsize_dask import AmorsizeScheduler, ArgumentError


class FlakyError(Exception):
    pass


def fail_at_first(x: int, folder: Path, n_times: int) -> int:
    """Raise the first times that this is called with a value."""
    path = folder / str(x)
    with path.open("a") as file:
        file.write("!")
    if path.stat().st_size <= n_times:
        raise FlakyError(x)
    return x


def locate(x: int) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def make_bag(lane: Any) -> Any:
    bag = db.from_sequence(range(12), npartitions=12).map(inc)
    with dask.annotate(lane=lane):
        return bag.map(locate)


@pytest.mark.parametrize("lane", ["processes", ("processes",)])
def test_in_processes(lane: Any) -> None:
    """Although it would pay nowhere near; what was not said of runs here."""
    with AmorsizeScheduler() as scheduler:
        found = make_bag(lane).compute(scheduler=scheduler)
        run = scheduler.last_run
    assert os.getpid() not in {pid for pid, _ in found}
    assert run is not None
    lanes = {stage.name: set(stage.lanes) for stage in run.stages}
    assert lanes["locate"] == {"processes"}
    assert lanes["inc"] == {"inline"}


def test_in_threads() -> None:
    """None of them is the calling thread."""
    with AmorsizeScheduler() as scheduler:
        found = make_bag("threads").compute(scheduler=scheduler)
    assert {pid for pid, _ in found} == {os.getpid()}
    assert threading.get_ident() not in {thread for _, thread in found}


def test_in_the_caller() -> None:
    """Although the lane processes would be faster by far."""
    bag = db.from_sequence(range(8), npartitions=8)
    with dask.annotate(lane="inline"):
        spun = bag.map(spin)
    with AmorsizeScheduler() as scheduler:
        assert set(spun.compute(scheduler=scheduler)) == {os.getpid()}
        assert scheduler.last_run is not None
        assert set(scheduler.last_run.lanes) == {"inline"}


def spin(x: int) -> int:
    end = os.times().user + 0.05
    while os.times().user < end:
        pass
    return os.getpid()


@pytest.mark.parametrize("n_tasks", [1, 12])
def test_one_of_two_lanes(n_tasks: int) -> None:
    """Out of the calling thread, wherever that pays best."""
    with dask.annotate(lane=("threads", "processes")):
        found = [delayed(locate)(i) for i in range(n_tasks)]
    with AmorsizeScheduler() as scheduler:
        places = dask.compute(*found, scheduler=scheduler)
        assert scheduler.last_run is not None
        assert "inline" not in scheduler.last_run.lanes
    assert (os.getpid(), threading.get_ident()) not in places


def test_in_a_stream() -> None:
    """As in a compute."""
    with AmorsizeScheduler() as scheduler:
        found = list(scheduler.stream(make_bag("processes")))
    assert os.getpid() not in {pid for pid, _ in found}


def test_while_callbacks_watch() -> None:
    """As without them."""
    with Callback(posttask=lambda *_: None), AmorsizeScheduler() as scheduler:
        found = make_bag("processes").compute(scheduler=scheduler)
    assert os.getpid() not in {pid for pid, _ in found}


def test_a_lane_that_the_scheduler_may_not_use() -> None:
    """Nothing is started then."""
    with (
        AmorsizeScheduler(lanes=("inline", "threads")) as scheduler,
        pytest.raises(ArgumentError, match=r"annotation lane.*'locate'"),
    ):
        make_bag("processes").compute(scheduler=scheduler)
    assert scheduler.last_run is None


@pytest.mark.parametrize("lane", ["inline", "threads", "processes"])
def test_retries(lane: str, tmp_path: Path) -> None:
    """Of some tasks only; a task whose link isn't annotated isn't run again."""
    with dask.annotate(retries=2):
        safe = [delayed(fail_at_first)(i, tmp_path, 2) for i in range(3)]
    with AmorsizeScheduler(lanes=(lane,)) as scheduler:
        assert dask.compute(*safe, scheduler=scheduler) == (0, 1, 2)
        with pytest.raises(FlakyError):
            delayed(fail_at_first)(7, tmp_path, 1).compute(scheduler=scheduler)


def test_retries_by_key(tmp_path: Path) -> None:
    """For a compute, or for all computes of a scheduler."""
    one = delayed(fail_at_first)(1, tmp_path, 1, dask_key_name="one")
    two = delayed(fail_at_first)(2, tmp_path, 2, dask_key_name="two")
    with AmorsizeScheduler(retries={"one": 1}) as scheduler:
        assert one.compute(scheduler=scheduler) == 1
        with pytest.raises(FlakyError):
            two.compute(scheduler=scheduler)
        assert two.compute(scheduler=scheduler, retries={two: 1}) == 2


def test_what_was_said_nearer_counts(tmp_path: Path) -> None:
    """A key's number, then an annotation, then a number for all."""
    with dask.annotate(retries=0):
        strict = delayed(fail_at_first)(1, tmp_path, 1, dask_key_name="strict")
    with AmorsizeScheduler(retries=5) as scheduler:
        with pytest.raises(FlakyError):
            strict.compute(scheduler=scheduler, retries=3)
        assert len((tmp_path / "1").read_text()) == 1
        (tmp_path / "1").unlink()
        assert strict.compute(scheduler=scheduler, retries={"strict": 1}) == 1


def test_retries_of_a_bag(tmp_path: Path) -> None:
    """Its partitions are cut into parts, which are run again as it would be."""
    bag = db.from_sequence(range(40), npartitions=1)
    with dask.annotate(retries=200):
        mapped = bag.map(fail_at_first, folder=tmp_path, n_times=1)
    with AmorsizeScheduler() as scheduler:
        assert mapped.compute(scheduler=scheduler) == list(range(40))


@pytest.mark.parametrize("wrong", [{"x": -1}, {"x": "2"}, {"x": None}])
def test_retries_that_make_no_sense(wrong: Any) -> None:
    """They are refused before anything starts."""
    with pytest.raises(ArgumentError, match="retries"):
        AmorsizeScheduler(retries=wrong)
    with (
        AmorsizeScheduler() as scheduler,
        pytest.raises(ArgumentError, match="retries"),
    ):
        delayed(inc)(1).compute(scheduler=scheduler, retries=wrong)


def test_priority() -> None:
    """One after the other, the last ones first."""
    order: list[int] = []
    with dask.annotate(priority=lambda key: int(key.removeprefix("task-"))):
        tasks = [delayed(order.append)(i, dask_key_name=f"task-{i}") for i in range(6)]
    with AmorsizeScheduler(lanes=("inline",)) as scheduler:
        dask.compute(*tasks, scheduler=scheduler)
    assert order == [5, 4, 3, 2, 1, 0]


def test_a_column_may_have_any_name() -> None:
    """Dataframes take names for those of their columns."""
    import pandas as pd

    frame = pd.DataFrame({"layers": [1, 2, 3], "annotations": [4, 5, 6]})
    with AmorsizeScheduler(lanes=("inline",)) as scheduler:
        total = dd.from_pandas(frame, npartitions=2).sum()
        assert total.compute(scheduler=scheduler).to_dict() == {
            "layers": 6,
            "annotations": 15,
        }
        column = dd.from_pandas(frame, npartitions=2)["layers"]
        assert list(column.compute(scheduler=scheduler)) == [1, 2, 3]
        parts = dd.from_delayed([delayed(frame.copy)()], meta=frame, verify_meta=False)
        assert list(parts["layers"].compute(scheduler=scheduler)) == [1, 2, 3]
