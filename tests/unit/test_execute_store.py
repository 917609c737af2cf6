"""The values of a run."""

from __future__ import annotations

from typing import Any

import pytest

from amorsize_dask.core.graph import Graph
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.store import Store


def node(values: Any) -> Any:
    return values


@pytest.fixture
def tasks() -> TaskGraph:
    """Two tasks, of which the second needs the first's value and a constant."""
    return TaskGraph(
        graph=Graph(
            dependencies=[(), (0,)],
            stage_of=[0, 1],
            n_stages=2,
            wanted=frozenset([1]),
        ),
        keys=["a", ("b", 0)],
        nodes=[node, node],
        arguments=[(), ("a", "c")],
        constants={"c": 3},
        aliases={"other-b": ("b", 0), "other-c": "c"},
        stages=["a", "b"],
    )


@pytest.fixture
def store(tasks: TaskGraph) -> Store:
    return Store(tasks)


def test_constants_are_there_from_the_start(store: Store) -> None:
    """A constant is found under its own key and under an alias."""
    assert store.find("c") == 3
    assert store.find("other-c") == 3


def test_results_by_key_and_alias(store: Store) -> None:
    """What was put for a task is found under its key and under what stands for it."""
    store.put(0, "first")
    store.put(1, None)
    assert store.find("a") == "first"
    assert store.find(("b", 0)) is None
    assert store.find("other-b") is None
    assert store.key_of(1) == ("b", 0)


@pytest.mark.parametrize("key", ["nothing", ("b", 1), "a"])
def test_key_that_is_not_there(store: Store, key: Any) -> None:
    """A key that no task has, or whose task has not run, is a KeyError."""
    with pytest.raises(KeyError):
        store.find(key)


def test_what_tasks_need(store: Store) -> None:
    """Items name tasks, nodes and argument keys; arguments have each value once."""
    store.put(0, "first")
    store.put(1, "second")
    assert store.items([1, 0]) == [(1, node, ("a", "c")), (0, node, ())]
    assert store.arguments([1, 0]) == {"a": "first", "c": 3}
    assert store.arguments([0]) == {}


def test_dropped_values_are_gone(store: Store) -> None:
    """Values that no one needs are let go of; others stay, constants included."""
    store.put(0, "first")
    store.put(1, "second")
    store.drop([0])
    assert store.values == {"c": 3, ("b", 0): "second"}
    with pytest.raises(KeyError):
        store.find("a")


def test_graph_is_not_changed(tasks: TaskGraph, store: Store) -> None:
    """The constants of the graph are not where results go."""
    store.put(0, "first")
    assert tasks.constants == {"c": 3}
