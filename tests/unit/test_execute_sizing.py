"""What results take is measured where it matters, as objects and as pickles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from amorsize_dask.core.budget import LARGE_BYTES, Budget
from amorsize_dask.core.events import BatchDone
from amorsize_dask.core.graph import Graph, GraphState
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.sizing import Sizing
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.wire import dump
from amorsize_dask.measure.size import measure_held

N_PARTS = 6
MB = 10**6


def node(values: Any) -> Any:
    return values


#: Pairs that share a text: as objects several times as large as their pickle.
RICH = [(i, "x" * 50) for i in range(10_000)]


class Run:
    """A value, 0, of which parts are taken, and what measures them."""

    def __init__(self, limit_bytes: int) -> None:
        n_tasks = 1 + N_PARTS
        graph = Graph(
            dependencies=[(), *[(0,)] * N_PARTS],
            stage_of=[0] + [1] * N_PARTS,
            n_stages=2,
            wanted=frozenset(range(1, n_tasks)),
        )
        self.tasks = TaskGraph(
            graph=graph,
            keys=list(range(n_tasks)),
            nodes=[node] * n_tasks,
            arguments=[(), *[(0,)] * N_PARTS],
            constants={},
            aliases={},
            stages=["whole", "part"],
        )
        self.state = GraphState(graph)
        self.budget = Budget(self.state, limit_bytes, may_spill_wanted=True)
        self.store = Store(self.tasks)
        self.sizing = Sizing(self.tasks, self.store, self.budget)

    def make_whole(self, value: Any) -> Outcome:
        self.state.finish(self.state.take(0, 1))
        (outcome,) = outcomes = [Outcome(0, 0.1, 0.1)]
        self.sizing.measure_results(BatchResult(outcomes, [value]))
        self.budget.hold(0, outcomes, 0.0)
        (outcome,) = outcomes
        return outcome


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run(20 * MB)
    yield made
    made.store.close()


@pytest.mark.parametrize(("limit_bytes", "is_short"), [(MB, True), (10**12, False)])
def test_parts_of_which_the_first_is_empty(limit_bytes: int, is_short: bool) -> None:
    """Where memory is short that doesn't speak for the others."""
    run = Run(limit_bytes)
    run.make_whole(RICH)
    values = [{}, *([RICH] * (N_PARTS - 1))]
    outcomes = [Outcome(1 + i, 1e-6) for i in range(N_PARTS)]
    run.sizing.measure_results(BatchResult(outcomes, values))
    sizes = [outcome.held_bytes for outcome in outcomes]
    assert sizes[0] is not None
    assert sizes[0] < 100
    if is_short:
        assert all(size is not None and size > LARGE_BYTES for size in sizes[1:])
    else:
        assert sizes[1:] == [None] * (N_PARTS - 1)


def test_a_sample_tells_what_its_result_takes_here_and_on_the_way(run: Run) -> None:
    """One in the other's place would be wrong by several times."""
    outcome = run.make_whole(RICH)
    assert outcome.out_bytes is None
    done = BatchDone(-1, [outcome])
    assert run.sizing.measure_sample(done, BatchResult([outcome], [RICH])) == []
    (sampled,) = done.outcomes
    assert sampled.held_bytes == pytest.approx(measure_held(RICH), rel=0.1)
    assert sampled.out_bytes is not None
    assert 4 * sampled.out_bytes < sampled.held_bytes


@pytest.mark.parametrize("is_sampled", [True, False])
def test_objects_in_files_take_more_once_they_are_loaded(
    run: Run, is_sampled: bool
) -> None:
    """Which a sample has shown, or one of them that is loaded for it."""
    value = [(i, "x" * 50) for i in range(40_000)]
    spooled = run.store.open_place().write(dump(value))
    assert spooled is not None
    if is_sampled:
        outcome = run.make_whole(RICH)
        run.sizing.measure_sample(
            BatchDone(-1, [outcome]), BatchResult([outcome], [RICH])
        )
    else:
        run.budget.begin(2, 2 * MB)  # memory is short
    outcomes = [Outcome(0, 0.1, 0.1, spooled.n_bytes)]
    run.sizing.measure_received(outcomes, [spooled])
    (received,) = outcomes
    assert received.loaded_bytes == pytest.approx(measure_held(value), rel=0.3)
    assert received.kept_bytes == spooled.n_bytes
    assert received.object_bytes == received.loaded_bytes


def test_arrays_in_files_take_no_more_once_they_are_mapped(run: Run) -> None:
    """Their data stay where they are."""
    run.budget.begin(2, 2 * MB)
    spooled = run.store.open_place().write(dump(np.zeros(200_000)))
    assert spooled is not None
    outcomes = [Outcome(0, 0.1, 0.1, spooled.n_bytes)]
    run.sizing.measure_received(outcomes, [spooled])
    (received,) = outcomes
    assert received.loaded_bytes is not None
    assert received.loaded_bytes < LARGE_BYTES
    assert received.object_bytes == spooled.n_bytes


def test_results_that_came_by_themselves(run: Run) -> None:
    """They are objects here; the largest tells how many times as large as pickles."""
    outcomes = [
        Outcome(1, 0.1, 0.1, len(dump(RICH)[0])),
        Outcome(2, 0.1, 0.1, len(dump(RICH[:5000])[0])),
        Outcome(3, 0.1, 0.1, 10),
    ]
    run.sizing.measure_received(outcomes, [RICH, RICH[:5000], 1])
    held = [outcome.held_bytes for outcome in outcomes]
    assert held[0] == pytest.approx(measure_held(RICH), rel=0.1)
    assert held[1] == pytest.approx(measure_held(RICH[:5000]), rel=0.1)
    assert held[2] is None
