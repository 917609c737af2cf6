"""Which stage it is, for whoever has seen it in an earlier run: by its functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from amorsize_dask.execute.fused import find_leaves
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Node
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.measure.fingerprint import digest, fingerprint_function
from amorsize_dask.measure.global_random import seeds_globally

#: Stages up to which a run's are known from earlier ones. Smaller: graphs of many
#: functions are measured anew each time; larger: graphs in which each task is a stage
#: of its own pay 10 µs for each, and push all others out of the history.
MAX_STAGES = 100


def find_firsts(tasks: TaskGraph) -> dict[int, int]:
    """Return the first task of each stage that has any."""
    if tasks.graph.n_stages == 1 and tasks.stage_of:
        return {0: 0}
    n = len(tasks.graph)
    # The last that is written is the first.
    return dict(zip(reversed(tasks.stage_of), range(n - 1, -1, -1), strict=True))


def fingerprint_stages(tasks: TaskGraph, firsts: Mapping[int, int]) -> dict[int, str]:
    """Return fingerprints of the stages of a graph that is about to run, by number.

    A stage is known by the functions of its first task and by those of the stages that
    this needs values of, for a ``sum`` of what one function makes may take as long as
    no other. Those that belong into the caller have none, nor have those that get
    their tasks while the graph runs; and no stage has if there are too many.

    Parameters
    ----------
    tasks : TaskGraph
        The graph.
    firsts : mapping of int to int
        What `find_firsts` has found there.
    """
    graph = tasks.graph
    if graph.n_stages - len(graph.tail_stage) > MAX_STAGES:
        return {}
    own = {
        number: _join(_functions(tasks.nodes[task])) for number, task in firsts.items()
    }
    return {
        number: digest((own[number], sorted(_needed(tasks, task, own))))
        for number, task in firsts.items()
        if number not in graph.caller_stages and own[number]
    }


def fingerprint_calls(
    functions: Iterable[Any], needed: Iterable[Iterable[Any]]
) -> str | None:
    """Return the fingerprint of a stage of which no more is known than what it calls.

    Parameters
    ----------
    functions : iterable of callable
        What its tasks call.
    needed : iterable of iterable of callable
        The same of the stages that it needs values of.

    Returns
    -------
    str or None
        Where the tasks call one function, what `fingerprint_stages` returns for them.
        ``None``: they call nothing.
    """
    own = _join(functions)
    return digest((own, sorted(set(filter(None, map(_join, needed)))))) if own else None


def fingerprint_items(stages: Sequence[tuple[Iterable[Any], str]]) -> list[str]:
    """Return fingerprints of stages that items go through one after the other.

    A stage is known by what it calls, and by what the stages before it call.

    Parameters
    ----------
    stages : sequence of (iterable of callable, str)
        What each calls, and in which way.

    Returns
    -------
    list of str
        In the order of the stages. Empty if there are too many of them.
    """
    if len(stages) > MAX_STAGES:
        return []
    own = [(_join(functions), way) for functions, way in stages]
    return [digest(("items", own[: number + 1])) for number in range(len(own))]


def find_lone_stages(tasks: TaskGraph, firsts: Mapping[int, int]) -> frozenset[int]:
    """Return the stages of which no two tasks may be under way in one process.

    They are those that seed the random numbers of a process, by their first tasks.
    """
    return frozenset(
        number
        for number, task in firsts.items()
        if number not in tasks.graph.caller_stages
        and any(
            map(seeds_globally, _by_identity(_functions(tasks.nodes[task])).values())
        )
    )


def _needed(tasks: TaskGraph, task: int, own: dict[int, str]) -> set[str]:
    return {own[tasks.stage_of[d]] for d in tasks.graph.dependencies[task]}


def _join(functions: Iterable[Any]) -> str:
    called = list(functions)
    known = {
        function_id: fingerprint_function(function)
        for function_id, function in _by_identity(called).items()
    }
    return ",".join([known[id(function)] for function in called])


def _by_identity(functions: Iterable[Any]) -> dict[int, Any]:
    """Return functions by identity: a chain may call one of them a thousand times."""
    return {id(function): function for function in functions}


def _functions(node: Node) -> Iterator[Any]:
    """Yield what a node calls, and what it calls that with to be called in turn."""
    for leaf in find_leaves(node):
        if isinstance(leaf, Piece):
            yield from filter(callable, leaf.recipe.constants)
        elif callable(function := getattr(leaf, "func", None)):
            yield function
