"""What is predicted when a tenth of a run is done, where it can be worked out."""

from __future__ import annotations

import pytest
from simulated import bag, machine, staged

from amorsize_dask.core.model import Lane, Limits
from amorsize_dask.core.outlook import EARLY_FRACTION, Outlook, Part
from amorsize_dask.simulate.machine import simulate
from amorsize_dask.simulate.work import SimulatedTask

TASK = SimulatedTask(0.01)


def test_stages_of_a_lane_follow_each_other_and_lanes_do_not() -> None:
    parts = (
        Part(0, Lane.PROCESSES, 2.0),
        Part(1, Lane.PROCESSES, 3.0),
        Part(2, Lane.THREADS, 4.0),
    )
    assert Outlook(parts, 1.0).end_s([1.0, 2.0, 0.5]) == 6.0
    assert Outlook(parts[2:], 2.0).end_s([1.0, 2.0, 0.5]) == 8.5


@pytest.mark.parametrize("lane", [Lane.INLINE, Lane.THREADS, Lane.PROCESSES])
def test_even_tasks_are_predicted_in_each_lane(lane: Lane) -> None:
    """Also in one that was forced, where nothing was predicted before."""
    task = TASK._replace(gil_fraction=0.0)
    run = simulate(bag(500), [task] * 500, machine(4), Limits(lanes=(lane,)))
    assert run.early_predicted_s == pytest.approx(run.makespan_s, rel=0.1)
    assert run.early_at_s is not None
    assert run.early_at_s < 0.4 * run.makespan_s


def test_first_tasks_that_are_short_mislead_it_less() -> None:
    """A first prediction rests on one task, this one on a tenth of the work."""
    seconds = [0.002] * 8 + [0.01] * 400
    run = simulate(bag(408), list(map(SimulatedTask, seconds)), machine(4))
    first = run.decisions[0].placement.predicted
    assert first is not None
    assert first.makespan_s < run.makespan_s / 2
    assert run.early_predicted_s == pytest.approx(run.makespan_s, rel=0.15)


def test_later_stages_are_taken_to_be_like_earlier_ones() -> None:
    """They aren't known yet when a tenth of all is done."""
    n = 200
    dependencies = [()] * n + [(i,) for i in range(n)]
    graph = staged([0] * n + [1] * n, dependencies)
    lanes = Limits(lanes=(Lane.INLINE,))
    run = simulate(graph, [TASK] * 2 * n, machine(1), lanes)
    assert run.early_predicted_s == pytest.approx(run.makespan_s, rel=0.05)


@pytest.mark.parametrize("n", [10, 100, 3000])
def test_it_is_made_once_a_tenth_is_done(n: int) -> None:
    """Soon after, however many tasks there are."""
    run = simulate(bag(n), [TASK] * n, machine(1), Limits(lanes=(Lane.INLINE,)))
    assert run.early_at_s is not None
    done = run.early_at_s / run.makespan_s
    assert 0.99 * EARLY_FRACTION <= done < 2.2 * EARLY_FRACTION
