"""What a sample shows of moving tasks like it."""

from __future__ import annotations

from typing import Any

import pytest
from worker_tasks import SlowToPickle

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.events import SIDE, BatchDone, Immovable
from amorsize_dask.core.graph import Graph, GraphState
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.sizing import SIZE_S, STAGE_SIZE_S, Sizing
from amorsize_dask.execute.store import Store


def make_sizing(n_tasks: int, argument: Any = 3) -> Sizing:
    """Return what measures a stage of so many tasks that all need one argument."""
    graph = Graph(
        dependencies=[()] * n_tasks,
        stage_of=[0] * n_tasks,
        n_stages=1,
        wanted=frozenset(range(n_tasks)),
    )
    tasks = TaskGraph(
        graph=graph,
        keys=list(range(n_tasks)),
        nodes=[_run] * n_tasks,
        arguments=[("x",)] * n_tasks,
        constants={"x": argument},
        aliases={},
        stages=["task"],
    )
    budget = Budget(GraphState(graph), 10**9, may_spill_wanted=True)
    return Sizing(tasks, Store(tasks), budget, load_bytes_per_s=1e6)


def _run(values: Any) -> None:
    raise AssertionError("it has run")


def sample(sizing: Sizing, seconds: float, value: Any = None) -> BatchDone:
    """Return what is reported of a first task that took so long."""
    done = BatchDone(SIDE, [Outcome(0, seconds)])
    assert sizing.measure_sample(done, BatchResult(done.outcomes, [value])) == []
    return done


@pytest.mark.parametrize(
    ("argument", "value", "least_s"),
    [
        (3, None, 0.0),
        (SlowToPickle(), None, 0.02),
        (3, SlowToPickle(), 0.02),
        (SlowToPickle(), SlowToPickle(), 0.04),
        # To load them, at the speed below.
        (3, bytes(1_000_000), 1.0),
        (bytes(1_000_000), bytes(1_000_000), 2.0),
    ],
)
def test_bytes_and_seconds_of_pickling(
    argument: Any, value: Any, least_s: float
) -> None:
    """Both of the arguments and of the result; each stage is measured once."""
    sizing = make_sizing(1, argument)
    done = sample(sizing, SIZE_S, value)
    assert done.pack_s is not None
    assert done.pack_s > least_s
    assert done.in_bytes > 0
    assert done.outcomes[0].out_bytes
    assert sample(sizing, SIZE_S, value).pack_s is None


def test_short_tasks_count_together() -> None:
    """A sample that takes no time is measured if there are many like it."""
    seconds = SIZE_S / 10
    n = round(STAGE_SIZE_S / seconds)
    assert sample(make_sizing(n - 1), seconds).pack_s is None
    assert sample(make_sizing(n + 1), seconds).pack_s is not None


def test_what_cannot_be_pickled() -> None:
    """A task with such a result can't be moved."""
    done = BatchDone(SIDE, [Outcome(0, SIZE_S)])
    result = BatchResult(done.outcomes, [(i for i in range(3))])
    [event] = make_sizing(1).measure_sample(done, result)
    assert isinstance(event, Immovable)
    assert done.pack_s is None
