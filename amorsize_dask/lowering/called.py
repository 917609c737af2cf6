"""What a node of Dask's calls, with all that is inside of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dask._task_spec import GraphNode, Task

from amorsize_dask.lowering.traversal import RUN_FUSED


def find_called(node: Any) -> Iterator[Callable[..., Any]]:
    """Yield the functions that a node calls, or is given to call, outermost first.

    Parameters
    ----------
    node : object
        A node as a Dask scheduler has it. What is none has no functions.
    """
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Task):
            if one.func is RUN_FUSED:
                # The tasks inside say what is done; the others are what they need.
                waiting += reversed(list(one.args[0].values()))
                continue
            yield one.func
            waiting += reversed((*one.args, *one.kwargs.values()))
        elif callable(one) and not isinstance(one, GraphNode):
            yield one
