"""How large the items of tasks are, as far as that is quickly seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from amorsize_dask.execute import weighing
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.weighing import weigh
from amorsize_dask.planning.execution import make_tasks


def make(items: Any, n_pieces: int) -> TaskGraph:
    tasks, _ = make_tasks(len, items, n_pieces)
    return tasks


def test_sizes_of_a_tasks_items_add_up() -> None:
    items = ["a" * n for n in range(12)]
    assert weigh(make(items, 4), 0) == {0: 3.0, 1: 12.0, 2: 21.0, 3: 30.0}
    assert 0 in make(items, 4).graph.sized_stages
    assert weigh(make(items, 4), 1) == {}


def test_what_was_cut_off_is_weighed_by_itself() -> None:
    tasks = make(["a" * n for n in range(12)], 2)
    tasks.cut(1, len(tasks.keys), 2)
    part = len(tasks.keys) - 1
    assert weigh(tasks, 0) == {0: 15.0, 1: 38.0, part: 13.0}
    tasks.cut(1, len(tasks.keys), 4)
    assert 1 not in weigh(tasks, 0)


def test_of_many_items_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many of each task, for all that it has."""
    monkeypatch.setattr(weighing, "MOST_ITEMS", 20)
    items = [b"ab"] * 500 + [b"abcd"] * 500
    assert weigh(make(items, 2), 0) == {0: 1000.0, 1: 2000.0}


@pytest.mark.parametrize(
    "items",
    [
        [1, 1, 1, 1],
        [1, "a", 2, 3],
        [None, object(), None, object()],
        [1.0, float("nan"), 2.0, 3.0],
        [True, False, True, False],
    ],
)
def test_nothing_to_be_seen(items: list[Any]) -> None:
    assert weigh(make(items, 2), 0) == {}


def test_files_are_given_up_where_asking_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / str(n) for n in range(4)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes(n))
    assert weigh(make(paths, 4), 0) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
    monkeypatch.setattr(weighing, "MOST_S", 0.0)
    assert weigh(make(paths, 4), 0) == {}
    monkeypatch.undo()
    paths[2].unlink()
    assert weigh(make(paths, 4), 0) == {}
