"""A piece that is cut: its parts, and what puts their results together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from amorsize_dask.execute.node import Key
from amorsize_dask.execute.recipe import Piece, Recipe


class Part:
    """Some of a piece's items, gone through what takes them one by one.

    Parameters
    ----------
    recipe : Recipe
        One with a cut.
    arguments : sequence
        The piece's own, with some of the items in the place of all.
    """

    __slots__ = ("arguments", "recipe")

    def __init__(self, recipe: Recipe, arguments: Sequence[Any]) -> None:
        self.recipe = recipe
        self.arguments = arguments

    def __call__(self, values: Mapping[Key, Any]) -> list[Any]:
        """Return what is made of the items."""
        return list(self.recipe.start(self.arguments, values))

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.recipe, self.arguments)


class Rest:
    """What is left of a piece of which parts were cut off: the end, and the whole.

    Parameters
    ----------
    piece : Piece
        One whose recipe has a cut.
    start : int
        Items that were cut off; those after them are gone through here.
    keys : sequence of key
        Under which the parts' results are found, in order.
    """

    __slots__ = ("keys", "piece", "start")

    def __init__(self, piece: Piece, start: int = 0, keys: Sequence[Key] = ()) -> None:
        self.piece = piece
        self.start = start
        self.keys = keys

    def __call__(self, values: Mapping[Key, Any]) -> Any:
        """Return the piece's value."""
        recipe = self.piece.recipe
        arguments = _slice(self.piece, self.start, None)
        before = chain.from_iterable(values[key] for key in self.keys)
        items = chain(before, recipe.start(arguments, values))
        return recipe.finish(arguments, values, items)

    def __reduce__(self) -> tuple[Any, ...]:
        piece = Piece(self.piece.recipe, _slice(self.piece, self.start, None))
        return Rest, (piece, 0, self.keys)

    def cut(self, n: int, key: Key) -> tuple[Part, Rest]:
        """Cut off the next `n` items.

        Parameters
        ----------
        n : int
            How many; at most those that are left.
        key : key
            Under which the part's result is going to be found.

        Returns
        -------
        Part, Rest
            The part, and what is left now.
        """
        stop = self.start + n
        part = Part(self.piece.recipe, _slice(self.piece, self.start, stop))
        return part, Rest(self.piece, stop, (*self.keys, key))


def _slice(piece: Piece, start: int, stop: int | None) -> tuple[Any, ...]:
    """Return the arguments of a piece with some of its items."""
    where = piece.recipe.cut
    assert where is not None
    arguments = list(piece.arguments)
    arguments[where.source] = arguments[where.source][start:stop]
    return tuple(arguments)
