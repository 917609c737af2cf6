"""Making one task of several nodes, those that Dask has fused included."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef

from amorsize_dask.execute.fused import Call, Chain, Subgraph
from amorsize_dask.execute.node import Key, Node
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.lowering.recipes import Calls
from amorsize_dask.lowering.traversal import RUN_FUSED


def fuse(keys: list[Key], nodes: list[GraphNode | Piece], unfuser: Unfuser) -> Node:
    """Make one task of nodes that stand in an order in which they can run."""
    if _is_chain(keys, nodes):
        return Chain(keys, [unfuser.convert(node) for node in nodes])
    own = set(keys)
    spent: list[Sequence[Key]] = []
    for node in reversed(nodes):
        last = own.intersection(node.dependencies)
        own -= last
        spent.append(tuple(last))
    spent.reverse()
    return Subgraph(keys, [unfuser.convert(node) for node in nodes], spent)


def _is_chain(keys: list[Key], nodes: list[GraphNode | Piece]) -> bool:
    """Whether each node needs the one before and nothing else."""
    for i in range(1, len(nodes)):
        needed = nodes[i].dependencies
        if len(needed) != 1 or keys[i - 1] not in needed:
            return False
    return True


class Unfuser:
    """Makes our fused tasks of Dask's, which work out their order each time they run.

    That takes some 100 µs a task, longer than many a task itself.
    """

    def __init__(self) -> None:
        # By identity: all tasks of an array's layer share the nodes.
        self._bodies: dict[tuple[int, Key], Node] = {}
        self._calls = Calls()

    def convert(self, node: GraphNode | Piece) -> Node:
        """Return what runs as the node does, and costs less.

        Of a single call it is a piece, of a task that Dask has fused one of our own.
        """
        if type(node) is Task and node.func is not RUN_FUSED:
            return self._calls.convert(node) or node
        if not isinstance(node, Task) or node.func is not RUN_FUSED:
            return node
        nodes, last, names, *arguments = node.args
        body = self._bodies.get((id(nodes), last))
        if body is None:
            body = self._bodies[id(nodes), last] = self._make_body(nodes, last)
        inputs = [
            (name, _as_node(name, argument))
            for name, argument in zip(names, arguments, strict=True)
        ]
        if all(isinstance(n, Alias) and n.target == name for name, n in inputs):
            return body
        return Call(body, inputs)

    def _make_body(self, nodes: Mapping[Key, GraphNode], last: Key) -> Node:
        if isinstance(nodes[last], Alias):
            nodes = {**nodes, last: _keep_list(nodes, last)}
        keys = list(nodes)
        if keys[-1] != last or not _is_sorted(nodes):
            keys = _sort(nodes, last)
        return fuse(keys, [nodes[key] for key in keys], self)


def _keep_list(nodes: Mapping[Key, GraphNode], last: Key) -> GraphNode:
    """Return a node that is an alias, or what makes a list of the iterator behind it.

    Inside of fused tasks Dask's bags leave out what makes lists, and the keys of tasks
    with it, since only the next task needs the iterator. But where an alias comes last
    several tasks may, and all but the first would find it used up.
    """
    node: GraphNode | None = nodes[last]
    while isinstance(node, Alias):
        target = node.target
        node = nodes.get(target)
    if getattr(node, "key", last) is None:
        return Task(last, sys.modules["dask.bag.core"].reify, TaskRef(target))
    return nodes[last]


def _as_node(name: Any, argument: Any) -> GraphNode:
    if isinstance(argument, TaskRef):
        return Alias(name, argument.key)
    if isinstance(argument, GraphNode):
        return argument
    return DataNode(name, argument)


def _is_sorted(nodes: Mapping[Key, GraphNode]) -> bool:
    """Whether all nodes stand after those that they need, as mostly they do."""
    left = set(nodes)
    for key, node in nodes.items():
        if not left.isdisjoint(node.dependencies):
            return False
        left.remove(key)
    return True


def _sort(nodes: Mapping[Key, GraphNode], last: Key) -> list[Key]:
    """Return the keys of nodes, each after those that it needs, `last` at the end."""
    needed = {key: node.dependencies & nodes.keys() for key, node in nodes.items()}
    keys = list(TopologicalSorter(needed).static_order())
    return keys[: keys.index(last) + 1]
