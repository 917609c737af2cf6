"""A pipeline's second run begins with what its first has shown."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import dask
import pytest
from pipeline_functions import (
    Adder,
    add_one,
    add_up,
    count_down,
    double,
    fail_on_seven,
    nap,
    spin_for,
    wait_for,
)
from remembering_programs import run_program

from amorsize_dask import AmorsizeScheduler, Pipeline, Stage
from amorsize_dask.execute import recollection
from amorsize_dask.execute.record import RunRecord
from amorsize_dask.measure.history import History
from amorsize_dask.pipeline import pipeline as module

EARLIER = "by earlier runs"


def decide(folder: Path, n_items: int, **environment: str) -> list[str]:
    """Run the program in a process of its own; return what was decided first."""
    name = "remembered_pipeline_runs.py"
    is_right, *decisions = run_program(name, folder, n_items, **environment)
    assert is_right == "True"
    return decisions


def test_a_second_run_begins_with_a_plan(tmp_path: Path) -> None:
    """All stages are known again: objects, lambdas and partials, under any name."""
    first = decide(tmp_path, 100)
    assert not any(EARLIER in decision for decision in first)
    second = decide(tmp_path, 100)
    assert all(EARLIER in decision for decision in second)
    assert second[0].startswith("threads ")


def test_switched_off(tmp_path: Path) -> None:
    """Nothing is looked up and nothing is kept."""
    for _ in range(2):
        decisions = decide(tmp_path, 20, DASK_AMORSIZE__HISTORY="False")
        assert not any(EARLIER in decision for decision in decisions)
    assert not any((tmp_path / "amorsize" / "history").glob("*"))


@pytest.fixture
def remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    """Remember runs of this process, apart from all others."""
    history = History(tmp_path)
    monkeypatch.setattr(recollection, "shared", history)
    with dask.config.set({"amorsize.history": True}):
        yield history


def run(
    stages: list[Any], source: Any, **arguments: Any
) -> tuple[list[Any], RunRecord]:
    """Run a pipeline with workers of its own; return the results and the record."""
    with AmorsizeScheduler(**arguments) as scheduler:
        results = list(Pipeline(stages, scheduler=scheduler).run(source))
        assert scheduler.last_run is not None
        return results, scheduler.last_run


def count_known(history: History) -> dict[str, int]:
    """Return how many items stages are known to have had, by name."""
    found = history.entries().values()
    return {entry.name: entry.experience.n_items for entry in found}


def reasons(record: RunRecord) -> list[str]:
    """Return why each stage was placed where it was, at first."""
    firsts = {d.stage: d.reason for d in reversed(record.decisions)}
    return list(firsts.values())


def test_stages_are_known_by_what_comes_before_them(remembering: History) -> None:
    """And by how they are called; instances are known by their classes."""
    run([double, Adder(1)], range(20))
    _, same = run([Stage(double, name="twice"), Adder(2)], range(20))
    assert all(EARLIER in reason for reason in reasons(same))
    _, other = run([add_one, Adder(1)], range(20))
    assert not any(EARLIER in reason for reason in reasons(other))
    _, batched = run([double, Stage(add_up, batch=4)], range(20))
    assert sum(EARLIER in reason for reason in reasons(batched)) == 1


def test_a_run_that_is_left_has_shown_something(remembering: History) -> None:
    """But not how many items there are, if that was known."""
    with AmorsizeScheduler() as scheduler:
        pipeline = Pipeline([nap, double], scheduler=scheduler)
        assert list(islice(pipeline.run(iter(range(1000))), 5)) == [0, 2, 4, 6, 8]
        known = count_known(remembering)
        assert known.keys() == {"nap", "double"}
        assert all(5 <= n < 1000 for n in known.values())
        list(pipeline.run(iter(range(200))))
        assert count_known(remembering) == {"nap": 200, "double": 200}
        next(pipeline.run(iter(range(200))))
        assert count_known(remembering) == {"nap": 200, "double": 200}


def test_the_parts_of_a_long_run_are_one(
    remembering: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TASKS", 25)
    stages = [Stage(count_down, flatten=True), Stage(add_up, batch=3)]
    run(stages, iter(range(100)))
    known = count_known(remembering)
    assert known["count_down"] == 100
    assert known["add_up"] >= 150 / 3


def test_a_run_that_fails_teaches_nothing(remembering: History) -> None:
    """Unless it is the source that does: what came before has gone through."""
    with pytest.raises(ValueError, match="seven"):
        run([fail_on_seven], range(20))
    assert not remembering.entries()

    def fail_later() -> Iterator[int]:
        yield from range(20)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        run([double], fail_later())
    assert count_known(remembering) == {"double": 20}


@pytest.mark.parametrize(("before", "now"), [(5e-4, 5e-2), (5e-2, 5e-4)])
@pytest.mark.parametrize("function", [wait_for, spin_for])
@pytest.mark.parametrize("lanes", [None, ("threads",), ("processes",)])
def test_what_has_become_another_is_noticed(
    remembering: History, function: Any, lanes: Any, before: float, now: float
) -> None:
    """A hundred times as long, or as short: results are right, and so is what is kept.

    The stage after it is what it was.
    """
    run([function, Adder(1)], [before] * 12, lanes=lanes)
    results, record = run([function, Adder(1)], [now] * 12, lanes=lanes)
    assert results == [now + 1] * 12
    if lanes is None:
        assert EARLIER in reasons(record)[0]
    (seen,) = [
        entry.experience
        for entry in remembering.entries().values()
        if entry.name == function.__name__
    ]
    # On a busy machine what is short takes milliseconds now and then.
    assert (seen.mean_s > max(before, now) / 2) == (now > before)


def test_few_items_where_there_were_many(remembering: History) -> None:
    """What was expected to come doesn't, and nothing waits for it."""
    run([wait_for, spin_for], iter([0.004] * 300))
    results, record = run([wait_for, spin_for], iter([0.004] * 3))
    assert results == [0.004] * 3
    assert all(EARLIER in reason for reason in reasons(record))
    results, record = run([wait_for, spin_for], iter([0.004] * 300))
    assert results == [0.004] * 300
