"""Exceptions of tasks, and tasks that can't be sent to another process."""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Callable

import dask
import dask.bag as db
import pytest
from dask.utils_test import inc

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.errors import (
    AmorsizeError,
    ArgumentError,
    LaneError,
    MemoryBudgetError,
    ResultLostError,
    SerializationError,
    TaskTimeoutError,
    WorkerLostError,
)

LANES = ("inline", "threads", "processes")

Force = Callable[[str], AmorsizeScheduler]


class TwoPartError(Exception):
    """Its arguments are not those of its constructor."""

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.second = second


def raise_at_three(x: int) -> int:
    if x == 3:
        raise TwoPartError("three", x)
    return x


@pytest.mark.parametrize("lane", ["auto", *LANES])
def test_exception_arrives_as_itself(forced: Force, lane: str) -> None:
    """A task's exception comes with its attributes, its frames, and a note."""
    bag = db.from_sequence(range(6), npartitions=6).map(raise_at_three)
    with pytest.raises(TwoPartError) as info:
        bag.compute(scheduler=forced(lane))
    assert str(info.value) == "three and 3"
    assert info.value.second == 3
    names = [frame.name for frame in traceback.extract_tb(info.value.__traceback__)]
    assert names[-1] == "raise_at_three"
    (note,) = info.value.__notes__
    assert "raise_at_three" in note
    if lane != "auto":
        assert note.endswith(f"in lane {lane}")
    record = forced(lane).last_run
    assert record is not None
    assert record.error is info.value


@pytest.mark.parametrize("lane", LANES)
def test_scheduler_computes_again_after_an_error(forced: Force, lane: str) -> None:
    """An error leaves the scheduler as good as before."""
    for _ in range(3):
        with pytest.raises(TwoPartError):
            dask.delayed(raise_at_three)(3).compute(scheduler=forced(lane))
        assert dask.delayed(inc)(1).compute(scheduler=forced(lane)) == 2


@pytest.mark.parametrize("lane", LANES)
def test_system_exit_of_a_task(forced: Force, lane: str) -> None:
    """A task that exits raises SystemExit in the caller, as under Dask's schedulers."""

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as info:
        dask.delayed(leave)().compute(scheduler=forced(lane))
    assert info.value.code == 3


def test_failed_task_is_run_again_for_a_debugger(forced: Force) -> None:
    """`rerun_exceptions_locally` runs the task again in the calling thread."""
    threads = []

    def fail() -> None:
        threads.append(threading.current_thread())
        raise ValueError("twice")

    with pytest.raises(ValueError, match="twice"):
        dask.delayed(fail)().compute(
            scheduler=forced("threads"), rerun_exceptions_locally=True
        )
    assert len(threads) == 2
    assert threads[1] is threading.current_thread()


def _make_lock(x: int) -> object:
    return threading.Lock()


def test_unpicklable_result_moves_its_stage_to_the_caller() -> None:
    """The stage ends in the caller, all results are there, and the record says why."""
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        values = dask.compute(
            *[dask.delayed(_make_lock)(i) for i in range(5)], scheduler=scheduler
        )
        assert [type(value) for value in values] == [type(threading.Lock())] * 5
        assert scheduler.last_run is not None
        (stage,) = scheduler.last_run.stages
        assert stage.lanes == {"inline": 5}
        assert "cannot pickle '_thread.lock'" in scheduler.last_run.decisions[-1].reason


def test_unpicklable_function_moves_its_stage_to_the_caller() -> None:
    """A stage whose function holds a lock runs in the caller, others stay."""
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        graph = {("a", i): (locked, i) for i in range(4)}
        graph |= {("b", i): (inc, i) for i in range(4)}
        assert scheduler(graph, list(graph)) == (0, 1, 2, 3, 1, 2, 3, 4)
        lanes = {stage.name: stage.lanes for stage in scheduler.last_run.stages}
        assert lanes == {"a": {"inline": 4}, "b": {"processes": 4}}
        assert "lock" in str(scheduler.last_run)


class FailsToLoad:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("not here")


def test_result_that_fails_to_load_is_made_in_the_caller() -> None:
    """A result that can't be rebuilt is made again where it isn't pickled."""
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        value = dask.delayed(FailsToLoad)().compute(scheduler=scheduler)
        assert isinstance(value, FailsToLoad)
        assert "not here" in str(scheduler.last_run)


def test_argument_that_fails_to_load_keeps_its_task_in_the_caller() -> None:
    """A task whose argument can't be rebuilt in a worker runs in the caller."""
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        graph = {"x": (type, FailsToLoad())}
        assert scheduler(graph, "x") is FailsToLoad
        assert "not here" in str(scheduler.last_run)


def test_isolation_is_kept_where_a_task_cannot_be_sent() -> None:
    """With `isolate` such a task is an error, and is not run in the caller."""
    with AmorsizeScheduler(isolate=True) as scheduler:
        lock = threading.Lock()
        with pytest.raises(SerializationError, match="lock") as info:
            scheduler({"x": (id, lock)}, "x")
        assert info.value.key == "x"
        assert scheduler.last_run is not None
        assert not scheduler.last_run.n_tasks


def test_all_errors_survive_pickling() -> None:
    """Each error comes back with its message and its attributes."""
    for error in (
        AmorsizeError("text"),
        ArgumentError("max_workers", 0, "expected more"),
        LaneError("load", "no processes"),
        SerializationError(("x", 1), "result", "it is a lock"),
        MemoryBudgetError(("x", 1), "it took 3 GB"),
        ResultLostError(("x", 1), "/tmp/file", "no such file"),
        TaskTimeoutError(("x", 1), 0.5),
        WorkerLostError(("x", 1), "SIGKILL", 3, ("process 1", "process 2")),
    ):
        other = pickle.loads(pickle.dumps(error))
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.__dict__ == error.__dict__
