"""What a run may take here, and what is in the way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import dask
import pytest
from click.testing import CliRunner

from amorsize_dask import ArgumentError, WorkerStartError, validate_system, validation
from amorsize_dask.__main__ import main
from amorsize_dask.core.model import Costs
from amorsize_dask.execute import spool_folder
from amorsize_dask.measure.costs import load_costs
from amorsize_dask.measure.load import CoreUse, Load
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.measure.memory import MemoryLimit
from amorsize_dask.validation import SystemValidation


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Return a monkeypatch on a machine on which nothing is amiss."""
    monkeypatch.setattr(validation, "find_core_limits", lambda: {"affinity": 4})
    monkeypatch.setattr(validation, "count_by_affinity", lambda: 4)
    monkeypatch.setattr(
        validation, "find_memory_limits", lambda: [MemoryLimit("system", 8 * 10**9)]
    )
    monkeypatch.setattr(validation.LoadWatch, "look", lambda watch: Load())
    monkeypatch.setattr(validation, "MIN_WINDOW_S", 0.0)
    monkeypatch.setattr(validation, "find_thread_hints", dict)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: Usage(10**9, 0, validation.SHARED_BYTES)
    )
    monkeypatch.setattr(validation, "load_costs", Costs)
    return monkeypatch


def test_it_agrees_with_what_runs_are_told() -> None:
    """Cores, memory and costs are those that the core decides with."""
    found = validate_system()
    machine = measure_machine()
    assert found.n_cores == machine.n_cores
    assert found.physical_cores == machine.n_physical_cores
    assert found.logical_cores >= found.n_cores
    assert found.memory_bytes == pytest.approx(machine.memory_bytes, rel=0.2)
    assert found.available_memory_gb == found.memory_bytes / 1e9
    assert found.core_limits[found.binding_cores] == found.n_cores
    assert found.binding_memory in {limit.name for limit in found.memory_limits}
    assert found.start_method in ("forkserver", "spawn")
    # A worker was started, and what that took was kept.
    assert found.costs == load_costs() != Costs()


def test_nothing_is_amiss(calm: pytest.MonkeyPatch) -> None:
    """Where all is well there is no warning, and the report has none."""
    found = validate_system()
    assert found.warnings == ()
    assert (found.n_cores, found.available_memory_gb) == (4, 8.0)
    assert "warning" not in str(found)
    assert "4 cores" in str(found)
    assert "8 GB of memory, by system" in str(found)


def shrink_memory(patch: pytest.MonkeyPatch) -> None:
    limits = [MemoryLimit("system", 8 * 10**9), MemoryLimit("cgroup /a", -5)]
    patch.setattr(validation, "find_memory_limits", lambda: limits)


def grant_fewer_cores(patch: pytest.MonkeyPatch) -> None:
    limits = {"affinity": 4, "cgroup quota": 1}
    patch.setattr(validation, "find_core_limits", lambda: limits)


def keep_busy(patch: pytest.MonkeyPatch) -> None:
    load = Load(cores=(CoreUse("cores", 4, 2.5), CoreUse("cgroup quota", 4, 1.5)))
    patch.setattr(validation.LoadWatch, "look", lambda watch: load)


def fill_shared_memory(patch: pytest.MonkeyPatch) -> None:
    usage = Usage(64_000_000, 0, 64_000_000)
    patch.setattr(shutil, "disk_usage", lambda folder: usage)


def forbid_shared_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(validation.os, "access", lambda path, mode: False)


def keep_no_costs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(validation, "load_costs", lambda: None)


def start_no_worker(patch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise WorkerStartError("no process can be started")

    patch.setattr(validation.AmorsizeScheduler, "__call__", refuse)


def have_no_processes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(validation, "has_processes", lambda: False)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (shrink_memory, "0 B of memory is not enough"),
        (grant_fewer_cores, "cgroup quota grants 1 of 4 cores"),
        (keep_busy, "others use 2.5 of 4 cores"),
        (fill_shared_memory, "room for 64 MB only"),
        (forbid_shared_memory, "can't be written"),
        (keep_no_costs, "costs can't be kept"),
        (start_no_worker, "no process can be started"),
        (have_no_processes, "no worker processes"),
    ],
)
def test_what_is_in_the_way(calm: pytest.MonkeyPatch, spoil: Any, text: str) -> None:
    """Each thing is one warning, also in the report, and no error."""
    if not spool_folder.SHARED_MEMORY.is_dir() and "shared" in spoil.__name__:
        pytest.skip("this system has no folder for shared memory")
    spoil(calm)
    found = validate_system()
    (warning,) = found.warnings
    if spoil is shrink_memory:
        assert found.memory_bytes == 1
        text = "1 B of memory is not enough"
    assert text in warning
    assert f"warning: {warning}" in str(found)


def test_no_start_method_where_there_are_no_workers(calm: pytest.MonkeyPatch) -> None:
    """Neither where the system has none nor where none can be started."""
    assert validate_system().start_method is not None
    start_no_worker(calm)
    assert validate_system().start_method is None
    have_no_processes(calm)
    assert validate_system().start_method is None


def test_thread_hints_are_heeded(calm: pytest.MonkeyPatch) -> None:
    """Who has set them needn't be told to."""
    grant_fewer_cores(calm)
    calm.setattr(validation, "find_thread_hints", lambda: {"OMP_NUM_THREADS": 1})
    found = validate_system()
    assert found.thread_hints == {"OMP_NUM_THREADS": 1}
    assert found.warnings == ()


def test_settings_that_make_no_sense() -> None:
    """They are the user's error, as they are for a scheduler."""
    with (
        dask.config.set({"amorsize.start-method": "fork"}),
        pytest.raises(ArgumentError, match="start-method"),
    ):
        validate_system()


def test_doctor_shows_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit, what binds, each cost, and each warning."""
    whole = validate_system()
    ill = replace(whole, warnings=("the [disk] is full",))
    for found, text in (
        (replace(whole, warnings=()), "Nothing is in the way"),
        (
            ill,
            "Warning: the [disk] is full.",
        ),
    ):

        def validate(found: SystemValidation = found) -> SystemValidation:
            return found

        monkeypatch.setattr("amorsize_dask.__main__.validate_system", validate)
        result = CliRunner().invoke(main, ["doctor"])
        assert result.exit_code == 0
        assert "affinity" in result.output
        assert "system" in result.output
        assert result.output.count("*") >= 2
        assert "first worker process" in result.output
        assert "physical cores" in result.output
        assert "used by others" in result.output
        assert text in result.output


@pytest.mark.parametrize("module", ["config", "validation"])
def test_modules_can_be_imported_first(module: str, tmp_path: Path) -> None:
    """Whether Dask has been imported before or not."""
    code = f"import amorsize_dask.{module}; from dask import config; " + (
        "assert config.get('amorsize.start-method') == 'auto'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)
