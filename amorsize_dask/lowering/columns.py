"""Reading many alike tasks at once: what they share, and a column of what differs.

The tasks of a bag's layer differ in little: ``(reify, (map_chunk, f, [("x", 3)], None,
{}))`` in the 3. They are read side by side, as the columns of a table: where a column
has the same object in every row it is a constant, where it has keys it is a reference.
So a layer of ten thousand tasks becomes one expression, at the speed of `zip`.

Values mean what they mean to Dask: in tuples that start with a callable, which are
tasks of the old kind, a value that equals a key stands for that key's value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import is_, itemgetter
from typing import Any

from dask._task_spec import (
    Alias,
    DataNode,
    Dict,
    GraphNode,
    List,
    Set,
    Task,
    TaskRef,
    Tuple,
)

from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.traversal import RUN_FUSED

#: Items of a container from which on it is looked at as a whole, before one by one.
#: Smaller: short ones are looked at twice; larger: literal data is walked item by item.
LONG = 16

#: Arguments above which few tasks are left to Dask's own nodes. Smaller: reductions of
#: many partitions are; larger: a concatenation of thousands of partitions becomes as
#: many columns of one row.
WIDE = 64

#: Types of which nothing can be a key, a task or a container of these.
_PLAIN = frozenset({type(None), bool, complex, bytes, bytearray})


class UnreadableError(Exception):
    """These tasks can't be read as one expression."""


@dataclass(slots=True)
class Constant:
    """The same value in all rows."""

    value: Any


@dataclass(slots=True)
class Column:
    """A value of its own in each row."""

    values: Sequence[Any]
    #: Whether these are the partitions of a sequence, which no one may change.
    is_source: bool = False


@dataclass(slots=True)
class Reference:
    """In each row the value of a key."""

    keys: Sequence[Key]


@dataclass(slots=True)
class Previous:
    """In each row the value of the link before, in a chain."""


@dataclass(slots=True)
class Call:
    """In each row a call of a function."""

    function: Expression
    arguments: list[Expression]
    keywords: dict[str, Expression] = field(default_factory=dict)


@dataclass(slots=True)
class Container:
    """In each row a container of values; a dict's keys and values in turn."""

    kind: type
    items: list[Expression]


Leaf = Constant | Column | Reference | Previous
Expression = Leaf | Call | Container


def leaves(expression: Expression) -> Iterator[Leaf]:
    """Yield what an expression is made from, in order."""
    stack = [expression]
    while stack:
        match stack.pop():
            case Call(function, arguments, keywords):
                stack += [*keywords.values()][::-1]
                stack += arguments[::-1]
                stack.append(function)
            case Container(_, items):
                stack += items[::-1]
            case leaf:
                yield leaf


def references(expression: Expression) -> list[Reference]:
    """Return the references in an expression, in order."""
    return [leaf for leaf in leaves(expression) if isinstance(leaf, Reference)]


def select(expression: Expression, rows: Sequence[int]) -> Expression:
    """Return an expression of some of the rows."""
    match expression:
        case Column(values, is_source):
            return Column([values[row] for row in rows], is_source)
        case Reference(keys):
            return Reference([keys[row] for row in rows])
        case Call(function, arguments, keywords):
            return Call(
                select(function, rows),
                [select(argument, rows) for argument in arguments],
                {name: select(value, rows) for name, value in keywords.items()},
            )
        case Container(kind, items):
            return Container(kind, [select(item, rows) for item in items])
    return expression


