from __future__ import annotations

from operator import add
from typing import Any

import dask
import dask.bag as db
import pytest
from dask._task_spec import Alias, DataNode, Task
from dask.highlevelgraph import HighLevelGraph
from reference import run

from amorsize_dask.errors import ArgumentError
from amorsize_dask.lowering import lower, materialize, quote_values, read


def test_a_dict_is_copied_and_converted() -> None:
    """What a callback does to the graph never reaches the user's own."""
    dsk = {"x": 1, "y": (add, "x", 2), "z": "y"}
    graph = materialize(dsk)
    assert [type(graph[key]) for key in "xyz"] == [DataNode, Task, Alias]
    graph.clear()
    assert dsk == {"x": 1, "y": (add, "x", 2), "z": "y"}


def test_a_dict_of_nodes_is_copied_too() -> None:
    """A graph that needs no conversion is a new dict all the same."""
    dsk = {"x": DataNode("x", 1)}
    graph = materialize(dsk)
    assert graph == dsk
    assert graph is not dsk


def test_layers_are_merged_and_stay_as_they_are() -> None:
    """A HighLevelGraph becomes one dict, its own cache of it is left alone."""
    layers = {"a": {"x": 1}, "b": {"y": (add, "x", 2)}}
    graph = HighLevelGraph(layers, {"a": set(), "b": {"a"}})
    graph.to_dict()
    materialize(graph).clear()
    assert materialize(graph).keys() == {"x", "y"}
    assert layers == {"a": {"x": 1}, "b": {"y": (add, "x", 2)}}


def test_what_compute_hands_over_is_read() -> None:
    """An expression, and a collection itself."""
    seen = []

    def get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        seen.append(type(dsk).__name__)
        return run(read(dsk, keys), keys)

    bag = db.from_sequence(range(6), npartitions=3)
    assert dask.compute(bag, bag.sum(), scheduler=get) == ([0, 1, 2, 3, 4, 5], 15)
    assert seen == ["_HLGExprSequence"]
    keys = bag.__dask_keys__()
    assert run(read(bag, keys), keys) == ([0, 1], [2, 3], [4, 5])


@pytest.mark.parametrize("wrong", [None, [("x", 1)], "x"])
def test_anything_else_is_refused(wrong: Any) -> None:
    """The error names the argument."""
    with pytest.raises(ArgumentError, match=r"dsk=.*can't be used"):
        materialize(wrong)


def test_what_a_callback_adds_is_data() -> None:
    """A result that looks like a key, or holds what looks like a task, is a result."""
    values = {"a": "b", "b": [(len, "abc"), "a"], "c": ("a",), "d": {"e": "a"}}
    graph: dict[Any, Any] = dict(values)
    quote_values(graph)
    assert run(lower(graph, list("abcd")), list("abcd")) == tuple(values.values())


def test_a_task_that_a_callback_adds_is_a_task() -> None:
    """A tuple that starts with a callable runs, as everywhere in Dask."""
    graph = materialize({"x": 1, "y": (add, "x", 2)})
    node = graph["y"]
    graph["y"] = (abs, node)
    quote_values(graph)
    assert isinstance(graph["y"], Task)
    assert run(lower(graph, "y"), "y") == 3
