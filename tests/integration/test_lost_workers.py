"""Workers that die: their own tasks are tried again, all others are not touched."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dask
import dask.bag as db
import psutil
import pytest
from dask.utils_test import inc

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.errors import LaneError, WorkerLostError
from amorsize_dask.execute.pool import live_processes

Force = Callable[[str], AmorsizeScheduler]


def die_by(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))


def die_at_three(x: int, how: str, folder: Path, n_times: int) -> int:
    """Die the first times that this is called with 3; count them on disk."""
    with (folder / f"{x}").open("a") as file:
        file.write("!")
    if x == 3 and (folder / "3").stat().st_size <= n_times:
        die_by(how)
    return x


def _count_calls(folder: Path) -> dict[int, int]:
    return {int(path.name): path.stat().st_size for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["exit", "SIGKILL", "SIGSEGV"])
@pytest.mark.parametrize("n_times", [1, 2])
def test_task_is_tried_again(
    forced: Force, tmp_path: Path, how: str, n_times: int
) -> None:
    """A task whose worker dies once or twice is run again and gives its result."""
    bag = db.from_sequence(range(20), npartitions=20)
    mapped = bag.map(die_at_three, how=how, folder=tmp_path, n_times=n_times)
    assert mapped.compute(scheduler=forced("processes")) == list(range(20))
    calls = _count_calls(tmp_path)
    assert calls[3] == n_times + 1
    assert forced("processes").last_run.lanes["processes"].n_tasks == 20


@pytest.mark.parametrize(
    ("how", "ending"),
    [("exit", "exit code 3"), ("SIGKILL", "SIGKILL"), ("SIGSEGV", "SIGSEGV")],
)
def test_task_that_always_kills(tmp_path: Path, how: str, ending: str) -> None:
    """After three workers the run ends with an error that names task and ending."""
    bag = db.from_sequence(range(6), npartitions=6)
    mapped = bag.map(die_at_three, how=how, folder=tmp_path, n_times=100)
    # Each task is a batch then: one that is lost with others isn't held against it.
    with AmorsizeScheduler(lanes=("processes",), task_timeout=60) as scheduler:
        with pytest.raises(WorkerLostError, match=ending) as info:
            mapped.compute(scheduler=scheduler)
        assert info.value.n_attempts == 3
        assert info.value.ending == ending
        assert info.value.key[1] == 3
        assert _count_calls(tmp_path)[3] == 3
        assert dask.delayed(inc)(1).compute(scheduler=scheduler) == 2


def test_a_stream_hands_over_what_was_made(forced: Force, tmp_path: Path) -> None:
    """Before the error, and each value once."""
    values = [
        dask.delayed(die_at_three)(i, "SIGKILL", tmp_path, 100) for i in range(20)
    ]
    found = []
    stream = forced("processes").stream(values, ordered=False)
    with pytest.raises(WorkerLostError):
        found.extend(stream)
    assert len(found) == len(set(found)) >= 2
    assert set(found) < set(range(20))
    assert 3 not in found
    assert list(stream) == []


def test_worker_killed_while_idle() -> None:
    """Workers that die between two computes are replaced."""
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        bag = db.from_sequence(range(10), npartitions=10).map(inc)
        for _ in range(3):
            assert bag.compute(scheduler=scheduler) == list(range(1, 11))
            for pid in live_processes():
                # The fork server takes its workers with it.
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()


def test_workers_that_die_at_boot_close_the_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no worker gets up, the caller does the work, and the record says why."""
    monkeypatch.setattr(
        "amorsize_dask.execute.launch.get_executable", lambda: "/bin/false"
    )
    bag = db.from_sequence(range(10), npartitions=10).map(inc)
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        assert bag.compute(scheduler=scheduler) == list(range(1, 11))
        # Whether it is seen at the first word to it or at its end is a race.
        reason = scheduler.last_run.decisions[-1].reason
        assert "workers end at boot" in reason or "can't be started" in reason
    with AmorsizeScheduler(isolate=True) as scheduler, pytest.raises(LaneError):
        bag.compute(scheduler=scheduler)


def test_interpreter_that_is_missing_closes_the_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If nothing can be started, the caller does the work, and the record says why."""
    monkeypatch.setattr(
        "amorsize_dask.execute.launch.get_executable", lambda: "/no/such/python"
    )
    bag = db.from_sequence(range(10), npartitions=10).map(inc)
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        assert bag.compute(scheduler=scheduler) == list(range(1, 11))
        assert "/no/such/python" in str(scheduler.last_run)