class Reader:
    """Reads columns of values.

    Parameters
    ----------
    keys : mapping or set
        All keys of the graph.
    """

    def __init__(self, keys: Mapping[Key, Any]) -> None:
        self._keys = keys
        kinds = set(map(type, keys))
        self._plain = _PLAIN - kinds
        if not any(issubclass(kind, int | float) for kind in kinds):
            # A key may be of one of these types and a value that equals it of another.
            self._plain |= {int, float}

    def read(self, values: Sequence[Any]) -> Expression:
        """Read one value for each row.

        Raises
        ------
        UnreadableError
            If the rows differ in more than literals and keys, or have something of
            which it isn't known what it means.
        """
        first = values[0]
        n = len(values)
        if n > 1:
            if all(map(is_, values, repeat(first))):
                return self._repeat(self.read([first]), n)
            if not all(map(is_, map(type, values), repeat(type(first)))):
                return self._read_mixed(values)
        if isinstance(first, GraphNode | TaskRef):
            return self._read_nodes(values)
        kind = type(first)
        if kind in self._plain:
            return self._make_leaf(values)
        if kind is tuple:
            heads = [value[0] for value in values if value]
            are_called = set(map(callable, heads))
            if are_called == {True} and len(heads) == n:
                return self._read_tasks(values)
            if True in are_called:
                raise UnreadableError
        if kind in (int, float, str, tuple):
            if self._are_keys(values):
                return Reference(values)
            if any(map(self.is_key, values)):
                raise UnreadableError
        if kind in (list, tuple):
            return self._read_containers(kind, values)
        if kind is dict:
            return self._read_dicts(values)
        if kind in (set, frozenset) or not _is_opaque(first):
            if not all(map(self.is_plain, values)):
                raise UnreadableError
            return self._make_leaf(values)
        raise UnreadableError

    # -- tasks ----------------------------------------------------------------------

    def _read_tasks(self, values: Sequence[tuple[Any, ...]]) -> Expression:
        lengths = set(map(len, values))
        if len(lengths) > 1 or max(lengths) > max(WIDE, len(values)):
            raise UnreadableError
        functions, *arguments = _transpose(values)
        return Call(
            self._read_functions(functions),
            [self.read(argument) for argument in arguments],
        )

    def _read_functions(self, functions: Sequence[Any]) -> Expression:
        first = functions[0]
        if all(map(is_, functions, repeat(first))):
            return Constant(first)
        if all(map(callable, functions)):
            return Column(functions)
        raise UnreadableError

    def _read_nodes(self, nodes: Sequence[Any]) -> Expression:
        kind = type(nodes[0])
        if not all(map(is_, map(type, nodes), repeat(kind))):
            raise UnreadableError
        if kind is TaskRef:
            return Reference([node.key for node in nodes])
        if kind is Alias:
            return Reference([node.target for node in nodes])
        if kind is DataNode:
            return self._make_leaf([node.value for node in nodes])
        if kind in (List, Tuple, Set, Dict):
            made = dict if kind is Dict else kind.klass
            return Container(made, self._read_arguments([n.args for n in nodes]))
        if kind is not Task:
            raise UnreadableError
        names = list(nodes[0].kwargs)
        if any(node.func is RUN_FUSED or list(node.kwargs) != names for node in nodes):
            raise UnreadableError
        keywords = self._read_arguments([tuple(n.kwargs.values()) for n in nodes])
        return Call(
            self._read_functions([node.func for node in nodes]),
            self._read_arguments([node.args for node in nodes]),
            dict(zip(names, keywords, strict=True)),
        )

    def _read_arguments(self, arguments: Sequence[Sequence[Any]]) -> list[Expression]:
        """Read what nodes have for arguments: what isn't a node itself is data."""
        lengths = set(map(len, arguments))
        if len(lengths) > 1 or max(lengths) > max(WIDE, len(arguments)):
            raise UnreadableError
        found: list[Expression] = []
        for column in _transpose(arguments):
            first = column[0]
            if len(column) > 1 and all(map(is_, column, repeat(first))):
                (shared,) = self._read_arguments([[first]])
                found.append(self._repeat(shared, len(column)))
            elif isinstance(first, GraphNode | TaskRef):
                found.append(self._read_nodes(column))
            elif any(isinstance(value, GraphNode | TaskRef) for value in column):
                raise UnreadableError
            else:
                found.append(self._make_leaf(column))
        return found

    # -- data -----------------------------------------------------------------------

    def _read_mixed(self, values: Sequence[Any]) -> Expression:
        if all(map(self.is_plain, values)):
            return Column(values)
        raise UnreadableError

    def _read_containers(self, kind: type, values: Sequence[Any]) -> Expression:
        lengths = set(map(len, values))
        is_long = max(lengths) >= LONG
        if (is_long or len(lengths) > 1) and all(map(self.is_plain, values)):
            return self._make_leaf(values)
        if len(lengths) > 1 or (is_long and max(lengths) > max(WIDE, len(values))):
            raise UnreadableError
        items = [self.read(column) for column in _transpose(values)]
        if all(isinstance(item, Constant | Column) for item in items):
            return self._make_leaf(values)
        return Container(kind, items)

    def _read_dicts(self, values: Sequence[dict[Any, Any]]) -> Expression:
        """Read dicts, of which only values that are nodes mean something."""
        if all(map(self.is_plain, values)):
            return self._make_leaf(values)
        names = list(values[0])
        if any(list(value) != names for value in values):
            raise UnreadableError
        columns = self._read_arguments([tuple(value.values()) for value in values])
        items: list[Expression] = []
        for name, column in zip(names, columns, strict=True):
            items += [Constant(name), column]
        return Container(dict, items)

    def is_plain(self, value: Any) -> bool:
        """Whether a value is data and nothing in it means anything else."""
        kind = type(value)
        if kind in self._plain:
            return True
        if kind in (int, float, str):
            return not self.is_key(value)
        if kind is dict:
            return not any(isinstance(v, GraphNode | TaskRef) for v in value.values())
        if kind not in (list, tuple, set, frozenset):
            return not _is_opaque(value)
        if set(map(type, value)) <= self._plain:
            return True
        if kind is tuple and ((value and callable(value[0])) or self.is_key(value)):
            return False
        return all(map(self.is_plain, value))

    def _are_keys(self, values: Sequence[Any]) -> bool:
        try:
            return all(map(self._keys.__contains__, values))
        except TypeError:
            return False

    def is_key(self, value: Any) -> bool:
        """Whether a value is a key of the graph."""
        try:
            return value in self._keys
        except TypeError:
            return False

    def _make_leaf(self, values: Sequence[Any]) -> Expression:
        first = values[0]
        is_same = all(map(is_, values, repeat(first)))
        return Constant(first) if is_same else Column(values)

    @staticmethod
    def _repeat(expression: Expression, n: int) -> Expression:
        """Return the expression of one row for `n` rows."""
        return select(expression, [0] * n)


def _is_opaque(value: Any) -> bool:
    """Whether Dask does more with a value than to pass it on."""
    # It takes named tuples apart, and waits for futures.
    return isinstance(
        value, GraphNode | TaskRef | list | tuple | set | frozenset | dict
    ) or bool(getattr(value, "__dask_future__", False))


def _transpose(rows: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
    """Yield the columns of rows that are of one length.

    With `zip` there would be an iterator for each row.
    """
    for i in range(len(rows[0])):
        yield list(map(itemgetter(i), rows))
