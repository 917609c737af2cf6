"""The machine as the core is told of it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from amorsize_dask.core.model import Costs
from amorsize_dask.measure import machine
from amorsize_dask.measure.costs import save_costs
from amorsize_dask.measure.machine import (
    FRESH_S,
    MARGIN_BYTES,
    STEADY_S,
    Remembered,
    count_margin,
    measure_machine,
)


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder without costs, which nobody has looked into."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    monkeypatch.setattr(machine, "_costs", Remembered(machine._read_costs))
    return tmp_path / "costs"


def set_limits(
    monkeypatch: pytest.MonkeyPatch, n_by_affinity: int, n_by_quota: int | None
) -> None:
    monkeypatch.setattr(machine, "_granted", Remembered(lambda: n_by_quota))
    monkeypatch.setattr(machine, "_left", Remembered(lambda: 5_000))
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda pid: set(range(n_by_affinity)), raising=False
    )


def test_this_machine_can_be_measured() -> None:
    """There are cores and memory here."""
    measured = measure_machine()
    assert 1 <= measured.n_physical_cores <= measured.n_cores <= (os.cpu_count() or 1)
    assert measured.memory_bytes > 0


@pytest.mark.parametrize(
    ("n_by_affinity", "n_by_quota", "n_cores"), [(8, None, 8), (8, 3, 3), (2, 3, 2)]
)
def test_cores_are_those_of_both_limits(
    monkeypatch: pytest.MonkeyPatch,
    n_by_affinity: int,
    n_by_quota: int | None,
    n_cores: int,
) -> None:
    """The smaller one of affinity and quota counts; memory is what was read."""
    set_limits(monkeypatch, n_by_affinity, n_by_quota)
    measured = measure_machine()
    assert measured.n_cores == n_cores
    assert measured.memory_bytes == 5_000


def test_affinity_is_never_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that binds itself to a core between two computes is on one core."""
    set_limits(monkeypatch, 8, None)
    assert measure_machine().n_cores == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    measured = measure_machine()
    assert (measured.n_cores, measured.n_physical_cores) == (1, 1)


def test_costs_given_are_the_ones_told(cache_folder: Path) -> None:
    """Costs that the caller has aren't looked for on disk."""
    save_costs(Costs(batch_s=1e-3))
    costs = Costs(batch_s=2e-3)
    assert measure_machine(costs).costs is costs


def test_costs_are_those_on_disk(cache_folder: Path) -> None:
    """Without costs given it is what an earlier process has measured."""
    costs = Costs(batch_s=1e-3, bytes_per_s=1e9)
    save_costs(costs)
    assert measure_machine().costs == costs


def test_costs_are_the_defaults_where_none_are_known(cache_folder: Path) -> None:
    """On a new machine the pessimistic defaults hold."""
    assert measure_machine().costs == Costs()
    assert not cache_folder.exists()


@pytest.mark.parametrize("fresh_s", [FRESH_S, STEADY_S])
def test_looks_only_when_what_it_saw_is_old(fresh_s: float) -> None:
    """Computes in a row share one look; a later one sees what has changed."""
    now, n_looks = 100.0, 0

    def look() -> int:
        nonlocal n_looks
        n_looks += 1
        return n_looks

    remembered = Remembered(look, clock=lambda: now, fresh_s=fresh_s)
    assert [remembered.get() for _ in range(100)] == [1] * 100
    now += 0.99 * fresh_s
    assert remembered.get() == 1
    now += 0.02 * fresh_s
    assert remembered.get() == 2
    assert n_looks == 2


@pytest.mark.parametrize(
    ("left_bytes", "margin_bytes"),
    [(600 * 10**6, 60 * 10**6), (64 * 10**9, MARGIN_BYTES), (1, 0)],
)
def test_what_a_run_does_not_take(left_bytes: int, margin_bytes: int) -> None:
    """It is for what doesn't grow with what there is, so there is a most of it."""
    assert count_margin(left_bytes) == margin_bytes
