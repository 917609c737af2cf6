from __future__ import annotations

from operator import add, neg
from typing import Any

import cloudpickle
import dask
import dask.array as da
import dask.bag as db
import pytest
from dask._task_spec import Alias, DataNode, List, Task, TaskRef
from dask.utils_test import GetFunctionTestMixin, inc
from reference import run, validate

from amorsize_dask.execute.fused import Call, Chain
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.lowering import lower, materialize, read
from amorsize_dask.lowering.traversal import RENAME


def lower_collection(*collections: Any, fuse: bool = True) -> TaskGraph:
    """Lower what computing collections hands to a scheduler."""
    made = []

    def get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        made.append(lower(materialize(dsk), keys, fuse=fuse))
        return run(made[0], keys)

    dask.compute(*collections, scheduler=get)
    validate(made[0])
    return made[0]


def get_fused(dsk: Any, keys: Any) -> Any:
    """Compute keys in the way that `compute` does without callbacks."""
    tasks = read(dsk, keys)
    validate(tasks)
    return run(tasks, keys)


def get_unfused(dsk: Any, keys: Any) -> Any:
    """Compute keys in the way that `compute` does with callbacks."""
    tasks = lower(materialize(dsk), keys, fuse=False)
    validate(tasks)
    return run(tasks, keys)


class TestFused(GetFunctionTestMixin):
    """All that Dask expects of a scheduler's get function holds for fused tasks."""

    get = staticmethod(get_fused)


class TestUnfused(GetFunctionTestMixin):
    """All that Dask expects of a scheduler's get function holds for single tasks."""

    get = staticmethod(get_unfused)


# -- what is left out ------------------------------------------------------------------


def test_only_what_is_needed_is_lowered() -> None:
    """Neither tasks nor data that no requested key needs are in the result."""
    dsk = {"x": 1, "y": (inc, "x"), "other": (inc, "missing"), "big": [0] * 10}
    tasks = lower(dsk, ["y"])
    assert list(tasks.keys) == ["y"]
    assert dict(tasks.constants) == {"x": 1}


def test_nothing_requested_needs_nothing() -> None:
    """An empty request is an empty graph."""
    tasks = lower({"x": (inc, 1)}, [])
    validate(tasks)
    assert len(tasks.graph) == 0
    assert run(tasks, []) == ()


@pytest.mark.parametrize("keys", ["z", ["x", [["z"]]], ("x",)])
def test_a_key_that_is_missing_is_a_key_error(keys: Any) -> None:
    """Bare, nested, or a tuple that isn't in the graph."""
    with pytest.raises(KeyError):
        lower({"x": 1}, keys)


def test_a_dependency_that_is_missing_is_named() -> None:
    """With the key that needs it; only nodes can tell a key from data."""
    dsk = {"x": Task("x", inc, TaskRef("gone"))}
    with pytest.raises(ValueError, match="Missing dependency 'gone' of 'x'"):
        lower(dsk, "x")


def test_a_key_that_stands_for_itself_does_not_exist() -> None:
    """As in Dask."""
    with pytest.raises(KeyError, match="'x'"):
        lower({"x": "x"}, "x")
    with pytest.raises(ValueError, match="Missing dependency 'x' of 'y'"):
        lower({"x": Alias("x", "x"), "y": Task("y", inc, TaskRef("x"))}, "y")


@pytest.mark.parametrize(
    "dsk",
    [
        {"a": (inc, "b"), "b": (inc, "c"), "c": (inc, "a")},
        {"a": "b", "b": "c", "c": "a"},
        {"a": (add, "d", "b"), "b": (inc, "c"), "c": "a", "d": (inc, 1)},
    ],
)
@pytest.mark.parametrize("wanted", ["a", "b", "start"])
def test_a_circle_is_named(dsk: dict[str, Any], wanted: str) -> None:
    """In the order of the dependencies, wherever the walk comes upon it."""
    dsk = {**dsk, "start": (add, "d2", "b"), "d2": (inc, 1)}
    with pytest.raises(RuntimeError, match="Cycle detected") as info:
        lower(dsk, wanted)
    circle = str(info.value).split("\n  -> ")[1:]
    assert circle[0] == circle[-1]
    assert set(circle) == set("abc")
    assert "".join(circle) in "abcabc"


