"""What tasks log and print in worker processes, as the caller gets it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from dask import delayed
from late_logging import say_late
from logging_tasks import (
    fail_aloud,
    say,
    say_and_die,
    say_in_fork,
    set_up,
    storm,
    wait_to_be_heard,
)

from amorsize_dask import AmorsizeScheduler, WorkerLostError

NAME = "tasks.of.tests"


class Kept(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self) -> set[str]:
        return {record.getMessage() for record in self.records}


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Return a handler of the root logger; what was set of loggers is undone."""
    loggers = [logging.getLogger(name) for name in ("tasks.of", NAME, "tasks.quiet")]
    handler = Kept()
    logging.root.addHandler(handler)
    yield handler
    logging.root.removeHandler(handler)
    for one in loggers:
        one.setLevel(logging.NOTSET)
        one.propagate, one.disabled = True, False


@pytest.fixture(params=["forkserver", "spawn"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[AmorsizeScheduler]:
    """Return one for two worker processes; it computes afterwards."""
    with dask.config.set({"amorsize.start-method": request.param}):
        made = AmorsizeScheduler(lanes=("processes",), max_workers=2)
    with made:
        yield made
        assert delayed(abs)(-1).compute(scheduler=made) == 1


def run_all(scheduler: AmorsizeScheduler, tasks: list[object]) -> tuple[object, ...]:
    found = dask.compute(*tasks, scheduler=scheduler)
    assert scheduler.last_run is not None
    assert set(scheduler.last_run.lanes) == {"processes"}
    return found


def test_records_are_treated_as_the_callers(
    kept: Kept, scheduler: AmorsizeScheduler
) -> None:
    """By its levels as they are when a run starts, with all that is said of where."""
    logging.getLogger("tasks.of").setLevel(logging.INFO)
    logging.getLogger("tasks.quiet").propagate = False
    pids = run_all(scheduler, [delayed(say)(i) for i in range(4)])
    expected = {f"{what} {i}" for what in ("info", "warning", "root") for i in range(4)}
    assert kept.texts() == expected
    for record in kept.records:
        assert record.process in pids
        assert record.process != os.getpid()
        assert record.module == "logging_tasks"
        assert record.funcName == "say"
    assert {r.name for r in kept.records} == {NAME, "root"}
    record = next(r for r in kept.records if r.levelno == logging.INFO)
    assert record.msg == "info %d"
    assert record.args
    # Another run, other levels.
    kept.records.clear()
    logging.getLogger("tasks.of").setLevel(logging.NOTSET)
    logging.getLogger(NAME).setLevel(logging.ERROR)
    run_all(scheduler, [delayed(say)(i) for i in range(4)])
    assert kept.texts() == {f"root {i}" for i in range(4)}


def test_logging_that_comes_in_the_midst_of_a_task(
    kept: Kept, scheduler: AmorsizeScheduler
) -> None:
    """Workers have none before; then it is as if it had been there, levels too."""
    logging.getLogger("tasks.of").setLevel(logging.INFO)
    found = run_all(scheduler, [delayed(say_late)(i) for i in range(4)])
    assert kept.texts() == {f"late {i}" for i in range(4)}
    # Each worker's first task was without it.
    assert 1 <= found.count(False) <= 2


def test_exceptions_survive(kept: Kept, scheduler: AmorsizeScheduler) -> None:
    """With their frames in the worker; as a text if they can't be sent."""
    run_all(scheduler, [delayed(fail_aloud)(7)])
    plain, stubborn = kept.records
    assert plain.exc_info
    assert isinstance(plain.exc_info[1], ValueError)
    assert stubborn.exc_info is None
    for record, text in ((plain, "plain 7"), (stubborn, "stubborn 7")):
        shown = logging.Formatter().format(record)
        assert text in shown
        assert 'logging_tasks.py", line' in shown
        assert vars(record)["item"] == 7
        assert vars(record)["about"] == {"i": 7}


def test_last_words(kept: Kept, scheduler: AmorsizeScheduler) -> None:
    """What a task says before it ends its worker isn't lost."""
    with pytest.raises(WorkerLostError):
        dask.compute(delayed(say_and_die)(5, os.getpid()), scheduler=scheduler)
    assert [r.getMessage() for r in kept.records] == ["last words 5"] * 3


def test_records_do_not_wait_for_the_end(
    kept: Kept, scheduler: AmorsizeScheduler, tmp_path: Path
) -> None:
    """They are there while the task goes on."""

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            (tmp_path / "heard").touch()

    handler = Telling()
    logging.getLogger(NAME).addHandler(handler)
    try:
        found = run_all(scheduler, [delayed(wait_to_be_heard)(0, f"{tmp_path}/heard")])
    finally:
        logging.getLogger(NAME).removeHandler(handler)
    assert found == (True,)


def test_a_storm_is_cut_short(kept: Kept, scheduler: AmorsizeScheduler) -> None:
    """It is counted what was left out, and nothing else is lost."""
    n = 20_000
    assert run_all(scheduler, [delayed(storm)(0, n), delayed(say)(1)])[0] == 0
    n_kept = sum(r.getMessage().startswith("storm") for r in kept.records)
    assert 1000 < n_kept < 2 * n
    n_left_out = sum(
        int(str(r.args[0]))
        for r in kept.records
        if "left out" in str(r.msg) and isinstance(r.args, tuple)
    )
    assert n_kept + n_left_out == 2 * n
    assert "root 1" in kept.texts()


def test_logging_that_a_task_sets_up(
    kept: Kept, scheduler: AmorsizeScheduler, capfd: pytest.CaptureFixture[str]
) -> None:
    """It has it its way, and nothing comes twice."""
    run_all(scheduler, [delayed(set_up)(3)])
    assert capfd.readouterr().err.count("own info 3") == 1
    assert not kept.records


def test_a_child_of_a_task(
    kept: Kept, scheduler: AmorsizeScheduler, capfd: pytest.CaptureFixture[str]
) -> None:
    """It doesn't write into its parent's pipe, but is heard."""
    assert run_all(scheduler, [delayed(say_in_fork)(i) for i in range(4)]) == (0,) * 4
    shown = capfd.readouterr().err
    assert all(f"of a child {i}" in shown for i in range(4))
    assert not kept.records


def test_what_is_printed_comes_through(
    kept: Kept, scheduler: AmorsizeScheduler, capfd: pytest.CaptureFixture[str]
) -> None:
    """It goes where the caller's own descriptors lead, each in its own."""
    run_all(scheduler, [delayed(say)(i) for i in range(4)])
    out, err = capfd.readouterr()
    assert sorted(out.split("\n")) == ["", *(f"printed {i}" for i in range(4))]
    assert all(f"complained {i}" in err for i in range(4))
