"""Where it breaks, how, and what comes of it.

After each the same scheduler computes again, and nothing is left behind: that is looked
at after every test. Each cell is a test below; in those without one it can't break:

=================== ========== ========== ========== ========== ==============
where               raises     exits      is killed  hangs      fills the disk
=================== ========== ========== ========== ========== ==============
pickling a task     caller     (1)        (1)        (1)        pipe
unpickling it       caller     lost       lost       timeout    pipe
running             as itself  lost       lost       timeout    as itself
pickling a result   caller     lost       lost       timeout    pipe
unpickling it       caller     (1)        (1)        (1)        (2)
spooling            pipe       lost       lost       timeout    pipe
between batches     (3)        no matter  no matter  no matter  pipe
at boot             caller     caller     caller     caller     (2)
=================== ========== ========== ========== ========== ==============

"caller": it is done there. "pipe": results come through it. "lost" is
`WorkerLostError`, "timeout" `TaskTimeoutError`.

1. That is the user's code in the caller itself, which ends or hangs the program as it
   would without a scheduler.
2. Nothing is written there.
3. What raises in a thread between tasks is printed; see ``test_rude_tasks``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from dask import delayed
from troubles import (
    Arriving,
    Departing,
    Elsewhere,
    Stubborn,
    TroubleError,
    fill_up,
    go_wrong_in_writing,
    go_wrong_later,
    make,
    run,
    take,
    write_too_much,
)

from amorsize_dask import (
    AmorsizeScheduler,
    ResultLostError,
    SerializationError,
    TaskTimeoutError,
    WorkerLostError,
)
from amorsize_dask.execute import spool, spool_folder

N_TASKS = 8

#: Seconds that a task may take where tasks hang.
TIMEOUT_S = 1.0

#: What a dead or hung worker comes to, wherever it happens.
ENDINGS = {
    "exits": (WorkerLostError, "exit code 3"),
    "killed": (WorkerLostError, "SIGKILL"),
    "hangs": (TaskTimeoutError, "took longer than 1 seconds"),
}


@pytest.fixture
def scheduler(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AmorsizeScheduler]:
    """Return one for processes, that ends tasks which hang; it computes afterwards."""
    how = getattr(request, "param", "")
    monkeypatch.setattr("amorsize_dask.execute.deadlines.LOADING_S", TIMEOUT_S)
    timeout = TIMEOUT_S if how == "hangs" else None
    with AmorsizeScheduler(lanes=("processes",), task_timeout=timeout) as made:
        yield made
        again = [delayed(take)(i, None) for i in range(N_TASKS)]
        assert dask.compute(*again, scheduler=made) == tuple(range(N_TASKS))


def with_scheduler(*hows: str) -> Any:
    return pytest.mark.parametrize(
        ("scheduler", "how"), [(how, how) for how in hows], indirect=["scheduler"]
    )


def expect_end(scheduler: AmorsizeScheduler, tasks: list[Any], how: str) -> None:
    kind, text = ENDINGS[how]
    with pytest.raises(kind, match=text):
        dask.compute(*tasks, scheduler=scheduler)


# -- a task on its way -----------------------------------------------------------------


def test_pickling_a_task_raises(scheduler: AmorsizeScheduler) -> None:
    """It runs in the caller, with the others of its stage."""
    value = Stubborn()
    tasks = [delayed(take, pure=False)(i, delayed(value)) for i in range(N_TASKS)]
    assert dask.compute(*tasks, scheduler=scheduler) == tuple(range(N_TASKS))
    assert scheduler.last_run is not None
    assert scheduler.last_run.lanes["inline"].n_tasks == N_TASKS


def test_pickling_a_task_raises_and_the_caller_is_barred() -> None:
    """Then that is the error."""
    tasks = [delayed(take, pure=False)(i, delayed(Stubborn())) for i in range(N_TASKS)]
    with (
        AmorsizeScheduler(lanes=("processes",), isolate=True) as scheduler,
        pytest.raises(SerializationError, match="it stays"),
    ):
        dask.compute(*tasks, scheduler=scheduler)


def test_unpickling_a_task_raises(scheduler: AmorsizeScheduler) -> None:
    """It runs in the caller, where it needn't be unpickled."""
    value = delayed(Elsewhere("raises"))
    tasks = [delayed(take, pure=False)(i, value) for i in range(N_TASKS)]
    assert dask.compute(*tasks, scheduler=scheduler) == tuple(range(N_TASKS))


@with_scheduler("exits", "killed", "hangs")
def test_unpickling_a_task(scheduler: AmorsizeScheduler, how: str) -> None:
    """It isn't tried in the caller, which it could end as well."""
    value = delayed(Elsewhere(how))
    tasks = [delayed(take, pure=False)(i, value) for i in range(N_TASKS)]
    expect_end(scheduler, tasks, how)


# -- a task that runs ------------------------------------------------------------------


def test_running_raises(scheduler: AmorsizeScheduler) -> None:
    """The exception arrives as itself."""
    tasks = [delayed(run)(i, "raises") for i in range(N_TASKS)]
    with pytest.raises(TroubleError):
        dask.compute(*tasks, scheduler=scheduler)


