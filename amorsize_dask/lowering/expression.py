"""From what Dask hands over to a plain graph of its own nodes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from dask import config
from dask._task_spec import (
    DataNode,
    GraphNode,
    convert_legacy_graph,
    convert_legacy_task,
)
from dask.core import istask
from dask.utils import ensure_dict

from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.layers import read_layers, try_fast

#: Settings with which Dask leaves tasks with different annotations apart.
_UNFUSED = {"optimization.fuse.active": False, "optimization.annotations.fuse": False}


def materialize(dsk: Any, *, may_fuse: bool = True) -> dict[Key, Any]:
    """Make a plain graph of Dask's nodes out of what `compute` hands to a scheduler.

    Parameters
    ----------
    dsk : Expr, HighLevelGraph or Mapping
        Dask's own optimizations run when an expression is asked for its graph. Tasks
        may be tuples, as they were before Dask had nodes.
    may_fuse : bool, optional
        Whether Dask may make one task of several, whatever was said of them.

    Returns
    -------
    dict
        Node by key. Always a new one: callbacks change it.

    Raises
    ------
    ArgumentError
        If `dsk` is none of these.
    """
    if not may_fuse and (layers := try_fast(lambda: read_layers(dsk))) is not None:
        # Whatever the settings, Dask makes chains of a bag's tasks.
        dsk = layers.merge()
    with nullcontext() if may_fuse else config.set(_UNFUSED):
        while not isinstance(dsk, Mapping):
            if not hasattr(dsk, "__dask_graph__"):
                expected = "expected a Dask expression, a HighLevelGraph or a dict"
                raise ArgumentError("dsk", dsk, expected)
            dsk = dsk.__dask_graph__()
    graph: dict[Key, Any] = ensure_dict(dsk, copy=True)
    if not all(isinstance(node, GraphNode) for node in graph.values()):
        graph = convert_legacy_graph(graph)
    return graph


def quote_values(graph: dict[Any, Any]) -> None:
    """Make nodes of what callbacks have put into a graph, in place.

    A tuple that starts with a callable is a task, as everywhere in Dask. Everything
    else is data and stays so, however much it looks like a key or a list of tasks:
    `dask.cache.Cache` puts results there.
    """
    for key, value in graph.items():
        if isinstance(value, GraphNode):
            continue
        if istask(value):
            graph[key] = convert_legacy_task(key, value, graph)
        else:
            graph[key] = DataNode(key, value)
