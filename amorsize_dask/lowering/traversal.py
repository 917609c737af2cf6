"""The part of a graph that the requested keys need, numbered, dependencies first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dask import _expr, _task_spec
from dask._task_spec import (
    Alias,
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    convert_legacy_task,
)

from amorsize_dask.execute.futures import Borrowed, find_future, read_future
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.recipe import Piece

#: Runs the tasks that Dask has fused into one; they are its first argument.
RUN_FUSED = getattr(_task_spec, "_execute_subgraph", None)

#: Gives what it gets another key, so that what it wraps can be taken for it.
RENAME = getattr(getattr(_expr, "ProhibitReuse", None), "_identity", None)

NEW, OPEN, DONE = range(3)


class Traversal:
    """The needed nodes of a graph, by number.

    Numbers are given as nodes are found, from the requested keys downwards. Nothing
    here recurses into dependencies, so a chain may be as long as it likes.

    Parameters
    ----------
    dsk : mapping of key to node
        The whole graph; values that aren't nodes are converted when they are reached.
    wanted : iterable of key
        What the user asked for; what these don't need is left out.

    Attributes
    ----------
    keys, nodes, dependencies : list
        For each number its key, its node, and the numbers that it depends on, each
        once, in the order in which its arguments name them.
    number_of : dict of key to int
        The number of each key.
    wanted : range
        The numbers of what the user asked for, in that order, each once.
    aliases : set of int
        The nodes that are aliases.
    constants : dict of int to object
        The nodes that are data, and their values.
    sequence : list of int
        All numbers, each after its dependencies. Depth first: between the first
        dependency of a node and the node there is only what the node needs.

    Raises
    ------
    KeyError
        If a wanted key isn't in the graph.
    ValueError
        If a dependency isn't.
    RuntimeError
        If keys depend on each other in a circle.
    """

    def __init__(self, dsk: Mapping[Key, Any], wanted: Iterable[Key]) -> None:
        self.keys: list[Key] = list(dict.fromkeys(wanted))
        n = len(self.keys)
        self.wanted = range(n)
        self.nodes: list[GraphNode | Piece] = []
        self.dependencies: list[Sequence[int]] = [()] * n
        self.number_of: dict[Key, int] = dict(zip(self.keys, range(n), strict=True))
        self.aliases: set[int] = set()
        self.constants: dict[int, Any] = {}
        self.sequence: list[int] = []
        self._dsk = dsk
        self._state = bytearray(n)
        for number in self.wanted:
            key = self.keys[number]
            node = self._read(key, number)
            if node is None:
                node = _read_lost(key)
            if node is None:
                raise KeyError(key)
            self.nodes.append(node)
        self._descend(self.wanted)

    def _read(self, key: Key, number: int) -> GraphNode | Piece | None:
        """Return the node of a key, whose number this is; ``None`` if there is none."""
        try:
            node: Any = self._dsk[key]
        except KeyError:
            return None
        kind = type(node)
        if kind is not Piece and (kind is not Task or node.func is RENAME):
            node = _normalize(key, node, self._dsk)
            if isinstance(node, Alias):
                if node.target == key:
                    return None  # As in Dask: what stands for itself doesn't exist.
                self.aliases.add(number)
            elif isinstance(node, DataNode):
                self.constants[number] = node.value
        found: GraphNode | Piece = node
        return found

    def _find(self, key: Key) -> int | None:
        """Give the node of a new key a number; ``None`` if the graph has none."""
        node = self._read(key, len(self.keys))
        return None if node is None else self._append(key, node)

    def _find_future(self, key: Key, user: Key) -> int | None:
        """Give a number to a future that a node refers to, and which is in no graph."""
        for future in list_futures(self._dsk.get(user)):
            if future.key == key:
                return self._append(key, make_reader(key, future))
        node = _read_lost(key)
        return None if node is None else self._append(key, node)

    def _append(self, key: Key, node: GraphNode | Piece) -> int:
        number = len(self.keys)
        self.number_of[key] = number
        self.keys.append(key)
        self.nodes.append(node)
        self.dependencies.append(())
        self._state.append(NEW)
        return number

    def _descend(self, roots: Sequence[int]) -> None:
        nodes, dependencies, state = self.nodes, self.dependencies, self._state
        number_of, sequence = self.number_of, self.sequence
        stack = [*reversed(roots)]
        while stack:
            number = stack[-1]
            if state[number] or not nodes[number].dependencies:
                # Also an open node: it comes up again when what it needs is done.
                stack.pop()
                if state[number] != DONE:
                    state[number] = DONE
                    sequence.append(number)
                continue
            state[number] = OPEN
            found: list[int] = []
            for key in _in_order(nodes[number]):
                dependency = number_of.get(key)
                if dependency is None:
                    dependency = self._find(key)
                    if dependency is None:
                        dependency = self._find_future(key, self.keys[number])
                    if dependency is None:
                        user = self.keys[number]
                        raise ValueError(f"Missing dependency {key!r} of {user!r}")
                elif state[dependency] == OPEN:
                    self._fail_on_circle(stack, dependency)
                found.append(dependency)
            dependencies[number] = found
            stack += [n for n in reversed(found) if state[n] != DONE]

    def _fail_on_circle(self, stack: list[int], first: int) -> None:
        # An open node may lie further down as well, pushed there by another user.
        path = dict.fromkeys(n for n in reversed(stack) if self._state[n] == OPEN)
        circle = [first]
        for number in path:
            circle.append(number)
            if number == first:
                break
        names = [str(self.keys[number]) for number in reversed(circle)]
        raise RuntimeError(
            "Cycle detected between the following keys:\n  -> " + "\n  -> ".join(names)
        )


def _normalize(key: Any, node: Any, dsk: Mapping[Key, Any]) -> GraphNode | Piece:
    """Return a node as we read it: a converted one, or what it is a new name for."""
    if isinstance(node, Piece):
        return node
    if is_future(node):
        return make_reader(key, node)
    if not isinstance(node, GraphNode):
        node = convert_legacy_task(key, node, dsk)
    if isinstance(node, Task) and node.func is RENAME:
        (node,) = node.args
    if isinstance(node, GraphNode):
        return node
    return Alias(key, node.key) if isinstance(node, TaskRef) else DataNode(key, node)


def is_future(value: Any) -> bool:
    """Whether a value is a future of a client's, and no mere reference to a key."""
    return isinstance(value, TaskRef) and hasattr(value, "result")


