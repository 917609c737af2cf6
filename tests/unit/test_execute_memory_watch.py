"""When a run looks again at what is left of memory."""

from __future__ import annotations

from simulated import staged

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.events import CallerGrown, MemoryLeft
from amorsize_dask.core.graph import GraphState
from amorsize_dask.execute.memory_watch import LOOK_S, MemoryWatch


class Clock:
    """A clock that is set by hand, and memory that shrinks with each look."""

    def __init__(self) -> None:
        self.now_s = 10.0
        self.left_bytes = 1000

    def read(self) -> float:
        return self.now_s

    def look(self) -> int:
        self.left_bytes -= 100
        return self.left_bytes


def make(*, is_on: bool, grown_bytes: int = 0) -> tuple[Clock, Budget, MemoryWatch]:
    clock = Clock()
    budget = Budget(GraphState(staged([0])), 1000, may_spill_wanted=True)
    watch = MemoryWatch(
        budget,
        margin_bytes=50 if is_on else None,
        measure_growth=lambda: grown_bytes,
        look=clock.look,
        clock=clock.read,
    )
    return clock, budget, watch


def test_looks_no_oftener_than_said() -> None:
    """Neither at the start, nor again before the time is over."""
    clock, _, watch = make(is_on=True)
    assert watch.take() == []
    clock.now_s += 1.01 * LOOK_S
    assert watch.take() == [MemoryLeft(850)]
    assert watch.take() == []
    clock.now_s += 0.9 * LOOK_S
    assert watch.take() == []
    clock.now_s += 10 * LOOK_S
    assert watch.take() == [MemoryLeft(750)]
    assert clock.left_bytes == 800


def test_looks_later_if_it_cannot_look_now() -> None:
    """A caller that may open no more files isn't ended by the look."""
    clock = Clock()
    budget = Budget(GraphState(staged([0])), 1000, may_spill_wanted=True)
    looks = iter([OSError(24, "Too many open files"), 700])

    def look() -> int:
        found = next(looks)
        if isinstance(found, OSError):
            raise found
        return found

    watch = MemoryWatch(
        budget,
        margin_bytes=50,
        measure_growth=lambda: 0,
        look=look,
        clock=clock.read,
    )
    clock.now_s += 1.01 * LOOK_S
    assert watch.take() == []
    assert watch.take() == []
    clock.now_s += 1.01 * LOOK_S
    assert watch.take() == [MemoryLeft(650)]


def test_wakes_only_for_what_may_come_back() -> None:
    """While nothing is missing there is no need to look between two events."""
    clock, budget, watch = make(is_on=True)
    assert watch.seconds_left() is None
    budget.note_left(300)
    assert watch.seconds_left() == LOOK_S
    clock.now_s += 3 * LOOK_S
    assert watch.seconds_left() == 0
    budget.note_left(1000)
    assert watch.seconds_left() is None


def test_a_limit_of_the_users_stays() -> None:
    """Then nobody looks at all."""
    clock, budget, watch = make(is_on=False)
    clock.now_s += 10 * LOOK_S
    budget.note_left(1)
    assert watch.take() == []
    assert watch.seconds_left() is None
    assert clock.left_bytes == 1000


def test_what_the_caller_keeps_is_looked_at_until_it_is_gone() -> None:
    """Also with a limit of the user's, and also if only others have tasks."""
    clock, budget, watch = make(is_on=False, grown_bytes=70)
    budget.note_caller_growth(200)
    assert watch.seconds_left() == LOOK_S
    clock.now_s += 2 * LOOK_S
    assert watch.take() == [CallerGrown(70)]
    assert watch.take() == []
    budget.note_caller_growth(0)
    assert watch.seconds_left() is None
    # It may have taken more meanwhile.
    clock.now_s += 2 * LOOK_S
    assert watch.take() == [CallerGrown(70)]
