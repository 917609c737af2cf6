"""Which modules the tasks of a run need, to be imported before workers get any.

Of Dask's most need none, and then workers are up in a fraction of the time; those that
are needed are imported once for all. The user's own each worker imports for itself,
while the caller goes on working: a first batch would wait for them, and no one could
do its tasks meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

from amorsize_dask.execute.fused import find_leaves
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Node
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.execute.wire import SPAWNED_MAIN

#: What a function or a class that travels by value needs where it arrives.
CLOUDPICKLE = "cloudpickle"

#: Nodes that are looked at, evenly spread. Smaller: those of a short stage are missed,
#: and each worker imports for itself; larger: looking takes time before each boot.
N_LOOKED = 64


def find_modules(tasks: TaskGraph) -> list[str]:
    """Return modules that workers will need, as far as a look tells.

    Parameters
    ----------
    tasks : TaskGraph
        What is going to run. What its nodes hold is looked at, not what that holds.

    Returns
    -------
    list of str
        Names, sorted. What is missing here a worker imports when it unpickles a task.
    """
    step = max(1, len(tasks.nodes) // N_LOOKED)
    # Those of a chain may all be the same.
    parts = {id(p): p for node in tasks.nodes[::step] for p in _parts(node)}
    found = {name for part in parts.values() for name in _modules(part)}
    return sorted(found - {"__main__", SPAWNED_MAIN, "builtins"})


def of_dask(modules: Sequence[str]) -> list[str]:
    """Return those of some modules that are Dask's."""
    return [name for name in modules if name.split(".")[0] == "dask"]


def for_all(modules: Sequence[str]) -> list[str]:
    """Return those of some modules that are imported once for all workers."""
    return [*of_dask(modules), *(name for name in modules if name == CLOUDPICKLE)]


def _parts(node: Node) -> Iterator[Any]:
    """Yield what a node is made of that has a module."""
    for leaf in find_leaves(node):
        if isinstance(leaf, Piece):
            yield from leaf.recipe.constants
        else:
            yield leaf


def _modules(part: Any) -> Iterator[str]:
    """Yield the modules that are imported before something is unpickled."""
    while isinstance(part, partial):
        part = part.func
    for owner in (part, type(part)):
        module = getattr(owner, "__module__", None)
        if isinstance(module, str):
            yield CLOUDPICKLE if _is_by_value(owner) else module
    if isinstance(part, FunctionType):
        for value in _globals_that_travel(part):
            if isinstance(value, ModuleType):
                yield value.__name__


def _globals_that_travel(function: FunctionType) -> list[Any]:
    """Return the globals that come with a function, by value or with its module."""
    known = function.__globals__
    if not _is_by_value(function):
        return list(known.values())
    return [known[name] for name in function.__code__.co_names if name in known]


def _is_by_value(owner: Any) -> bool:
    """Whether a function or class travels whole, so that its module isn't needed."""
    name = getattr(owner, "__qualname__", "")
    return owner.__module__ in ("__main__", SPAWNED_MAIN) or "<" in name
