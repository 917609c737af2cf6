"""Whatever the graph: lowered and run, it gives what Dask's own scheduler gives."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import cloudpickle
import dask
from dask.local import get_sync
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import run, validate
from strategies import GraphCase, bags, delayed_lists, graphs

from amorsize_dask.lowering import lower, materialize


def get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Compute keys by lowering, in each of its ways; they must agree."""
    values = None
    for fuse in (True, False):
        tasks = lower(materialize(dsk), keys, fuse=fuse)
        validate(tasks)
        again = run(tasks, keys)
        assert fuse or again == values
        values = again
    return values


@given(graphs())
def test_graphs_give_what_dask_gives(case: GraphCase) -> None:
    """Graphs of tuples, nodes, aliases and data, with nested keys."""
    before = copy(case.dsk)
    assert get(case.dsk, case.keys) == get_sync(case.dsk, case.keys)
    assert case.dsk.keys() == before.keys()
    assert all(case.dsk[key] is value for key, value in before.items())


@settings(max_examples=40)  # Dask takes its time to make them
@given(delayed_lists())
def test_delayed_values_are_what_dask_computes(values: list[Any]) -> None:
    """Several delayed values at once, with shared parts and containers."""
    assert dask.compute(*values, scheduler=get) == dask.compute(
        *values, scheduler="sync"
    )


@given(bags(), st.booleans())
def test_bags_are_what_dask_computes(bag: Any, optimize: bool) -> None:
    """Bags and reductions of bags, with Dask's optimizations and without."""
    assert bag.compute(scheduler=get, optimize_graph=optimize) == bag.compute(
        scheduler="sync", optimize_graph=optimize
    )


@given(graphs(), st.booleans())
def test_tasks_run_as_well_after_pickling(case: GraphCase, fuse: bool) -> None:
    """What runs a task can be sent to another process."""
    tasks = lower(materialize(case.dsk), case.keys, fuse=fuse)
    nodes = [cloudpickle.loads(cloudpickle.dumps(node)) for node in tasks.nodes]
    assert run(replace(tasks, nodes=nodes), case.keys) == run(tasks, case.keys)


@given(graphs())
def test_without_fusion_each_task_keeps_its_key(case: GraphCase) -> None:
    """What callbacks see are keys of the graph, and nodes that it has under them."""
    dsk = materialize(case.dsk)
    tasks = lower(dsk, case.keys, fuse=False)
    assert set(tasks.keys) <= dsk.keys()
    assert set(tasks.aliases) <= dsk.keys()
    assert {type(dsk[key]).__name__ for key in tasks.aliases} <= {"Alias"}


@given(graphs())
def test_fusion_leaves_no_link_that_could_be_fused(case: GraphCase) -> None:
    """A task that alone needs another one's value has other needs or its own place."""
    tasks = lower(materialize(case.dsk), case.keys)
    graph = tasks.graph
    n_users = [0] * len(graph)
    for needed in graph.dependencies:
        for task in needed:
            n_users[task] += 1
    for task, needed in enumerate(graph.dependencies):
        if len(needed) == 1 and n_users[needed[0]] == 1:
            stages = {graph.stage_of[task], graph.stage_of[needed[0]]}
            assert needed[0] in graph.wanted or stages & graph.caller_stages
