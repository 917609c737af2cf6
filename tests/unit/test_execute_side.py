"""Glimpses of a batch that is still running."""

from __future__ import annotations

from typing import Any

import pytest

from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute import side
from amorsize_dask.execute.side import GLIMPSE_S, SideWatch
from amorsize_dask.measure.gil import WATCH_INTERVAL_S


class Thread:
    """Stands for the side thread, with the computing that tests want it to do."""

    def __init__(self) -> None:
        self.cpu_s: float | None = 5.0
        self.delay_s = 3.0

    def read_use_s(self) -> tuple[float, float] | None:
        return None if self.cpu_s is None else (self.cpu_s, self.delay_s)


class Clocks:
    """The clocks that a watch reads, as tests set them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.thread: Any = Thread()


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(side, "perf_counter", lambda: clocks.now)
    return clocks


def test_nothing_to_see_without_a_batch(clocks: Clocks) -> None:
    """Before the first batch and after its end there is no glimpse and no timer."""
    watch = SideWatch()
    for _ in range(2):
        assert watch.glimpse() is None
        assert watch.timeout_s() is None
        assert not watch.is_watching
        watch.begin(clocks.thread, watched=True)
        watch.end([])
        clocks.now += 10


def test_first_glimpse_is_due_after_a_while(clocks: Clocks) -> None:
    """It isn't given before its time, and the timer counts down to that."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=False)
    assert watch.timeout_s() == pytest.approx(GLIMPSE_S)
    clocks.now += GLIMPSE_S / 2
    assert watch.timeout_s() == pytest.approx(GLIMPSE_S / 2)
    assert watch.glimpse() is None
    clocks.now += GLIMPSE_S
    assert watch.timeout_s() == 0
    glimpse = watch.glimpse()
    assert glimpse is not None
    assert glimpse.seconds == pytest.approx(1.5 * GLIMPSE_S)


def test_later_glimpses_are_ever_rarer(clocks: Clocks) -> None:
    """The next one is due when the batch has taken twice as long."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=False)
    clocks.now += 2 * GLIMPSE_S
    assert watch.glimpse() is not None
    assert watch.glimpse() is None
    assert watch.timeout_s() == pytest.approx(2 * GLIMPSE_S)
    clocks.now += 1.9 * GLIMPSE_S
    assert watch.glimpse() is None
    clocks.now += 0.2 * GLIMPSE_S
    glimpse = watch.glimpse()
    assert glimpse is not None
    assert glimpse.seconds == pytest.approx(4.1 * GLIMPSE_S)


def test_next_batch_starts_anew(clocks: Clocks) -> None:
    """Neither time nor GIL share of the batch before count for the next."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=True)
    for _ in range(100):
        watch.note_sleep(10 * WATCH_INTERVAL_S)
    clocks.now += 5 * GLIMPSE_S
    assert watch.glimpse() is not None
    assert watch.end([Outcome(0, 5 * GLIMPSE_S)]) is not None
    watch.begin(clocks.thread, watched=True)
    assert watch.timeout_s() == pytest.approx(GLIMPSE_S)
    assert watch.end([]) is None


@pytest.mark.parametrize(
    ("cpu_s", "expected"), [(5.0, 0.0), (5.0 + GLIMPSE_S, 0.5), (9.0, 1.0), (None, 1.0)]
)
def test_cpu_share(clocks: Clocks, cpu_s: float | None, expected: float) -> None:
    """CPU seconds since the start over wall seconds; without a clock it computes."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=True)
    clocks.now += 2 * GLIMPSE_S
    clocks.thread.cpu_s = cpu_s
    glimpse = watch.glimpse()
    assert glimpse is not None
    assert glimpse.cpu_fraction == pytest.approx(expected)


@pytest.mark.parametrize(("use", "expected"), [(0.01, 0.1), (0.1, 1.0), (0.2, 1.0)])
def test_cpu_share_where_others_have_the_cores(
    clocks: Clocks, use: float, expected: float
) -> None:
    """That of the time with a core: a task that sleeps waits for one when it wakes."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=True)
    clocks.now += 1.0
    clocks.thread.cpu_s += use
    clocks.thread.delay_s += 0.9
    glimpse = watch.glimpse()
    assert glimpse is not None
    assert glimpse.cpu_fraction == pytest.approx(expected)


def test_thread_without_a_clock_at_the_start(clocks: Clocks) -> None:
    """If the CPU seconds at the start aren't known nothing is computed from them."""
    clocks.thread.cpu_s = None
    watch = SideWatch()
    watch.begin(clocks.thread, watched=True)
    clocks.now += 2 * GLIMPSE_S
    clocks.thread.cpu_s = 5.0
    glimpse = watch.glimpse()
    assert glimpse is not None
    assert glimpse.cpu_fraction == 1.0


@pytest.mark.parametrize("watched", [True, False])
def test_outcomes_stay_as_they_were_measured(clocks: Clocks, watched: bool) -> None:
    """What the thread does between tasks, such as waking up, is no part of them."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=watched)
    clocks.now += 10.0  # the loop was busy and noticed late
    clocks.thread.cpu_s += 2.0
    outcomes = [Outcome(7, 1.0, 0.1), Outcome(8, 3.0, 0.1)]
    watch.end(outcomes)
    assert outcomes == [Outcome(7, 1.0, 0.1), Outcome(8, 3.0, 0.1)]


def test_gil_share(clocks: Clocks) -> None:
    """Sleeps that are late tell of a GIL that is held, those in time of a free one."""
    shares = []
    for took_s in (WATCH_INTERVAL_S, 10 * WATCH_INTERVAL_S):
        watch = SideWatch()
        watch.begin(clocks.thread, watched=True)
        for _ in range(100):
            watch.note_sleep(took_s)
        clocks.now += 2 * GLIMPSE_S
        glimpse = watch.glimpse()
        assert glimpse is not None
        assert glimpse.gil_fraction == watch.end([Outcome(0, glimpse.seconds)])
        shares.append(glimpse.gil_fraction)
    assert shares[0] == 0.0
    assert shares[1] is not None
    assert shares[1] > 0.8


def test_sleep_that_was_cut_short_does_not_count(clocks: Clocks) -> None:
    """A sleep that something ended early says nothing of the GIL."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=True)
    for _ in range(1000):
        watch.note_sleep(WATCH_INTERVAL_S / 2)
    assert watch.end([]) is None


def test_gil_share_of_an_unwatched_batch(clocks: Clocks) -> None:
    """It isn't known, also in a glimpse."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=False)
    for _ in range(100):
        watch.note_sleep(10 * WATCH_INTERVAL_S)
    clocks.now += 2 * GLIMPSE_S
    glimpse = watch.glimpse()
    assert glimpse is not None
    assert glimpse.gil_fraction is None
    assert watch.end([]) is None


def test_short_sleeps_until_the_first_glimpse(clocks: Clocks) -> None:
    """The loop sleeps in short steps for a watched batch, not for ever."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=False)
    assert not watch.is_watching
    watch.begin(clocks.thread, watched=True)
    assert watch.is_watching
    clocks.now += 2 * GLIMPSE_S
    assert watch.glimpse() is not None
    assert not watch.is_watching


def test_a_batch_that_is_over_at_once_tells_nothing(clocks: Clocks) -> None:
    """A sleep that was late all the same has met something else."""
    watch = SideWatch()
    watch.begin(clocks.thread, watched=True)
    watch.note_sleep(20 * WATCH_INTERVAL_S)
    clocks.now += 20 * WATCH_INTERVAL_S
    assert watch.end([Outcome(0, 1e-5)]) is None
