"""A task graph as the lanes need it: the core's numbers, and what is behind them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amorsize_dask.core.graph import Graph

#: A Dask key: a string, a number or a tuple of these.
Key = Hashable

#: What runs a task: called with the values of its dependencies by key. Dask's graph
#: nodes are such callables; they are pickled to be sent to a worker.
Node = Callable[[Mapping[Any, Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGraph:
    """A lowered graph.

    Attributes
    ----------
    graph
        The core's view: tasks by number, in the order of their priority.
    keys
        For each task the key under which others find its value.
    nodes
        For each task what runs it.
    arguments
        For each task the keys of the values that its node needs, `constants`
        included.
    constants
        Values that need no running, by key.
    aliases
        Keys that stand for another key: what was asked for under them is found there.
        Targets are keys of tasks or of constants, never aliases themselves.
    stages
        For each stage its name, for people: the prefix of its keys.
    """

    graph: Graph
    keys: Sequence[Key]
    nodes: Sequence[Node]
    arguments: Sequence[Sequence[Key]]
    constants: Mapping[Key, Any]
    aliases: Mapping[Key, Key]
    stages: Sequence[str]

    def stage_name(self, task: int) -> str:
        """Return the name of a task's stage."""
        return self.stages[self.graph.stage_of[task]]
