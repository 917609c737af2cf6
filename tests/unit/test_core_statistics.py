"""What is known of a stage from what its tasks took."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amorsize_dask.core.experience import Experience
from amorsize_dask.core.fading import WINDOW
from amorsize_dask.core.model import Lane
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.stage import Stage
from amorsize_dask.core.statistics import FIRST_SPREAD, StageStatistics


def counted(*outcomes: Outcome, lane: Lane = Lane.INLINE) -> StageStatistics:
    """Return statistics of some outcomes of one lane."""
    statistics = StageStatistics()
    for outcome in outcomes:
        statistics.add([outcome], lane)
    return statistics


def test_nothing_is_known_at_first() -> None:
    """A stage of which no task has been seen is unknown."""
    statistics = StageStatistics()
    assert not statistics.is_known
    assert statistics.worked_s == 0


def test_means_are_plain_at_first() -> None:
    """Up to the window, a mean is a mean, and the spread is that of the tasks."""
    statistics = counted(*(Outcome(i, 0.1 * (1 + i % 3), 0.1) for i in range(30)))
    workload = statistics.workload(7)
    assert workload.n_tasks == 7
    assert workload.mean_s == pytest.approx(0.2)
    assert workload.std_s == pytest.approx(0.1 * (2 / 3) ** 0.5)
    assert workload.cpu_fraction == pytest.approx(0.5)


def test_means_forget() -> None:
    """A stage whose tail differs from its head is noticed."""
    statistics = counted(
        *(Outcome(i, 0.1) for i in range(1000)),
        *(Outcome(i, 1.0) for i in range(1000, 1000 + 3 * WINDOW)),
    )
    assert statistics.workload(1).mean_s > 0.9


def test_one_task_says_little_of_the_spread() -> None:
    """With one task seen, a spread is assumed."""
    workload = counted(Outcome(0, 0.2)).workload(1)
    assert workload.std_s == FIRST_SPREAD * 0.2


def test_gil_share_that_was_not_measured_is_the_cpu_share() -> None:
    """What isn't known of the GIL is taken to be bad; what is, to be the task's own."""
    statistics = counted(Outcome(0, 1.0, 0.6))
    assert statistics.workload(1).gil_fraction == pytest.approx(0.6)
    statistics.watch(0.25, 0.6)
    assert statistics.workload(1).gil_fraction == 0.25
    # A task can't hold it longer than it computes: others did.
    statistics.watch(0.9, 0.6)
    assert statistics.workload(1).gil_fraction == pytest.approx(0.6)


def test_packing_goes_with_what_tasks_take() -> None:
    """What was measured of short tasks is more for longer ones of the same stage."""
    statistics = counted(Outcome(0, 0.1))
    assert statistics.workload(1).pack_s == 0
    statistics.packing.add(0.02, 0.1, 1)
    assert statistics.workload(1).pack_s == pytest.approx(0.02)
    statistics.add([Outcome(1, 0.5)], Lane.INLINE)
    assert statistics.workload(1).pack_s == pytest.approx(0.06)
    # Two items that took 0.05 s each, and no time at all to pickle.
    statistics.packing.add(0.0, 0.1, 2)
    assert statistics.workload(1).pack_s == pytest.approx(0.3 * 0.02 / 0.2)
    seen = statistics.experience()
    assert seen is not None
    assert seen.pack_s == statistics.workload(1).pack_s
    later = StageStatistics()
    later.recall(seen)
    assert later.workload(1).pack_s == pytest.approx(seen.pack_s)
    # One more is one of many.
    later.packing.add(0.4, 0.4, 1)
    assert seen.pack_s < later.workload(1).pack_s < 5 * seen.pack_s
    later.restart(0.1, 0.1)
    assert later.workload(1).pack_s == 0


def test_threads_do_not_count_where_better_is_known() -> None:
    """Seconds in threads contain waiting for others."""
    statistics = counted(Outcome(0, 0.1, 0.1))
    statistics.watch(1.0, 1.0)
    statistics.add([Outcome(1, 5.0, 0.1)], Lane.THREADS)
    assert statistics.workload(1).mean_s == pytest.approx(0.1)
    assert statistics.n_finished == 2
    assert statistics.worked_s == pytest.approx(5.1)
    # Where nothing else is known, they do.
    assert counted(Outcome(0, 5.0), lane=Lane.THREADS).workload(1).mean_s == 5.0


def in_threads(statistics: StageStatistics, seconds: float, n_threads: int = 4) -> bool:
    outcomes = [Outcome(9, seconds, 0.1)]
    return statistics.add_shared(outcomes, 1, n_threads, 4)


def test_threads_that_hold_each_other_up() -> None:
    """What a watch has missed of the GIL shows once several threads want it."""
    statistics = counted(Outcome(0, 0.1, 0.1))
    statistics.watch(0.2, 1.0)
    assert in_threads(statistics, 0.4)
    workload = statistics.workload(1)
    # Four threads, and each takes four times as long: one second of work a second.
    assert workload.gil_fraction * (1 + workload.gil_handover) == pytest.approx(1.0)
    assert in_threads(statistics, 1.0)
    workload = statistics.workload(1)
    assert workload.gil_fraction == 1.0
    assert workload.gil_handover == pytest.approx(1.5)
    assert statistics.experience() is not None
    assert statistics.experience().gil_fraction == 1.0


def test_threads_that_do_not_hold_each_other_up() -> None:
    """A little slower is no reason, nor is one thread, nor are tasks that wait."""
    statistics = counted(Outcome(0, 0.1, 0.1))
    statistics.watch(0.2, 1.0)
    assert not in_threads(statistics, 0.12)
    assert not in_threads(statistics, 1.0, n_threads=1)
    assert statistics.workload(1).gil_fraction == 0.2
    waiting = counted(Outcome(0, 0.1, 0.01))
    waiting.watch(0.05, 0.1)
    assert not in_threads(waiting, 1.0)
    assert waiting.workload(1).gil_fraction == 0.05


def test_tasks_that_take_longer_by_themselves_were_not_held_up() -> None:
    """What one takes alone tells, also when it is seen later."""
    statistics = counted(Outcome(0, 0.1, 0.1))
    statistics.watch(0.2, 1.0)
    assert in_threads(statistics, 0.4)
    statistics.add([Outcome(i, 0.5, 0.5) for i in range(WINDOW)], Lane.INLINE)
    assert statistics.workload(1).gil_fraction == 0.2


def test_glimpse_counts_twice() -> None:
    """A task that has run for some time is expected to run as long again."""
    statistics = StageStatistics()
    statistics.add_glimpse(0.5, 0.25)
    assert statistics.is_known
    assert statistics.has_glimpse
    workload = statistics.workload(1)
    assert workload.mean_s == 1.0
    assert workload.cpu_fraction == 0.25
    statistics.end_glimpse()
    assert not statistics.is_known


def test_glimpse_is_one_among_those_that_have_finished() -> None:
    """One long task doesn't make a stage of short ones long."""
    statistics = counted(*(Outcome(i, 0.1, 0.1) for i in range(9)))
    statistics.add_glimpse(0.5, 1.0)
    assert statistics.workload(1).mean_s == pytest.approx((9 * 0.1 + 1.0) / 10)
    # One that is short so far says nothing.
    statistics.add_glimpse(0.01, 1.0)
    assert statistics.workload(1).mean_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("cpu_s", "crowded_s"),
    [
        # Others held the GIL for half of the time that it was watched, and so did it.
        (0.5, 0.5),
        # It got less of it later on: all of that was due to others.
        (0.1, 0.9),
        (1.0, 0.0),
    ],
)
def test_waiting_for_others_is_no_waiting(cpu_s: float, crowded_s: float) -> None:
    """A task that computes isn't one that waits, because it has to wait for others."""
    statistics = StageStatistics()
    statistics.watch(1.0, 0.5)
    statistics.add([Outcome(0, 1.0, cpu_s)], Lane.INLINE, is_crowded=True)
    assert statistics.workload(1).crowded_s == pytest.approx(crowded_s)
    # In a process of its own no one is in the way.
    for i in range(1, 200):
        statistics.add([Outcome(i, 1.0, cpu_s)], Lane.PROCESSES)
    assert statistics.workload(1).crowded_s == pytest.approx(0, abs=0.05)


