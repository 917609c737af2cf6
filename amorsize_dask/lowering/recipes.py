"""From an expression of columns to a recipe and the pieces that follow it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from itertools import repeat
from typing import Any

from amorsize_dask.execute.recipe import MAKERS, Piece, Recipe, Step
from amorsize_dask.lowering.columns import (
    Call,
    Column,
    Constant,
    Container,
    Expression,
    Leaf,
    Previous,
    Reference,
)
from amorsize_dask.lowering.functions import look_up

#: Functions that neither change their arguments nor give them to anyone as they are:
#: what they get need not be copied.
_HARMLESS = (
    "builtins:dict.get",
    "builtins:map",
    "builtins:filter",
    "builtins:zip",
    "itertools:starmap",
    "itertools:product",
    "tlz:concat",
    "tlz:pluck",
    "tlz:remove",
    "tlz:take",
    "dask.bag.core:map_chunk",
    "dask.bag.core:safe_take",
    "dask.bag.core:starmap_chunk",
)


def make_pieces(name: str, links: Sequence[Expression], n: int) -> list[Piece]:
    """Make the tasks of a group.

    Parameters
    ----------
    name : str
        For people.
    links : sequence of Expression
        What the tasks do, by column: calls or containers, of which each may take the
        value of the one before.
    n : int
        How many tasks there are.
    """
    compiler = _Compiler()
    for link in links:
        compiler.compile(link)
    columns, keys = compiler.columns, tuple(compiler.keys)
    recipe = Recipe(
        constants=tuple(compiler.constants),
        n_arguments=len(columns),
        references=keys,
        steps=tuple(compiler.number_steps()),
        name=name,
    )
    rows: Any = zip(*columns, strict=True) if columns else repeat((), n)
    if not keys:
        return list(map(Piece, repeat(recipe), rows))
    if len(keys) == 1:
        dependencies: Any = zip(columns[keys[0]], strict=True)
    else:
        found = zip(*(columns[i] for i in keys), strict=True)
        dependencies = (tuple(dict.fromkeys(row)) for row in found)
    return list(map(Piece, repeat(recipe), rows, dependencies))


class _Compiler:
    """Lays an expression out as constants, columns and steps.

    While it works, places are tuples of a kind and a number, since how many constants
    there are isn't known before the end.
    """

    def __init__(self) -> None:
        self.constants: list[Any] = []
        self.columns: list[Sequence[Any]] = []
        #: Which of the columns are keys, in order.
        self.keys: dict[int, None] = {}
        self._steps: list[tuple[Any, list[Any], dict[str, Any]]] = []
        self._numbers: dict[int, int] = {}
        self._previous: Any = None
        self._harmless = {id(look_up(name)) for name in _HARMLESS}

    def compile(self, link: Expression) -> None:
        """Add what a link needs."""
        todo: list[Any] = [link]
        places: list[Any] = []
        while todo:
            part = todo.pop()
            if isinstance(part, Call):
                part = _simplify(part)
                todo.append((part, len(part.arguments), len(part.keywords)))
                todo += [*part.keywords.values()][::-1]
                todo += part.arguments[::-1]
                todo.append(part.function)
            elif isinstance(part, Container):
                todo.append((part, len(part.items), 0))
                todo += part.items[::-1]
            elif isinstance(part, tuple):
                self._add_step(places, *part)
            else:
                places.append(self._add_leaf(part))
        (self._previous,) = places

    def number_steps(self) -> list[Step]:
        """Return the steps with places as numbers."""
        starts = {
            "constant": 0,
            "column": len(self.constants),
            "step": len(self.constants) + len(self.columns),
        }

        def number(place: tuple[str, int]) -> int:
            return starts[place[0]] + place[1]

        steps = []
        for function, positional, keywords in self._steps:
            used = dict.fromkeys([*positional, *keywords.values()])
            steps.append(
                Step(
                    number(function),
                    tuple(map(number, positional)),
                    {name: number(place) for name, place in keywords.items()},
                    tuple(number(p) for p in used if p[0] == "step" or self._is_key(p)),
                )
            )
        return steps

    def _is_key(self, place: tuple[str, int]) -> bool:
        return place[0] == "column" and place[1] in self.keys

    def _add_step(
        self,
        places: list[Any],
        part: Call | Container,
        n_positional: int,
        n_keywords: int,
    ) -> None:
        values = [places.pop() for _ in range(n_positional + n_keywords)][::-1]
        positional, named = values[:n_positional], values[n_positional:]
        if isinstance(part, Container):
            function, keywords = self._add_constant(MAKERS[part.kind]), {}
            positional = self._protect(part.items, positional)
        else:
            function = places.pop()
            keywords = dict(zip(part.keywords, named, strict=True))
            if not self._is_harmless(part.function):
                positional = self._protect(part.arguments, positional)
        self._steps.append((function, positional, keywords))
        places.append(("step", len(self._steps) - 1))

    def _is_harmless(self, function: Expression) -> bool:
        return isinstance(function, Constant) and id(function.value) in self._harmless

    def _protect(self, arguments: list[Expression], places: list[Any]) -> list[Any]:
        """Copy what a function could change: it isn't this task's alone."""
        protected = []
        for argument, place in zip(arguments, places, strict=True):
            copied: Any = None
            if isinstance(argument, Column) and argument.is_source:
                copied = list
            elif isinstance(argument, Constant):
                kind = type(argument.value)
                copied = kind if kind in (list, dict, set) else None
            if copied is not None:
                self._steps.append((self._add_constant(copied), [place], {}))
                place = ("step", len(self._steps) - 1)
            protected.append(place)
        return protected

    def _add_leaf(self, leaf: Leaf) -> Any:
        match leaf:
            case Constant(value):
                return self._add_constant(value)
            case Column(values):
                self.columns.append(values)
            case Reference(keys):
                self.keys[len(self.columns)] = None
                self.columns.append(keys)
            case Previous():
                return self._previous
        return ("column", len(self.columns) - 1)

    def _add_constant(self, value: Any) -> Any:
        number = self._numbers.setdefault(id(value), len(self.constants))
        if number == len(self.constants):
            self.constants.append(value)
        return ("constant", number)


def _simplify(call: Call) -> Call:
    """Return the call of a faster function that does the same.

    Dask's `map_chunk` iterates in Python and makes sure that bags are of the same
    length. With one bag, whatever is repeated beside it, that is the builtin `map`.
    """
    map_chunk = getattr(sys.modules.get("dask.bag.core"), "map_chunk", None)
    match call:
        case Call(
            Constant(function),
            [
                Constant(mapped),
                Container(_, iterables),
                Constant(None),
                Constant(kwargs),
            ],
        ) if function is map_chunk and map_chunk is not None:
            if sum(not _is_repeat(iterable) for iterable in iterables) == 1:
                mapped = partial(mapped, **kwargs) if kwargs else mapped
                return Call(Constant(map), [Constant(mapped), *iterables])
    return call


def _is_repeat(expression: Expression) -> bool:
    match expression:
        case Call(Constant(function), [_]):
            return function is repeat
    return False
