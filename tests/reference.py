"""The simplest way to run a lowered graph, and what must hold for each of them."""

from __future__ import annotations

from typing import Any

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key
from amorsize_dask.lowering import nest


def run(tasks: TaskGraph, keys: Any) -> Any:
    """Run tasks one by one in the order of their numbers; return what was asked for.

    Each gets what its arguments name and nothing else. Values that no one needs any
    more are dropped, so that a graph which names too little fails.
    """
    n_users = [0] * len(tasks.keys)
    for needed in tasks.graph.dependencies:
        for task in needed:
            n_users[task] += 1
    values = dict(tasks.constants)
    for task, node in enumerate(tasks.nodes):
        values[tasks.keys[task]] = node(
            {key: values[key] for key in tasks.arguments[task]}
        )
        for needed in tasks.graph.dependencies[task]:
            n_users[needed] -= 1
            if not n_users[needed] and needed not in tasks.graph.wanted:
                del values[tasks.keys[needed]]
    return nest(keys, lambda key: values[tasks.aliases.get(key, key)])


def validate(tasks: TaskGraph) -> None:
    """Check that the parts of a lowered graph fit together."""
    graph = tasks.graph
    n = len(graph)
    for part in (tasks.keys, tasks.nodes, tasks.arguments, graph.stage_of):
        assert len(part) == n
    number: dict[Key, int] = {key: task for task, key in enumerate(tasks.keys)}
    assert len(number) == n
    assert number.keys().isdisjoint(tasks.constants)
    assert number.keys().isdisjoint(tasks.aliases)
    assert tasks.constants.keys().isdisjoint(tasks.aliases)
    for target in tasks.aliases.values():
        assert target in number or target in tasks.constants
    for task, (needed, arguments) in enumerate(
        zip(graph.dependencies, tasks.arguments, strict=True)
    ):
        assert all(dependency < task for dependency in needed)
        assert len(set(arguments)) == len(arguments)
        assert sorted(needed) == sorted(
            number[key] for key in arguments if key not in tasks.constants
        )
    assert len(tasks.stages) == graph.n_stages
    # Stages that only tasks which are cut or split will need.
    later = set(graph.tail_stage.values())
    if graph.rest_stage is not None:
        later.add(graph.rest_stage)
    assert set(graph.stage_of) == set(range(graph.n_stages)) - later
    assert graph.caller_stages <= set(graph.stage_of) | {graph.rest_stage}
    # Nothing is there that no one needs.
    needed_tasks = {task for needed in graph.dependencies for task in needed}
    assert needed_tasks | graph.wanted == set(range(n))
