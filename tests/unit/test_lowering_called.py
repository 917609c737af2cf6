"""What nodes of Dask's call, and under what a stage goes by it."""

from __future__ import annotations

from operator import add, mul, neg
from typing import Any

from dask import delayed
from dask._task_spec import Alias, DataNode, Task, TaskRef, fuse_linear_task_spec

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.identity import (
    find_firsts,
    fingerprint_calls,
    fingerprint_stages,
)
from amorsize_dask.lowering import read
from amorsize_dask.lowering.called import find_called
from amorsize_dask.lowering.partitions import find_partitions


def double(x: int) -> int:
    return 2 * x


def test_functions_are_found_in_depth() -> None:
    """Those of inner tasks, and those that are arguments; types as well."""
    node = Task("a", map, double, Task(None, add, 1, TaskRef("b")), key=int)
    assert list(find_called(node)) == [map, double, add, int]


def test_functions_of_fused_tasks_are_found() -> None:
    """What Dask has made one task of several is known by all of these."""
    graph = {"a": Task("a", neg, 1), "b": Task("b", mul, TaskRef("a"), 2)}
    fused = fuse_linear_task_spec(graph, {"b"}).values()
    (node,) = (node for node in fused if isinstance(node, Task))
    assert set(find_called(node)) == {neg, mul}


def test_data_calls_nothing() -> None:
    """Nor do aliases, nor what is no node."""
    nodes: list[Any] = [DataNode("a", [neg]), Alias("a", "b"), 5, None]
    assert [list(find_called(node)) for node in nodes] == [[], [], [], []]


def fingerprints(tasks: TaskGraph) -> dict[int, str]:
    return fingerprint_stages(tasks, find_firsts(tasks))


def test_a_stage_is_the_same_here_and_in_a_cluster() -> None:
    """A delayed call has one fingerprint, also by what Dask's own node calls."""
    value = delayed(double)(delayed(neg)(3))
    found = fingerprints(read(*find_partitions([value])))
    nodes = dict(value.__dask_graph__())
    (last,) = (n for n in nodes.values() if n.func is double)
    (first,) = (n for n in nodes.values() if n.func is neg)
    assert fingerprint_calls(find_called(first), []) in {
        *fingerprints(read(*find_partitions([delayed(neg)(3)]))).values()
    }
    here = fingerprint_calls(find_called(last), [find_called(first)])
    assert here != fingerprint_calls(find_called(last), [])
    assert len(found) == 1  # the two are one task here


def test_what_calls_nothing_has_no_fingerprint() -> None:
    """It goes by its prefix, then."""
    assert fingerprint_calls([], [[neg]]) is None
