"""Stages of a pipeline go by the slowest of them, as far as it is kept busy."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from amorsize_dask.core.model import Lane, Placement
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.pacing import FIRST_WORKERS, SPARE, Pacing
from amorsize_dask.core.stage import Stage
from amorsize_dask.core.statistics import StageStatistics

INLINE, THREADS, PROCESSES, _ = Lane


def make_stage(
    lane: Lane,
    n_workers: int,
    seconds: float,
    cpu_s: float,
    *,
    n_left: int = 0,
    n_more: int = 1000,
    n_finished: int = 1,
) -> Stage:
    """Return a placed stage of which some items are through."""
    stage = Stage()
    outcomes = [Outcome(i, seconds, cpu_s) for i in range(n_finished)]
    stage.statistics.add(outcomes, lane)
    stage.n_left, stage.n_more = n_left, n_more
    stage.placement = Placement(
        lane=lane, n_workers=n_workers, n_most=n_workers, predicted=None, reason=""
    )
    return stage


def make_load(n_finished: int = 1) -> Stage:
    """Return a stage that waits 20 ms for each item, and could have 100 threads."""
    return make_stage(
        THREADS, 100, 0.02, 0.0001, n_left=1000, n_more=0, n_finished=n_finished
    )


def make_parse(n_left: int = 100) -> Stage:
    """Return a stage that computes 4 ms for each item, in two processes."""
    return make_stage(PROCESSES, 2, 0.004, 0.004, n_left=n_left, n_more=1000 - n_left)


def test_a_graph_that_is_closed_is_left_alone() -> None:
    """It says nothing of graphs whose stages needn't follow each other."""
    pacing = Pacing([make_load(), make_parse()], is_open=False)
    assert pacing.count_useful(0, 100) == 100
    assert pacing.least_batch_s(0) == 0
    assert not pacing.is_minor(1)


def test_the_slowest_stage_says_how_many_workers_are_of_use() -> None:
    """An item every 2 ms needs 10 threads that take 20 ms, and a few to spare."""
    pacing = Pacing([make_load(), make_parse()], is_open=True)
    assert pacing.count_useful(0, 100) == 10 * SPARE
    assert pacing.count_useful(1, 2) == 2


def test_no_more_than_there_could_be() -> None:
    """What the placement says stays the most."""
    pacing = Pacing([make_load(), make_parse()], is_open=True)
    assert pacing.count_useful(0, 3) == 3


def test_few_workers_until_the_later_stages_are_known() -> None:
    """The first item of a stage tells what those before it are needed for."""
    pacing = Pacing([make_load(), Stage()], is_open=True)
    assert pacing.count_useful(0, 100) == FIRST_WORKERS


def test_earlier_runs_tell_what_later_stages_have_a_use_for() -> None:
    """Then nothing need be through, as long as it is what it was."""
    load, parse = make_load(), make_parse(n_left=0)
    seen = parse.statistics.experience()
    assert seen is not None
    for stage in (load, parse):
        stage.statistics = StageStatistics()
    load.statistics.recall(replace(seen, mean_s=0.02, cpu_fraction=0.0))
    parse.statistics.recall(seen)
    pacing = Pacing([load, parse], is_open=True)
    assert pacing.count_useful(0, 100) == 10 * SPARE
    assert not pacing.is_minor(1)


def test_what_waits_for_long_is_begun_at_once() -> None:
    """Starting a hundred threads takes little of a second."""
    load = make_stage(THREADS, 100, 1.0, 0.001, n_left=100, n_more=0)
    assert Pacing([load, Stage()], is_open=True).count_useful(0, 100) == 100


def test_a_stage_that_nothing_comes_to_isnt_waited_for() -> None:
    """A filter before it may let nothing through, or its first item take long."""
    pacing = Pacing([make_load(n_finished=500), Stage()], is_open=True)
    assert pacing.count_useful(0, 100) == 100


def test_a_stage_that_gets_nothing_asks_for_more() -> None:
    """Where a filter lets little through the slow stage isn't the slow one."""
    pacing = Pacing([make_load(n_finished=500), make_parse(n_left=0)], is_open=True)
    assert pacing.count_useful(0, 100) == 100


def test_what_was_counted_holds_for_a_turn() -> None:
    """It is asked for each batch, and changes with what happens between turns."""
    parse = make_parse()
    pacing = Pacing([make_load(n_finished=500), parse], is_open=True)
    before = pacing.count_useful(0, 100)
    parse.n_left = 0
    assert pacing.count_useful(0, 100) == before
    pacing.begin_turn()
    assert pacing.count_useful(0, 100) == 100


def test_batches_are_long_while_later_stages_have_enough() -> None:
    """With 100 items of 4 ms for two workers no one misses the next for 0.1 s."""
    pacing = Pacing([make_load(), make_parse()], is_open=True)
    assert pacing.least_batch_s(0) == pytest.approx(0.1)
    assert pacing.least_batch_s(1) == 0


def test_batches_are_short_while_a_slower_stage_has_nothing_to_do() -> None:
    """It waits for the first item of each, and misses it the sooner the less it has."""
    pacing = Pacing([make_load(), make_parse(n_left=10)], is_open=True)
    assert pacing.most_batch_s(0) == pytest.approx(0.01)
    assert pacing.most_batch_s(1) == inf


def test_what_is_slowest_may_have_long_batches() -> None:
    """No later stage would be done any sooner."""
    load = make_stage(THREADS, 1, 0.02, 0.0001, n_left=1000)
    assert Pacing([load, make_parse()], is_open=True).most_batch_s(0) == inf
    assert Pacing([make_load(), make_parse()], is_open=False).most_batch_s(0) == inf


def test_little_beside_the_slowest_stage_is_minor() -> None:
    """The caller has time for it, and workers wouldn't have it."""
    write = make_stage(PROCESSES, 2, 0.0002, 0.0002)
    assert Pacing([make_load(), make_parse(), write], is_open=True).is_minor(2)


def test_what_the_caller_does_already_counts() -> None:
    """Many stages of which each is little are not."""
    writes = [make_stage(INLINE, 1, 0.0002, 0.0002) for _ in range(3)]
    assert not Pacing([make_load(), make_parse(), *writes], is_open=True).is_minor(4)


def test_waiting_is_never_minor() -> None:
    """The caller would wait with it."""
    send = make_stage(THREADS, 8, 0.0002, 0.00001)
    assert not Pacing([make_load(), make_parse(), send], is_open=True).is_minor(2)


@pytest.mark.parametrize(("seconds", "is_minor"), [(0.001, True), (0.004, False)])
def test_what_lacks_the_gil_is_minor_if_it_keeps_pace(
    seconds: float, is_minor: bool
) -> None:
    """It computes 0.1 ms, and what else it does no one can tell beside busy threads."""
    write = make_stage(INLINE, 1, 0.0001, 0.0001)
    write.statistics = StageStatistics()
    write.statistics.add([Outcome(0, seconds, 0.0001)], INLINE, is_crowded=True)
    pacing = Pacing([make_load(), make_parse(), write], is_open=True)
    assert pacing.is_minor(2) == is_minor


def test_the_slowest_stage_is_not_minor() -> None:
    """Nor is one of which nothing is known."""
    pacing = Pacing([make_load(), make_parse(), Stage()], is_open=True)
    assert not pacing.is_minor(1)
    assert not pacing.is_minor(2)
