"""Until when workers have time, on a clock of its own."""

from __future__ import annotations

import pytest

from amorsize_dask.execute import deadlines
from amorsize_dask.execute.deadlines import LOADING_S, Deadlines


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(deadlines, "perf_counter", lambda: self.now_s)


def test_time_counts_from_when_a_task_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it takes to import what the task needs is given beside."""
    clock = Clock(monkeypatch)
    times = Deadlines(2.0)
    assert times.seconds_left() is None
    times.begin(7)
    assert times.seconds_left() == LOADING_S + 2
    clock.now_s += LOADING_S
    times.note_loaded(7)
    clock.now_s += 1.5
    assert times.seconds_left() == 0.5
    assert times.take_late() == []
    clock.now_s += 0.5
    assert times.seconds_left() == 0
    assert times.take_late() == [7]
    assert times.take_late() == []
    assert times.seconds_left() is None
    assert times.is_late(7)


def test_each_worker_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to end counts; one that has ended has none."""
    clock = Clock(monkeypatch)
    times = Deadlines(2.0)
    for number in (1, 2):
        times.begin(number)
        times.note_loaded(number)
        clock.now_s += 1
    assert times.seconds_left() == 0
    times.end(1)
    assert times.seconds_left() == 1
    times.note_loaded(1)
    assert times.seconds_left() == 1
    assert not times.is_late(1)


def test_without_a_timeout() -> None:
    """No one is ever late."""
    times = Deadlines(None)
    times.begin(1)
    times.note_loaded(1)
    assert times.seconds_left() is None
    assert times.take_late() == []