def test_waiting_is_known_from_watching() -> None:
    """A task that waited while the GIL was free does so among others as well."""
    statistics = StageStatistics()
    statistics.watch(0.1, 0.1)
    statistics.add_glimpse(1.0, 0.1, is_crowded=True)
    assert statistics.workload(1).crowded_s == pytest.approx(0)
    statistics.add_glimpse(1.0, 0.05, is_crowded=True)
    assert statistics.workload(1).crowded_s == pytest.approx(2 * 0.5)
    # One that never computes can't be told from one that never could.
    idle = StageStatistics()
    idle.watch(0.0, 0.0)
    idle.add([Outcome(0, 1.0, 0.0)], Lane.INLINE, is_crowded=True)
    assert idle.workload(1).crowded_s == 0


# -- earlier runs ----------------------------------------------------------------------

SEEN = Experience(
    n_items=100,
    mean_s=0.1,
    std_s=0.01,
    cpu_fraction=1.0,
    gil_fraction=0.5,
    in_bytes=10.0,
    out_bytes=20.0,
    peak_bytes=30.0,
)


def recalled(seen: Experience = SEEN) -> StageStatistics:
    """Return statistics that rest on earlier runs alone."""
    statistics = StageStatistics()
    statistics.recall(seen)
    return statistics


