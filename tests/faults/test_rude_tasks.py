"""Tasks that change their process or start others: what the run sees of that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from dask import delayed
from rude import (
    ACTS,
    ENDINGS,
    LARGE,
    UnheardError,
    act_rudely,
    count_both,
    end_rudely,
    fail_without_files,
    go_elsewhere,
    kill_fork_server,
    nest_deeply,
    recurse,
    remove_spool,
    start_others,
)

from amorsize_dask import (
    AmorsizeScheduler,
    ResultLostError,
    TaskTimeoutError,
    WorkerLostError,
)

N_TASKS = 12

START_METHODS = ["forkserver", "spawn"]


@pytest.fixture(params=START_METHODS)
def scheduler(request: pytest.FixtureRequest) -> Iterator[AmorsizeScheduler]:
    """Return one for two worker processes; it computes afterwards."""
    with dask.config.set({"amorsize.start-method": request.param}):
        made = AmorsizeScheduler(lanes=("processes",), max_workers=2)
    with made:
        yield made
        again = [delayed(abs)(i) for i in range(N_TASKS)]
        assert dask.compute(*again, scheduler=made) == tuple(range(N_TASKS))


def lanes_of(scheduler: AmorsizeScheduler) -> set[str]:
    assert scheduler.last_run is not None
    return set(scheduler.last_run.lanes)


def test_failing_without_a_descriptor(scheduler: AmorsizeScheduler) -> None:
    """The exception arrives, though nothing can be imported to send it with."""
    with pytest.raises(UnheardError, match="7"):
        delayed(fail_without_files)(7).compute(scheduler=scheduler)


# -- what does no harm -----------------------------------------------------------------


@pytest.mark.parametrize("what", ACTS)
def test_a_task_that(what: str, scheduler: AmorsizeScheduler, tmp_path: Path) -> None:
    """All results come, from processes, also of later runs; closing ends workers."""
    for _ in range(2):
        tasks = [
            delayed(act_rudely)(i, what, str(tmp_path), os.getpid())
            for i in range(N_TASKS)
        ]
        found = dask.compute(*tasks, scheduler=scheduler)
        assert found == tuple(bytes([i]) * LARGE for i in range(N_TASKS))
        assert lanes_of(scheduler) == {"processes"}


def test_a_folder_is_left_for_the_next_batch(
    scheduler: AmorsizeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins in the caller's, whatever the one before did; so do spool files."""
    monkeypatch.chdir(tmp_path)
    # So that each task is a batch.
    tasks = [delayed(go_elsewhere)(i) for i in range(N_TASKS)]
    with (
        dask.config.set({"temporary-directory": "."}),
        AmorsizeScheduler(lanes=("processes",), max_workers=2, task_timeout=60) as one,
    ):
        found = dask.compute(*tasks, scheduler=one)
        large = [
            delayed(act_rudely)(i, "changes the folder", "", os.getpid())
            for i in range(N_TASKS)
        ]
        assert len(dask.compute(*large, scheduler=one)) == N_TASKS
    assert {folder for folder, _ in found} == {str(tmp_path)}
    assert len({pid for _, pid in found}) <= 2
    assert os.getcwd() == str(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("are_needed", [False, True], ids=["wanted", "needed"])
def test_spool_files_that_a_task_removes(
    scheduler: AmorsizeScheduler, *, are_needed: bool
) -> None:
    """With their folder, in the middle of a run, whoever is going to read them.

    What is lost is named, what comes later takes another way, and what was read stays.
    """
    tasks = [
        delayed(remove_spool)(i, os.getpid(), dask_key_name=f"task-{i}")
        for i in range(4 * N_TASKS)
    ]
    expected = tuple(bytes([i]) * LARGE for i in range(4 * N_TASKS))
    if are_needed:
        tasks = [
            delayed(count_both)(one, other)
            for one, other in zip(tasks, tasks[::-1], strict=True)
        ]
        expected = (2 * LARGE,) * (4 * N_TASKS)
    found: list[Any] = []
    lost: list[ResultLostError] = []
    try:
        found.extend(scheduler.stream(tasks))
    except ResultLostError as error:
        lost.append(error)
    assert tuple(found) == expected[: len(found)]
    assert lost or len(found) == len(expected)
    for error in lost:
        assert error.key.startswith("task-")
        assert not Path(error.path).exists()
    assert lanes_of(scheduler) <= {"inline", "processes"}


def test_recursion_without_end(scheduler: AmorsizeScheduler) -> None:
    """Its error arrives as itself."""
    tasks = [delayed(recurse)(i) for i in range(N_TASKS)]
    with pytest.raises(RecursionError, match="maximum recursion depth"):
        dask.compute(*tasks, scheduler=scheduler)


@pytest.mark.parametrize("lane", ["inline", "threads", "processes"])
def test_a_result_that_is_nested_deeply(lane: str) -> None:
    """It can be neither pickled nor measured, and is made in the caller."""
    tasks = [delayed(nest_deeply)(i) for i in range(N_TASKS)]
    with AmorsizeScheduler(lanes=(lane,)) as scheduler:
        found = dask.compute(*tasks, scheduler=scheduler)
    for i, value in enumerate(found):
        for _ in range(100_000):
            (value,) = value
        assert value == i


def test_a_fork_server_that_a_task_kills(scheduler: AmorsizeScheduler) -> None:
    """Its workers go on, and later ones come from another one."""
    tasks = [delayed(kill_fork_server)(i, os.getpid()) for i in range(N_TASKS)]
    assert dask.compute(*tasks, scheduler=scheduler) == tuple(range(N_TASKS))


# -- what costs the worker -------------------------------------------------------------


@pytest.mark.parametrize("what", ENDINGS)
def test_a_task_that_ends_its_worker(
    what: str, scheduler: AmorsizeScheduler, tmp_path: Path
) -> None:
    """The error says which it was and how that looked; no process is left."""
    tasks = [
        delayed(end_rudely)(
            i, what, str(tmp_path), os.getpid(), dask_key_name=f"task-{i}"
        )
        for i in range(N_TASKS)
    ]
    with pytest.raises(WorkerLostError, match=ENDINGS[what]) as caught:
        dask.compute(*tasks, scheduler=scheduler)
    (tmp_path / "over").touch()
    assert caught.value.key == "task-3"
    # One more where others were in its batch at first: it may have been any of them.
    assert caught.value.n_attempts in (3, 4)
    assert lanes_of(scheduler) == {"processes"}


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_worker_that_is_stopped(start_method: str) -> None:
    """A timeout ends it as it does one that hangs."""
    with dask.config.set({"amorsize.start-method": start_method}):
        scheduler = AmorsizeScheduler(lanes=("processes",), task_timeout=2)
    tasks = [delayed(end_rudely)(i, "is stopped", "", os.getpid()) for i in (2, 3)]
    with scheduler, pytest.raises(TaskTimeoutError):
        dask.compute(*tasks, scheduler=scheduler)


# -- processes of tasks ----------------------------------------------------------------


def test_processes_that_a_task_leaves(scheduler: AmorsizeScheduler) -> None:
    """They go on until their worker ends; those in a session of their own stay."""
    pids = delayed(start_others)().compute(scheduler=scheduler)
    ours, own = (psutil.Process(pid) for pid in pids)
    try:
        assert ours.is_running()
        assert own.is_running()
        scheduler.close()
        ours.wait(timeout=30)
        assert own.is_running()
        assert own.status() != psutil.STATUS_ZOMBIE
    finally:
        own.kill()
