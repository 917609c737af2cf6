"""A task graph as the lanes need it: the core's numbers, and what is behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from amorsize_dask.core.graph import Graph
from amorsize_dask.execute.fused import Chain
from amorsize_dask.execute.node import Key, Node
from amorsize_dask.execute.parts import Rest
from amorsize_dask.execute.recipe import Piece


@dataclass(slots=True, kw_only=True)
class TaskGraph:
    """A lowered graph. While it runs, only its own methods change it.

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
    stage_of
        For each task the number of its stage.
    retries
        How often a task is run again that has raised, where the user has said it.
    """

    graph: Graph
    keys: list[Key]
    nodes: list[Node]
    arguments: list[Sequence[Key]]
    constants: Mapping[Key, Any]
    aliases: Mapping[Key, Key]
    stages: Sequence[str]
    retries: dict[int, int] = field(default_factory=dict)

    stage_of: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        stage_of = self.graph.stage_of
        self.stage_of = list(stage_of) if self.graph.may_grow else stage_of

    def stage_name(self, task: int) -> str:
        """Return the name of a task's stage."""
        return self.stages[self.stage_of[task]]

    def add(self, key: Key, node: Node, arguments: Sequence[Key], stage: int) -> int:
        """Add a task to a graph that is open; return its number."""
        self.keys.append(key)
        self.nodes.append(node)
        self.arguments.append(arguments)
        cast(list[int], self.stage_of).append(stage)
        return len(self.keys) - 1

    def forget(self, task: int) -> None:
        """Let go of what a finished task was run with."""
        self.nodes[task] = _run_nothing
        self.arguments[task] = ()

    def split(self, task: int, part: int, n_links: int) -> None:
        """Make a task of the first links of a chain; the chain keeps the others."""
        assert part == len(self.keys)
        first, second, key = cast(Chain, self.nodes[task]).split(n_links)
        self.keys.append(key)
        self.nodes.append(first)
        self.arguments.append(self.arguments[task])
        stage_of = cast(list[int], self.stage_of)
        stage = self.stage_of[task]
        stage_of.append(stage)
        stage_of[task] = self.graph.tail_stage[stage]
        self._share_retries(task, part)
        self.nodes[task] = second
        self.arguments[task] = [key]

    def cut(self, task: int, part: int, n_items: int) -> None:
        """Make a task of the first items that another one still has.

        Parameters
        ----------
        task : int
            One whose node is a piece that can be cut, or what is left of one.
        part : int
            The new task's number.
        n_items : int
            How many items it gets, 1 or more and at most those that are left.
        """
        assert part == len(self.keys)
        node = self.nodes[task]
        rest = node if isinstance(node, Rest) else Rest(cast(Piece, node))
        own = self.arguments[task][: len(self.arguments[task]) - len(rest.keys)]
        key = ("amorsize-part", part)
        new, rest = rest.cut(n_items, key)
        self.keys.append(key)
        self.nodes.append(new)
        self.arguments.append(own)
        cast(list[int], self.stage_of).append(self.stage_of[task])
        self._share_retries(task, part)
        self.nodes[task] = rest
        self.arguments[task] = [*own, *rest.keys]

    def _share_retries(self, task: int, part: int) -> None:
        if task in self.retries:
            self.retries[part] = self.retries[task]


def _run_nothing(_: Mapping[Any, Any]) -> NoReturn:
    raise AssertionError("a finished task is run again")
