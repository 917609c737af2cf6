"""A piece that is cut: its parts, and what puts their results together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from amorsize_dask.execute.graph import Key
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
        return self.recipe.start(self.arguments, values)

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.recipe, self.arguments)


class Joint:
    """What is left of a piece once its parts are done.

    Parameters
    ----------
    piece : Piece
        The piece.
    keys : sequence of key
        Under which the parts' results are found, in order.
    """

    __slots__ = ("keys", "piece")

    def __init__(self, piece: Piece, keys: Sequence[Key]) -> None:
        self.piece = piece
        self.keys = keys

    def __call__(self, values: Mapping[Key, Any]) -> Any:
        """Return the piece's value."""
        items = list(chain.from_iterable(values[key] for key in self.keys))
        return self.piece.recipe.finish(self.piece.arguments, values, items)

    def __reduce__(self) -> tuple[Any, ...]:
        return Joint, (self.piece, self.keys)


def cut(piece: Piece, sizes: Sequence[int]) -> list[Part]:
    """Cut a piece into parts.

    Parameters
    ----------
    piece : Piece
        One with items.
    sizes : sequence of int
        How many items each part gets; together all that the piece has.
    """
    where = piece.recipe.cut
    assert where is not None
    source = piece.arguments[where.source]
    bounds = [0]
    for size in sizes:
        bounds.append(bounds[-1] + size)
    assert bounds[-1] == len(source)
    before = tuple(piece.arguments[: where.source])
    after = tuple(piece.arguments[where.source + 1 :])
    return [
        Part(piece.recipe, (*before, source[start:stop], *after))
        for start, stop in pairwise(bounds)
    ]