# -- aliases ---------------------------------------------------------------------------


def test_a_value_goes_by_the_one_key_that_others_know() -> None:
    """After one of Dask's own fusions no task has to be changed, nothing is renamed."""
    dsk = {
        "long": Task("long", inc, 1),
        "short": Alias("short", "long"),
        "end": Task("end", neg, TaskRef("short")),
        "other": Task("other", inc, TaskRef("short")),
    }
    tasks = lower(dsk, ["end", "other"])
    validate(tasks)
    assert list(tasks.keys) == ["short", "end", "other"]
    assert not tasks.aliases
    assert list(tasks.arguments) == [(), ["short"], ["short"]]
    assert tasks.stages[tasks.graph.stage_of[0]] == "long"


def test_a_value_with_several_keys_goes_by_its_own() -> None:
    """The tasks that know it by another one are changed, copies of them that is."""
    dsk = {
        "x": Task("x", inc, 1),
        "a": Alias("a", "x"),
        "b": Alias("b", "a"),
        "y": Task("y", add, TaskRef("x"), TaskRef("b")),
    }
    tasks = lower(dsk, ["y", "a"])
    validate(tasks)
    assert list(tasks.keys) == ["x", "y"]
    assert dict(tasks.aliases) == {"a": "x", "b": "x"}
    assert [list(keys) for keys in tasks.arguments] == [[], ["x"]]
    assert dsk["y"].dependencies == {"x", "b"}
    assert run(tasks, ["y", "a"]) == (4, 2)


def test_aliases_of_data_need_no_task() -> None:
    """They are found among the constants."""
    dsk = {"x": 1, "a": "x", "b": "a"}
    for fuse in (True, False):
        tasks = lower(dsk, ["b", "a", "x"], fuse=fuse)
        validate(tasks)
        assert len(tasks.graph) == 0
        assert run(tasks, ["b", "a", "x"]) == (1, 1, 1)


def test_what_only_renames_is_no_task() -> None:
    """So does Dask with the tasks of a bag that a delayed value gets."""
    dsk = {
        "a": Task("a", RENAME, Task("x", inc, 1)),
        "b": Task("b", RENAME, Alias("y", "a")),
        "c": Task("c", RENAME, TaskRef("b")),
        "d": Task("d", RENAME, 5),
    }
    keys = list("abcd")
    tasks = lower(dsk, keys, fuse=False)
    validate(tasks)
    assert list(tasks.keys) == ["a"]
    assert dict(tasks.aliases) == {"b": "a", "c": "a"}
    assert run(tasks, keys) == (2, 2, 2, 5)


def test_a_long_chain_of_aliases_is_followed() -> None:
    """Ten thousand of them are no recursion."""
    dsk: dict[str, Any] = {f"x{i + 1}": f"x{i}" for i in range(10_000)}
    dsk["x0"] = (inc, 1)
    tasks = lower(dsk, "x10000")
    assert list(tasks.keys) == ["x10000"]
    assert run(tasks, "x10000") == 2


def test_values_go_by_their_own_keys_where_callbacks_see_them() -> None:
    """Without fusion an alias is only ever an alias."""
    dsk = {"x": (inc, 1), "a": "x", "y": (inc, "a")}
    tasks = lower(dsk, "y", fuse=False)
    assert list(tasks.keys) == ["x", "y"]
    assert dict(tasks.aliases) == {"a": "x"}


# -- fusion ----------------------------------------------------------------------------


def test_a_chain_is_one_task_under_its_last_key() -> None:
    """Ten thousand links run, and are pickled, without recursion."""
    dsk: dict[str, Any] = {f"x{i + 1}": (inc, f"x{i}") for i in range(10_000)}
    dsk["x0"] = 0
    tasks = lower(dsk, "x10000")
    assert list(tasks.keys) == ["x10000"]
    assert [list(keys) for keys in tasks.arguments] == [["x0"]]
    (node,) = tasks.nodes
    assert cloudpickle.loads(cloudpickle.dumps(node))({"x0": 0}) == 10_000


