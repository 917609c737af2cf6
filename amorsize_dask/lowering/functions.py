"""What a task calls: the function below Dask's and functools' wrappers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache, lru_cache, partial
from typing import Any

from dask._task_spec import GraphNode, Task
from dask.utils import apply

from amorsize_dask.execute.recipe import Piece
from amorsize_dask.lowering.traversal import RUN_FUSED


def function_of(node: GraphNode | Piece) -> Any:
    """Return what a node calls; of a fused task what the last of its tasks calls.

    ``None`` for a node that calls nothing, and for a piece with functions of its own.
    """
    if isinstance(node, Piece):
        functions = node.recipe.functions
        return functions[-1] if functions else None
    while isinstance(node, Task) and node.func is RUN_FUSED:
        tasks, last = node.args[:2]
        node = tasks[last]
    if not isinstance(node, Task):
        return None
    function: Any = node.func
    if function is apply and node.args:
        function = node.args[0]
    return unwrap(function)


def unwrap(function: Any) -> Any:
    """Return the function below partials."""
    while isinstance(function, partial):
        function = function.func
    return function


def look_up(name: str) -> Any:
    """Return the function of a name such as ``"dask.bag.core:finalize"``.

    ``None`` if no one has imported its module so far, or if there is no such name.
    """
    module, path = _split(name)
    found: Any = sys.modules.get(module)
    for part in path:
        found = getattr(found, part, None)
    return found


def find_known(names: tuple[str, ...]) -> Mapping[int, str]:
    """Return what the functions are called that there are of these names, by identity.

    No function comes without a module, so they are looked up again where one was
    imported.
    """
    known, _ = _find_known(names, len(sys.modules))
    return known


@lru_cache(32)
def _find_known(
    names: tuple[str, ...], n_modules: int
) -> tuple[Mapping[int, str], list[Any]]:
    found = {name: look_up(name) for name in names}
    known = {id(one): name for name, one in found.items() if one is not None}
    # Kept alive, since the identity of one that is gone may be that of any other.
    return known, list(found.values())


@cache
def _split(name: str) -> tuple[str, list[str]]:
    module, _, path = name.partition(":")
    return module, path.split(".")
