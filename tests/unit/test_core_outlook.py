"""What is predicted when a tenth of a run is done, where it can be worked out."""

from __future__ import annotations

from typing import Any

import pytest
from simulated import bag, machine, staged

from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Lane, Limits
from amorsize_dask.core.outlook import EARLY_FRACTION, Outlook, Part
from amorsize_dask.simulate.machine import simulate
from amorsize_dask.simulate.work import SimulatedPartition, SimulatedTask

TASK = SimulatedTask(0.01)


def test_stages_of_a_lane_follow_each_other_and_lanes_do_not() -> None:
    parts = (
        Part(0, Lane.PROCESSES, 2.0),
        Part(1, Lane.PROCESSES, 3.0),
        Part(2, Lane.THREADS, 4.0),
    )
    times = [1.0, 2.0, 0.5]
    assert Outlook(parts, 1.0).end_s(times, 2.5) == 6.0
    assert Outlook(parts[2:], 2.0).end_s(times, 2.5) == 8.5


def test_nothing_ends_before_it_was_predicted() -> None:
    """What is done in the caller counts as what is left from then on."""
    inline = Part(None, Lane.INLINE, 2.0, 0.5)
    assert Outlook((inline,), 1.0).end_s([], 2.5) == 4.0
    assert Outlook((inline,), 2.0).end_s([], 2.5) == 6.0
    assert Outlook((Part(0, Lane.THREADS, 1.0),), 1.0).end_s([1.0], 2.5) == 2.5


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


def growing(n: int, n_parts: int, *, are_seen: bool) -> tuple[Graph, list[Any]]:
    """Return tasks of which the last takes as long as half of the others."""
    items = [
        SimulatedTask(1e-3 * 1.05**i, size=1.05**i if are_seen else 0.0)
        for i in range(n)
    ]
    size = n // n_parts
    parts = [SimulatedPartition(items[i : i + size]) for i in range(0, n, size)]
    graph = Graph(
        dependencies=[()] * n_parts,
        stage_of=[0] * n_parts,
        n_stages=2,
        wanted=frozenset(range(n_parts)),
        caller_stages=frozenset({1}),
        n_items=[size] * n_parts,
        rest_stage=1,
        sized_stages=frozenset({0}),
    )
    return graph, parts


@pytest.mark.parametrize("n_parts", [10, 100])
@pytest.mark.parametrize("n_cores", [1, 2, 8])
def test_sizes_tell_that_later_tasks_are_longer(n_parts: int, n_cores: int) -> None:
    """As files do that are sorted by size; without sizes the head tells of itself.

    So workers are there sooner, too.
    """
    seen, unseen = (
        simulate(*growing(100, n_parts, are_seen=are_seen), machine(n_cores))
        for are_seen in (True, False)
    )
    assert seen.early_predicted_s == pytest.approx(seen.makespan_s, rel=0.35)
    assert unseen.early_predicted_s is not None
    assert unseen.early_predicted_s < 0.6 * unseen.makespan_s
    assert seen.makespan_s < 1.01 * unseen.makespan_s
    if n_cores > 1 and n_parts == 100:
        assert seen.makespan_s < 0.9 * unseen.makespan_s


def test_sizes_that_tell_nothing_delay_nothing() -> None:
    """Items of all sizes that take as long as each other."""
    graph, _ = growing(100, 100, are_seen=True)
    tasks = [SimulatedTask(0.01, size=float(i)) for i in range(100)]
    run = simulate(graph, tasks, machine(1))
    assert run.early_predicted_s == pytest.approx(run.makespan_s, rel=0.05)
    assert run.early_at_s is not None
    assert run.early_at_s < 2.2 * EARLY_FRACTION * run.makespan_s
