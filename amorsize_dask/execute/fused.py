"""Several nodes that run as one task, wherever that is.

What a node raises leaves the task as itself. If it isn't the last node a note says
which it is, since the task goes by the last one's key.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from time import perf_counter, thread_time
from typing import Any

from amorsize_dask.execute.node import Key, Node
from amorsize_dask.measure.clock import RunDelay, count_computing_s

#: Seconds by the wall clock, of computing, and without a core.
_Times = tuple[float, float, float]


class _Measured(threading.local):
    """What is being measured in this thread."""

    #: For each chain that has run the seconds and CPU seconds of its links, if anyone
    #: wants to know.
    links: list[list[tuple[float, float]]] | None = None
    #: The thread's own.
    delay: RunDelay | None = None


_measured = _Measured()


@contextmanager
def links_measured(delay: RunDelay) -> Iterator[list[list[tuple[float, float]]]]:
    """Measure the links of the chains that run in this thread.

    Time without a core counts as the rest of a link's time does.

    Yields
    ------
    list
        For each chain that has run, for each link its seconds and CPU seconds.
    """
    found: list[list[tuple[float, float]]] = []
    _measured.links, _measured.delay = found, delay
    try:
        yield found
    finally:
        _measured.links = _measured.delay = None


class Chain:
    """Nodes that run one after the other, each on the value of the one before alone.

    Parameters
    ----------
    keys : sequence of key
        For each node the key under which the next one finds its value.
    nodes : sequence of callable
        The nodes, any number of them. The first may need several values.
    """

    __slots__ = ("keys", "nodes")

    def __init__(self, keys: Sequence[Key], nodes: Sequence[Node]) -> None:
        self.keys = keys
        self.nodes = nodes

    def __call__(self, values: Mapping[Key, Any]) -> Any:
        """Run the nodes; `values` has what the first one needs."""
        key: Key = None
        value: Any = None
        links = _measured.links
        times = [] if links is None else [_now()]
        try:
            for key, node in zip(self.keys, self.nodes, strict=True):
                value = node(values)
                # Nothing here holds what went into the node any longer.
                values = {key: value}
                if times:
                    times.append(_now())
        except BaseException as error:
            _note(error, key, self.keys[-1])
            raise
        if links is not None:
            links.append([_measure_link(start, end) for start, end in pairwise(times)])
        return value

    def split(self, n_links: int) -> tuple[Node, Node, Key]:
        """Return the first links and the others, and the key of the value between."""
        first, second = (
            nodes[0] if len(nodes) == 1 else Chain(keys, nodes)
            for keys, nodes in (
                (self.keys[:n_links], self.nodes[:n_links]),
                (self.keys[n_links:], self.nodes[n_links:]),
            )
        )
        return first, second, self.keys[n_links - 1]


def _measure_link(start: _Times, end: _Times) -> tuple[float, float]:
    seconds, cpu_s, delay_s = (b - a for a, b in zip(start, end, strict=True))
    return seconds, count_computing_s(seconds, cpu_s, delay_s)


def _now() -> _Times:
    delay = _measured.delay
    assert delay is not None
    return perf_counter(), thread_time(), delay.read_s()


class Subgraph:
    """Nodes that run one after the other, on values of any of those before.

    Parameters
    ----------
    keys : sequence of key
        For each node the key under which the others find its value.
    nodes : sequence of callable
        The nodes, each after those that it needs. The last one's value is the task's.
    spent : sequence of sequence of key
        For each node the keys among these whose values it is the last to need.
    """

    __slots__ = ("keys", "nodes", "spent")

    def __init__(
        self,
        keys: Sequence[Key],
        nodes: Sequence[Node],
        spent: Sequence[Sequence[Key]],
    ) -> None:
        self.keys = keys
        self.nodes = nodes
        self.spent = spent

    def __call__(self, values: Mapping[Key, Any]) -> Any:
        """Run the nodes; `values` has what they need from elsewhere."""
        known = dict(values)
        key: Key = None
        try:
            for key, node, spent in zip(self.keys, self.nodes, self.spent, strict=True):
                known[key] = node(known)
                for gone in spent:
                    del known[gone]
        except BaseException as error:
            _note(error, key, self.keys[-1])
            raise
        return known[key]


class Call:
    """A task whose nodes are shared by others, on inputs of its own.

    Parameters
    ----------
    body : callable
        The shared nodes.
    inputs : sequence of tuple
        Under which key they find what: keys, and what gets the values.
    """

    __slots__ = ("body", "inputs")

    def __init__(self, body: Node, inputs: Sequence[tuple[Key, Node]]) -> None:
        self.body = body
        self.inputs = inputs

    def __call__(self, values: Mapping[Key, Any]) -> Any:
        """Run the nodes; `values` has what the inputs need."""
        return self.body({key: node(values) for key, node in self.inputs})


def find_leaves(node: Node) -> Iterator[Node]:
    """Yield the nodes that one is made of, down to those made of no others."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if type(one) is Chain or type(one) is Subgraph:
            waiting += reversed(one.nodes)
        elif type(one) is Call:
            waiting.append(one.body)
        else:
            yield one


def _note(error: BaseException, key: Key, last: Key) -> None:
    if key != last:
        # An exception that takes no notes must still arrive as itself.
        with suppress(Exception):
            error.add_note(f"amorsize: raised by {key!r}, a part of {last!r}")