def test_earlier_runs_are_believed_at_first() -> None:
    """All that they have shown is known, but nothing counts as done."""
    statistics = recalled()
    assert statistics.is_known
    assert statistics.is_recalled
    assert statistics.worked_s == statistics.n_finished == 0
    assert statistics.sizes.measured_bytes == 0
    workload = statistics.workload(3)
    assert (workload.mean_s, workload.std_s) == (0.1, pytest.approx(0.01))
    assert (workload.cpu_fraction, workload.gil_fraction) == (1.0, 0.5)
    assert (workload.in_bytes, workload.out_bytes) == (10.0, 20.0)
    assert workload.peak_bytes == 30.0
    assert statistics.experience() is None


def test_what_is_confirmed_is_kept() -> None:
    """An outcome that is alike moves the mean; sizes are those of this run."""
    statistics = recalled()
    statistics.add([Outcome(0, 0.2, 0.2, 5, 6)], Lane.INLINE)
    assert not statistics.is_recalled
    assert 0.1 < statistics.mean_s < 0.12
    assert (statistics.sizes.out_bytes, statistics.sizes.peak_bytes) == (5, 6)
    assert statistics.sizes.measured_bytes == 6


def test_an_uneven_stage_is_not_forgotten_for_a_short_task() -> None:
    """One that is as far from the mean as others were says nothing new."""
    uneven = replace(SEEN, std_s=SEEN.mean_s)
    for seconds in (0.001, 0.39):
        statistics = recalled(uneven)
        statistics.add_glimpse(seconds, 1.0)
        statistics.end_glimpse()
        statistics.add([Outcome(0, seconds, seconds)], Lane.INLINE)
        assert 0.09 < statistics.mean_s < 0.13
    statistics = recalled(uneven)
    statistics.add([Outcome(0, 0.41, 0.41)], Lane.INLINE)
    assert statistics.mean_s == 0.41
    # A mean of many is closer to theirs.
    statistics = recalled(uneven)
    statistics.add([Outcome(i, 0.01, 0.01) for i in range(16)], Lane.INLINE)
    assert statistics.mean_s == pytest.approx(0.01)


def test_items_of_one_task_may_be_alike() -> None:
    """Of sorted data the first ones are short, however many a task has of them."""
    statistics = recalled(replace(SEEN, std_s=SEEN.mean_s))
    statistics.add([Outcome(0, 0.1, 0.1)], Lane.PROCESSES, n_items=100)
    assert statistics.mean_s > 0.005


@pytest.mark.parametrize("n_items", [1, 20])
def test_threads_do_not_outweigh_earlier_runs(n_items: int) -> None:
    """What short tasks take there says no more of what is left than elsewhere."""
    statistics = recalled(replace(SEEN, std_s=SEEN.mean_s))
    statistics.add([Outcome(0, 0.01, 0.01)], Lane.THREADS, n_items=n_items)
    assert statistics.mean_s == SEEN.mean_s


@pytest.mark.parametrize("seconds", [0.001, 1.0])
def test_what_is_stale_is_forgotten(seconds: float) -> None:
    """But the code is the same, so it holds the GIL as it did."""
    statistics = recalled()
    statistics.add([Outcome(0, seconds, seconds)], Lane.INLINE)
    assert statistics.mean_s == seconds
    assert statistics.gil_fraction == 0.5


def test_a_long_task_makes_it_forgotten_before_it_ends() -> None:
    """A glimpse tells as well."""
    statistics = recalled()
    statistics.add_glimpse(0.2, 1.0)
    assert statistics.is_recalled
    statistics.add_glimpse(1.0, 1.0)
    assert not statistics.is_recalled
    assert statistics.mean_s == 2.0


@pytest.mark.parametrize(("cpu_s", "is_kept"), [(0.1, True), (0.9, False)])
def test_threads_are_judged_by_what_they_compute(cpu_s: float, is_kept: bool) -> None:
    """Their seconds contain waiting for the GIL."""
    statistics = recalled()
    statistics.add([Outcome(0, 1.0, cpu_s)], Lane.THREADS)
    assert statistics.mean_s == pytest.approx(0.1 if is_kept else 1.0)


