"""Tasks that raise are run again, and tasks that hang are ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.bag as db
import pytest
from dask import delayed
from hanging import count, hang_at

from amorsize_dask import (
    AmorsizeScheduler,
    ArgumentError,
    TaskTimeoutError,
    WorkerLostError,
)

Force = Callable[..., AmorsizeScheduler]

LANES = ["inline", "threads", "processes"]


class FlakyError(Exception):
    pass


def fail_at_first(x: int, folder: Path, n_times: int) -> int:
    n_calls = count(folder, x)
    if x % 5 == 3 and n_calls <= n_times:
        raise FlakyError(x)
    return 2 * x


def calls(folder: Path) -> dict[int, int]:
    return {int(path.name): path.stat().st_size for path in folder.iterdir()}


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("n_partitions", [20, 2])
def test_a_task_that_fails_at_first(
    lane: str, n_partitions: int, tmp_path: Path
) -> None:
    """It is run again, alone among all others, as often as was said."""
    bag = db.from_sequence(range(20), npartitions=n_partitions)
    mapped = bag.map(fail_at_first, folder=tmp_path, n_times=2)
    with AmorsizeScheduler(lanes=(lane,), retries=8) as scheduler:
        assert mapped.compute(scheduler=scheduler) == [2 * x for x in range(20)]
    if n_partitions == 20:
        expected = {x: 3 if x % 5 == 3 else 1 for x in range(20)}
        assert calls(tmp_path) == expected


@pytest.mark.parametrize("lane", LANES)
def test_a_task_that_fails_too_often(lane: str, tmp_path: Path) -> None:
    """Its last exception arrives as itself."""
    with AmorsizeScheduler(lanes=(lane,), retries=1) as scheduler:
        with pytest.raises(FlakyError) as caught:
            delayed(fail_at_first)(3, tmp_path, 2).compute(scheduler=scheduler)
        assert caught.value.args == (3,)
        assert calls(tmp_path) == {3: 2}
        assert delayed(str)(1).compute(scheduler=scheduler) == "1"


@pytest.mark.parametrize("lane", LANES)
def test_for_one_compute(lane: str, tmp_path: Path) -> None:
    """As with distributed, what `compute` is given counts for it."""
    with AmorsizeScheduler(lanes=(lane,)) as scheduler:
        once = delayed(fail_at_first)(3, tmp_path, 1)
        assert once.compute(scheduler=scheduler, retries=1) == 6
        with pytest.raises(FlakyError):
            delayed(fail_at_first)(8, tmp_path, 1).compute(scheduler=scheduler)


def test_an_exit_is_not_tried_again(tmp_path: Path) -> None:
    """What isn't an error of the task's ends the run at once."""

    def leave(x: int) -> None:
        count(tmp_path, x)
        raise KeyboardInterrupt

    with (
        AmorsizeScheduler(lanes=("inline",), retries=5) as scheduler,
        pytest.raises(KeyboardInterrupt),
    ):
        delayed(leave)(1).compute(scheduler=scheduler)
    assert calls(tmp_path) == {1: 1}


@pytest.mark.parametrize("wrong", [-1, 1.5, "2", True, None])
def test_retries_that_make_no_sense(wrong: Any) -> None:
    """They are refused before anything starts."""
    with pytest.raises(ArgumentError, match="retries"):
        AmorsizeScheduler(retries=wrong)
    with AmorsizeScheduler() as scheduler, pytest.raises(ArgumentError):
        delayed(str)(1).compute(scheduler=scheduler, retries=wrong)


# -- tasks that hang -------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 7])
def test_a_task_that_hangs(where: int, tmp_path: Path) -> None:
    """It is ended, and the error says which it was; the scheduler goes on."""
    bag = db.from_sequence(range(20), npartitions=20)
    mapped = bag.map(hang_at, where=where, folder=tmp_path, n_times=9)
    with AmorsizeScheduler(task_timeout=0.5) as scheduler:
        start = time.monotonic()
        with pytest.raises(TaskTimeoutError, match=r"0\.5 seconds") as caught:
            mapped.compute(scheduler=scheduler)
        assert time.monotonic() - start < 30
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.key[-1] == where
        assert delayed(str)(1).compute(scheduler=scheduler) == "1"


def test_a_task_that_hangs_once(tmp_path: Path) -> None:
    """With a retry it has another chance, in another process."""
    bag = db.from_sequence(range(20), npartitions=20)
    mapped = bag.map(hang_at, where=7, folder=tmp_path, n_times=1)
    with AmorsizeScheduler(task_timeout=0.5, retries=1) as scheduler:
        assert mapped.compute(scheduler=scheduler) == list(range(20))
    assert calls(tmp_path) == {7: 2}


def test_tasks_that_take_as_long_as_they_may() -> None:
    """Each has the time for itself, however many wait behind it."""
    naps = [delayed(time.sleep)(0.15) for _ in range(12)]
    with AmorsizeScheduler(task_timeout=0.6) as scheduler:
        dask.compute(*naps, scheduler=scheduler)
        assert scheduler.last_run is not None
        assert set(scheduler.last_run.lanes) == {"processes"}


@pytest.mark.parametrize("wrong", [0, -1, "soon", True])
def test_timeouts_that_make_no_sense(wrong: Any) -> None:
    """They are refused, as is one where no task can be ended."""
    with pytest.raises(ArgumentError, match="task_timeout"):
        AmorsizeScheduler(task_timeout=wrong)
    with pytest.raises(ArgumentError, match="worker processes"):
        AmorsizeScheduler(task_timeout=1, lanes=("inline", "threads"))


# -- tasks that kill -------------------------------------------------------------------


def test_the_story_of_lost_workers() -> None:
    """The error tells of each of them how it ended and what it took."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        AmorsizeScheduler(lanes=("processes",)) as scheduler,
        pytest.raises(WorkerLostError, match="last heard of") as caught,
    ):
        delayed(die)().compute(scheduler=scheduler)
    assert len(caught.value.story) == caught.value.n_attempts == 3
    assert all("SIGKILL" in line and "MB" in line for line in caught.value.story)
    assert len({line.split()[1] for line in caught.value.story}) == 3
