"""A program's second run begins with what its first has shown."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import dask
import pytest
from click.testing import CliRunner
from dask import delayed
from remembering_programs import run_program

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.__main__ import main
from amorsize_dask.execute import recollection
from amorsize_dask.measure.history import History


def run(folder: Path, *arguments: object, **environment: str) -> list[str]:
    """Run the program; return what it has printed."""
    lines = run_program("remembering_runs.py", folder, *arguments, **environment)
    assert all(line.startswith("True ") for line in lines)
    return lines


def expected_ms(line: str) -> float:
    """Return what a task was expected to take by earlier runs, in milliseconds."""
    found = re.search(r"by earlier runs, \d+ tasks of ([\d.]+) ms", line)
    assert found is not None, line
    return float(found[1])


def is_known(folder: Path) -> bool:
    return any((folder / "amorsize" / "history").glob("*.json"))


def test_second_run_begins_with_what_the_first_has_shown(tmp_path: Path) -> None:
    """It is placed before a task has run, and then as well as in the first."""
    (first,) = run(tmp_path, 0.02, 20)
    assert "by earlier runs" not in first
    (second,) = run(tmp_path, 0.02, 20)
    assert "by earlier runs" in second
    assert expected_ms(second) >= 20


def test_within_a_process_too(tmp_path: Path) -> None:
    first, second = run(tmp_path, 0.02, 10, 2)
    assert "by earlier runs" not in first
    assert "by earlier runs" in second


def test_other_data_is_noticed(tmp_path: Path) -> None:
    """What was known is wrong: results are right, and the next run knows better."""
    run(tmp_path, 0.001, 60)
    (stale,) = run(tmp_path, 0.05, 60)
    assert expected_ms(stale) < 20
    (fresh,) = run(tmp_path, 0.05, 60)
    assert expected_ms(fresh) > 40


def test_switched_off(tmp_path: Path) -> None:
    """Nothing is looked up and nothing is kept."""
    for _ in range(2):
        (line,) = run(tmp_path, 0.02, 20, DASK_AMORSIZE__HISTORY="False")
        assert "by earlier runs" not in line
    assert not is_known(tmp_path)


def test_listed_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command line."""
    run(tmp_path, 0.02, 20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("amorsize_dask.__main__.shared", History())
    invoke = CliRunner(env={"COLUMNS": "120"}).invoke
    assert "spin" in invoke(main, ["history"]).output
    assert "Forgotten: 1 stages" in invoke(main, ["history", "--clear"]).output
    assert not is_known(tmp_path)
    assert "Nothing is known" in invoke(main, ["history"]).output


@pytest.fixture
def remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """Remember runs of this process, apart from all others."""
    history = History(tmp_path)
    monkeypatch.setattr(recollection, "shared", history)
    return history


def fail(x: Any) -> Any:
    raise ValueError(x)


def test_a_run_that_fails_teaches_nothing(remembering: History) -> None:
    with AmorsizeScheduler() as scheduler, dask.config.set({"amorsize.history": True}):
        with pytest.raises(ValueError, match="1"):
            delayed(fail)(1).compute(scheduler=scheduler)
        assert not remembering.entries()
        delayed(abs)(1).compute(scheduler=scheduler)
        assert len(remembering.entries()) == 1


def wait_and_spin(_: int) -> None:
    """Take 2 ms of the GIL."""
    end = time.perf_counter() + 0.002
    while time.perf_counter() < end:
        pass


def test_many_runs_are_worth_what_none_is() -> None:
    """Runs too short to boot workers for: after some of them, they are booted."""
    with AmorsizeScheduler(lanes=("inline", "processes")) as scheduler:
        n_runs_in_caller = 0
        for _ in range(40):
            calls = [delayed(wait_and_spin)(i) for i in range(40)]
            dask.compute(*calls, scheduler=scheduler)
            record = scheduler.last_run
            assert record is not None
            if "processes" in record.lanes:
                break
            n_runs_in_caller += 1
        assert 1 <= n_runs_in_caller < 40