def make_reader(key: Key, future: Any) -> Task:
    """Return the task that reads a future."""
    return Task(key, read_future, Borrowed(future))


def _read_lost(key: Key) -> Task | None:
    """Return what reads a future of which the graph has nothing but the key, if any.

    Dask takes one for an alias that stands for itself, and leaves it out of graphs that
    it optimizes.
    """
    future = find_future(key)
    return None if future is None else make_reader(key, future)


def list_futures(value: Any) -> list[Any]:
    """Return the futures in a task of any kind, or in a container."""
    found: list[Any] = []
    left = [value]
    while left:
        part = left.pop()
        if is_future(part):
            found.append(part)
        elif isinstance(part, Task):
            left += [*part.args, *part.kwargs.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            left += part
        elif isinstance(part, dict):
            left += part.values()
    return found


def _in_order(node: GraphNode | Piece) -> Iterable[Key]:
    """Return the keys that a node depends on as its arguments name them.

    Nodes keep them as a set, and the hashes of keys are random: without an order of
    its own a bag's partitions would be run in another one each time.
    """
    dependencies: Collection[Key] = node.dependencies
    if len(dependencies) < 2 or isinstance(node, Piece):
        return dependencies
    found: dict[Key, None] = {}
    _collect(node, found)
    if len(found) == len(dependencies):
        return found
    # Keys inside a fused task are no dependencies, and a node of an unknown kind may
    # hide some: the set has the last word.
    named = [key for key in found if key in dependencies]
    return named + [key for key in dependencies if key not in found]


def _collect(node: Any, found: dict[Key, None]) -> None:
    if isinstance(node, Task):
        arguments: Sequence[Any] = node.args
        if node.func is RUN_FUSED:
            # The tasks inside name what they need in their order, which the other
            # arguments don't.
            arguments = list(node.args[0].values())
        for argument in arguments:
            if isinstance(argument, TaskRef):
                found[argument.key] = None
            elif isinstance(argument, GraphNode):
                _collect(argument, found)
        for argument in node.kwargs.values():
            if isinstance(argument, GraphNode | TaskRef):
                _collect(argument, found)
    elif isinstance(node, TaskRef):
        found[node.key] = None
    elif isinstance(node, Alias):
        found[node.target] = None