@with_scheduler("exits", "killed", "hangs")
def test_running(scheduler: AmorsizeScheduler, how: str) -> None:
    """The error names the task that did it."""
    tasks = [delayed(run)(i, how, dask_key_name=f"task-{i}") for i in range(N_TASKS)]
    kind, text = ENDINGS[how]
    with pytest.raises(kind, match=text) as caught:
        dask.compute(*tasks, scheduler=scheduler)
    assert caught.value.key == "task-3"


# -- a result on its way ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [Departing, Arriving])
def test_a_result_that_raises_on_its_way(
    scheduler: AmorsizeScheduler, kind: type
) -> None:
    """Where it is pickled or unpickled: it is made in the caller, and stays there."""
    tasks = [delayed(make)(i, kind, "raises", os.getpid()) for i in range(N_TASKS)]
    found = dask.compute(*tasks, scheduler=scheduler)
    assert isinstance(found[3], kind)
    assert [*found[:3], *found[4:]] == [0, 1, 2, 4, 5, 6, 7]


@with_scheduler("exits", "killed", "hangs")
def test_pickling_a_result(scheduler: AmorsizeScheduler, how: str) -> None:
    """As if the task had done it."""
    tasks = [delayed(make)(i, Departing, how, os.getpid()) for i in range(N_TASKS)]
    expect_end(scheduler, tasks, how)


# -- between tasks ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exits", "killed", "hangs"])
def test_between_batches(scheduler: AmorsizeScheduler, how: str) -> None:
    """A worker that ends with nothing to do, or something else, costs no result."""
    tasks = [delayed(go_wrong_later)(i, how, os.getpid()) for i in range(4 * N_TASKS)]
    found = dask.compute(*tasks, scheduler=scheduler)
    assert found == tuple(range(4 * N_TASKS))


# -- at boot ---------------------------------------------------------------------------

BOOTS = {
    "raises": "import no_such_module",
    "exits": "import os; os._exit(3)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "hangs": "import time; time.sleep(600)",
}


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.parametrize("how", BOOTS)
def test_at_boot(how: str, start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller does the work; once workers get up they are used again."""
    tasks = [delayed(take)(i, None) for i in range(N_TASKS)]
    with dask.config.set({"amorsize.start-method": start_method}):
        scheduler = AmorsizeScheduler(lanes=("processes",))
    with scheduler:
        with monkeypatch.context() as patch:
            # Without the braces of the program that it takes the place of.
            patch.setattr("amorsize_dask.execute.launch._BOOT", BOOTS[how])
            patch.setattr("amorsize_dask.execute.processes.BOOT_TIMEOUT_S", 0.2)
            assert dask.compute(*tasks, scheduler=scheduler) == tuple(range(N_TASKS))
            assert scheduler.last_run is not None
            assert set(scheduler.last_run.lanes) == {"inline"}
            scheduler.close()
        assert dask.compute(*tasks, scheduler=scheduler) == tuple(range(N_TASKS))
        assert set(scheduler.last_run.lanes) == {"processes"}


# -- files -----------------------------------------------------------------------------


@with_scheduler("exits", "killed", "hangs")
def test_spooling(scheduler: AmorsizeScheduler, how: str) -> None:
    """While a worker writes a large result; what it has written is removed."""
    tasks = [delayed(go_wrong_in_writing)(i, how, os.getpid()) for i in range(N_TASKS)]
    expect_end(scheduler, tasks, how)


def test_running_fills_the_disk(scheduler: AmorsizeScheduler) -> None:
    """An error of the task's own arrives as itself."""
    tasks = [delayed(write_too_much)(i, os.getpid()) for i in range(N_TASKS)]
    with pytest.raises(OSError, match="File too large"):
        dask.compute(*tasks, scheduler=scheduler)


@pytest.mark.parametrize("limit", ["auto", "2 MB"])
def test_spooling_where_nothing_can_be_written(
    scheduler: AmorsizeScheduler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    """Results come through the pipe, and stay in memory."""
    monkeypatch.setattr(spool_folder, "SHARED_MEMORY", tmp_path / "nowhere")
    tasks = [delayed(fill_up)(i) for i in range(N_TASKS)]
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "nowhere")}),
        AmorsizeScheduler(lanes=("processes",), memory_limit=limit) as limited,
    ):
        found = dask.compute(*tasks, scheduler=limited)
    assert found == tuple(fill_up(i) for i in range(N_TASKS))


def test_spool_files_that_someone_removes(
    scheduler: AmorsizeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says which result it was, and where."""
    monkeypatch.setattr(spool_folder, "SHARED_MEMORY", tmp_path / "nowhere")
    read = spool.read

    def read_and_remove(spooled: spool.Spooled) -> Any:
        os.unlink(spooled.path)
        return read(spooled)

    with dask.config.set({"temporary-directory": str(tmp_path)}):
        tasks = [delayed(fill_up)(i) for i in range(N_TASKS)]
        monkeypatch.setattr("amorsize_dask.execute.store.read_parts", read_and_remove)
        with pytest.raises(ResultLostError, match="temporary-directory"):
            dask.compute(*tasks, scheduler=scheduler)
        monkeypatch.undo()