def test_a_chain_may_branch_at_its_ends_only() -> None:
    """A value that two need, or that the user asked for, is a task's own."""
    dsk = {
        "a": (inc, 1),
        "b": (inc, "a"),
        "c": (inc, "b"),
        "left": (inc, "c"),
        "left2": (inc, "left"),
        "right": (inc, "c"),
        "end": (add, "left2", "right"),
    }
    tasks = lower(dsk, ["end", "left"])
    validate(tasks)
    assert set(tasks.keys) == {"c", "left", "left2", "right", "end"}
    assert run(tasks, ["end", "left"]) == (11, 5)


def test_links_may_need_constants() -> None:
    """They come with the task's arguments, each once."""
    dsk = {"one": 1, "a": (add, "one", 1), "b": (add, "a", "one"), "c": (add, "b", "b")}
    tasks = lower(dsk, "c")
    validate(tasks)
    assert list(tasks.keys) == ["c"]
    assert [list(keys) for keys in tasks.arguments] == [["one"]]
    assert run(tasks, "c") == 6


def test_a_value_that_is_needed_twice_by_one_task_makes_a_chain() -> None:
    """What counts is how many tasks need it, also through an alias."""
    dsk = {"a": (inc, 1), "b": "a", "c": (add, "a", "b")}
    tasks = lower(dsk, "c")
    validate(tasks)
    assert list(tasks.keys) == ["c"]
    assert run(tasks, "c") == 4


def test_bookkeeping_is_not_fused() -> None:
    """It has its own place to run."""
    dsk = {
        "a": Task("a", inc, 1),
        "b": Task("b", inc, TaskRef("a")),
        "list": List(TaskRef("b")),
    }
    tasks = lower(dsk, "list")
    assert list(tasks.keys) == ["b", "list"]
    assert tasks.graph.caller_stages == {tasks.graph.stage_of[1]}


def test_tasks_that_dask_has_fused_are_run_by_ours() -> None:
    """Dask's own work out an order each time that they run."""
    bag = db.from_sequence(range(6), npartitions=3).map(inc).filter(bool)
    tasks = lower_collection(bag)
    assert [type(node) for node in tasks.nodes[:3]] == [Chain] * 3
    assert [key[1] for key in tasks.keys[:3]] == [0, 1, 2]
    assert not tasks.aliases


def test_tasks_of_an_array_share_their_nodes() -> None:
    """What is the same in a whole layer is there once, and pickled once in a batch."""
    array = da.ones((4, 4), chunks=2) * 2 + 1
    tasks = lower_collection(array)
    calls = [node for node in tasks.nodes if isinstance(node, Call)]
    assert len(calls) == 4
    assert len({id(call.body) for call in calls}) == 1


def test_data_inside_of_tasks_is_not_looked_at() -> None:
    """A list that is a task's own argument stays the object that it is."""
    data = [[1], [2]]
    tasks = lower({"x": DataNode("x", data), "y": Task("y", len, data)}, ["x", "y"])
    assert tasks.constants["x"] is data
    node: Any = tasks.nodes[0]
    assert node.arguments[0] is data


# -- order -----------------------------------------------------------------------------


def test_partitions_run_in_their_order() -> None:
    """Dask culls bags through sets; the order comes back from what needs them."""
    bag = db.from_sequence(range(50), npartitions=50).map(inc)
    tasks = lower_collection(bag)
    assert [key[1] for key in tasks.keys[:-1]] == list(range(50))


def test_independent_values_run_as_they_were_asked_for() -> None:
    """The first key first."""
    dsk = {f"x-{i}": (inc, i) for i in range(50)}
    keys = [f"x-{(7 * i) % 50}" for i in range(50)]
    assert list(lower(dsk, keys).keys) == keys


def test_values_are_used_as_soon_as_they_can_be() -> None:
    """A task comes right after the last of those that it alone needs."""
    dsk: dict[str, Any] = {f"x{i}": (inc, i) for i in range(6)}
    dsk |= {f"s{i}": (add, f"x{2 * i}", f"x{2 * i + 1}") for i in range(3)}
    tasks = lower(dsk, ["s0", "s1", "s2"])
    assert list(tasks.keys) == ["x0", "x1", "s0", "x2", "x3", "s1", "x4", "x5", "s2"]
