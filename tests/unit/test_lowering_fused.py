from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from itertools import pairwise
from operator import add
from typing import Any

import pytest
from dask._task_spec import Alias, DataNode, List, Task, TaskRef
from dask.bag.core import lazify_task, reify
from dask.utils_test import inc

from amorsize_dask.execute.fused import Call, Chain, Subgraph
from amorsize_dask.lowering.fusing import Unfuser, fuse
from amorsize_dask.lowering.traversal import RUN_FUSED


class Value:
    """Something that a weak reference can watch."""


def link(key: str, function: Any, *needed: str) -> Task:
    return Task(key, function, *map(TaskRef, needed))


def fail(_: Any) -> None:
    raise KeyError("inside")


@dataclass(frozen=True)
class FrozenError(Exception):
    """An exception that can't be changed, notes included."""

    number: int


def fail_frozen(_: Any) -> None:
    raise FrozenError(3)


def test_each_link_gets_the_value_before() -> None:
    """The first one gets what the task needs."""
    chain = fuse(
        ["x", "y", "z"],
        [link("x", add, "a", "b"), link("y", inc, "x"), link("z", inc, "y")],
        Unfuser(),
    )
    assert isinstance(chain, Chain)
    assert chain({"a": 1, "b": 2}) == 5


def test_nodes_may_need_any_of_those_before() -> None:
    """And values from elsewhere."""
    subgraph = fuse(
        ["x", "y", "z"],
        [link("x", inc, "a"), link("y", add, "x", "a"), link("z", add, "x", "y")],
        Unfuser(),
    )
    assert isinstance(subgraph, Subgraph)
    assert [set(keys) for keys in subgraph.spent] == [set(), set(), {"x", "y"}]
    values = {"a": 1}
    assert subgraph(values) == 5
    assert values == {"a": 1}


@pytest.mark.parametrize("extra", [(), ("a",)])
def test_a_value_is_let_go_before_the_node_after_next(extra: tuple[str, ...]) -> None:
    """A chain holds one value at a time, besides the one that it is making."""
    made: list[weakref.ref[Value]] = []

    def make(*_: Any) -> Value:
        gc.collect()
        alive.append(sum(ref() is not None for ref in made))
        value = Value()
        made.append(weakref.ref(value))
        return value

    alive: list[int] = []
    keys = [f"x{i}" for i in range(5)]
    nodes = [link(keys[0], make)]
    nodes += [link(key, make, before, *extra) for before, key in pairwise(keys)]
    assert isinstance(fuse(keys, nodes, Unfuser())({"a": 1}), Value)
    assert alive == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("extra", [(), ("a",)])
def test_a_note_says_which_link_has_failed(extra: tuple[str, ...]) -> None:
    """The exception itself arrives."""
    task = fuse(
        ["x", "y", "z"],
        [
            link("x", inc, "a"),
            link("y", fail, "x"),
            link("z", print, "y", *extra),
        ],
        Unfuser(),
    )
    with pytest.raises(KeyError, match="inside") as info:
        task({"a": 1})
    assert info.value.__notes__ == ["amorsize: raised by 'y', a part of 'z'"]
    assert "fail" in [entry.name for entry in info.traceback]


def test_the_last_link_needs_no_note() -> None:
    """The task goes by its key."""
    task = fuse(["x", "y"], [link("x", inc, "a"), link("y", fail, "x")], Unfuser())
    with pytest.raises(KeyError) as info:
        task({"a": 1})
    assert not hasattr(info.value, "__notes__")


def test_an_exception_that_takes_no_note_arrives() -> None:
    """As itself, since an error about the error would hide it."""
    task = fuse(
        ["x", "y"], [link("x", fail_frozen, "a"), link("y", inc, "x")], Unfuser()
    )
    with pytest.raises(FrozenError):
        task({"a": 1})


def test_inputs_with_other_names_are_looked_up_together() -> None:
    """Also where names inside and outside are the same but mean other values."""
    body = {"out": Task("out", divmod, TaskRef("a"), TaskRef("b"))}
    swapped = Task("t", RUN_FUSED, body, "out", ("a", "b"), TaskRef("b"), TaskRef("a"))
    made = Unfuser().convert(swapped)
    assert isinstance(made, Call)
    assert made({"a": 3, "b": 10}) == swapped({"a": 3, "b": 10}) == (3, 1)


def test_data_and_tasks_as_inputs_are_kept() -> None:
    """An array's tasks have their block's number inside."""
    body = {"out": Task("out", add, TaskRef("a"), TaskRef("b"))}
    task = Task("t", RUN_FUSED, body, "out", ("a", "b"), DataNode(None, 3), 4)
    assert Unfuser().convert(task)({}) == 7


def test_nodes_in_any_order_are_sorted() -> None:
    """A fused task of Dask's promises none."""
    task = Task.fuse(
        Task("z", add, TaskRef("x"), TaskRef("y")),
        Task("y", inc, TaskRef("x")),
        Task("x", inc, TaskRef("a")),
    )
    made = Unfuser().convert(task)
    assert isinstance(made, Subgraph)
    assert list(made.keys) == ["x", "y", "z"]
    assert made({"a": 1}) == task({"a": 1}) == 5


def test_fused_tasks_inside_of_fused_tasks_are_converted() -> None:
    """However deep Dask has nested them."""
    inner = Task.fuse(Task("a", inc, TaskRef("q")), Task("b", inc, TaskRef("a")))
    outer = Task.fuse(inner, Task("c", inc, TaskRef("b")))
    made = Unfuser().convert(outer)
    assert isinstance(made, Chain)
    assert isinstance(made.nodes[0], Chain)
    assert made({"q": 1}) == 4


def test_calls_of_one_function_share_a_recipe() -> None:
    """Where arguments are values or keys in the same places."""
    unfuser = Unfuser()
    tasks = [
        Task("x", add, TaskRef("a"), 1),
        Task("y", add, TaskRef("b"), 2),
        Task("z", add, 3, TaskRef("b")),
    ]
    pieces: list[Any] = [unfuser.convert(task) for task in tasks]
    assert [piece({"a": 10, "b": 20}) for piece in pieces] == [11, 22, 23]
    assert pieces[0].recipe is pieces[1].recipe
    assert pieces[2].recipe is not pieces[0].recipe


@pytest.mark.parametrize(
    "task",
    [
        Task("x", dict, a=TaskRef("a")),
        Task("x", sum, List(TaskRef("a"), 1)),
        Task("x", add, Task(None, inc, TaskRef("a")), 1),
    ],
)
def test_what_is_more_than_a_call_stays_as_it_is(task: Task) -> None:
    """Dask's node runs it."""
    assert Unfuser().convert(task) is task


@pytest.mark.parametrize("n_aliases", [1, 2])
def test_a_partition_that_several_need_is_a_list(n_aliases: int) -> None:
    """Also where Dask hands on an iterator, which the first one would use up."""
    key = ("bag", 0)
    tasks: list[Any] = [Task(key, reify, Task(None, map, inc, [1, 2]))]
    for i in range(n_aliases):
        tasks.append(Alias(("concat", i), tasks[-1].key))
    task = lazify_task(Task.fuse(*tasks))
    assert not isinstance(task({}), list)
    assert Unfuser().convert(task)({}) == [2, 3]