@pytest.mark.parametrize(
    ("seconds", "crowded_s", "is_open"),
    [(0.002, 0.0015, True), (0.1, 0.0, True), (0.1, 0.0995, False)],
)
def test_what_waits_for_long_is_not_taken_to_lack_the_gil(
    seconds: float, crowded_s: float, is_open: bool
) -> None:
    """No one has watched it: short tasks mostly compute, long ones may do anything."""
    statistics = Stage(is_open=is_open).statistics
    statistics.add([Outcome(0, seconds, 0.0005)], Lane.THREADS, is_crowded=True)
    assert statistics.workload(1).crowded_s == pytest.approx(crowded_s)
    assert statistics.alone_s == pytest.approx(seconds - crowded_s)
    assert statistics.is_waiting == (not crowded_s)
    seen = statistics.experience()
    assert seen is not None
    assert seen.mean_s == pytest.approx(seconds - crowded_s)
    assert seen.cpu_fraction * seen.mean_s == pytest.approx(0.0005)


def test_how_uneven_tasks_are_is_seen_in_threads_if_nowhere_else() -> None:
    """One task alone says nothing of that, and the next run would take a guess."""
    statistics = StageStatistics()
    statistics.gil_fraction = 0.0
    statistics.add([Outcome(0, 0.1, 0.001)], Lane.INLINE)
    seen = statistics.experience()
    assert seen is not None
    assert seen.std_s == FIRST_SPREAD * seen.mean_s
    for i in range(20):
        outcomes = [Outcome(0, 0.1 + (-1) ** n * 0.01, 0.001) for n in (i, i + 1)]
        statistics.add(outcomes, Lane.THREADS)
    seen = statistics.experience()
    assert seen is not None
    assert seen.std_s == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("seconds", "cpu_s", "is_kept"),
    [(0.13, 0.03, True), (10.0, 1e-4, False), (0.001, 1e-4, False)],
)
def test_threads_that_wait_are_judged_by_how_long(
    seconds: float, cpu_s: float, is_kept: bool
) -> None:
    """The first one connects, or imports something: what it computes says little."""
    statistics = recalled(replace(SEEN, cpu_fraction=0.001, gil_fraction=0.0))
    statistics.add([Outcome(0, seconds, cpu_s)], Lane.THREADS)
    assert statistics.mean_s == pytest.approx(0.1 if is_kept else seconds)


def test_noise_of_microseconds_is_no_news() -> None:
    """What takes a microsecond takes ten now and then."""
    statistics = recalled(replace(SEEN, mean_s=1e-6, std_s=0.0))
    statistics.add([Outcome(0, 1e-5, 1e-5)], Lane.INLINE)
    assert statistics.mean_s < 3e-6


def test_a_later_run_is_told_what_this_one_has_seen() -> None:
    """Without what a task waited for others."""
    statistics = counted(*(Outcome(i, 0.1, 0.05, 7, 8) for i in range(5)))
    statistics.watch(0.25, 0.5)
    seen = statistics.experience()
    assert seen is not None
    assert (seen.n_items, seen.mean_s) == (5, pytest.approx(0.1))
    assert (seen.cpu_fraction, seen.gil_fraction) == (pytest.approx(0.5), 0.25)
    assert (seen.out_bytes, seen.peak_bytes) == (7, 8)
    assert StageStatistics().experience() is None


def test_the_first_task_may_compute_more_than_others() -> None:
    """It connects or imports; what it is in threads shows what others do."""
    statistics = counted(Outcome(0, 0.02, 0.008))
    statistics.watch(0.3, 0.4)
    assert statistics.cpu_fraction == pytest.approx(0.4)
    for task in range(1, 20):
        statistics.add([Outcome(task, 0.02, 0.0002)], Lane.THREADS)
    assert statistics.cpu_fraction == pytest.approx(0.01)
    assert statistics.workload(1).gil_fraction == pytest.approx(0.01)


def test_a_task_that_lacked_a_core_seems_to_compute() -> None:
    """If it doesn't hold the GIL, the next ones in threads tell that it waits."""
    statistics = counted(Outcome(0, 0.05, 0.03))
    statistics.watch(0.0, 0.6)
    for task in range(1, 20):
        statistics.add([Outcome(task, 0.02, 0.0002)], Lane.THREADS)
    assert statistics.cpu_fraction == pytest.approx(0.01)
    assert statistics.mean_s == pytest.approx(0.02)


def test_tasks_that_hold_the_gil_dont_seem_to_wait_in_threads() -> None:
    """What is missing of their time they have waited for the GIL."""
    statistics = counted(Outcome(0, 0.01, 0.01))
    statistics.watch(1.0, 1.0)
    for task in range(1, 20):
        statistics.add([Outcome(task, 0.04, 0.01)], Lane.THREADS)
    assert statistics.cpu_fraction == 1


def test_short_tasks_after_a_long_one_still_compute() -> None:
    """Shares are of their own time, not of the first one's."""
    statistics = counted(Outcome(0, 0.1, 0.1))
    statistics.watch(0.0, 1.0)
    for task in range(1, 20):
        statistics.add([Outcome(task, 0.001, 0.001)], Lane.THREADS)
    assert statistics.cpu_fraction == 1
