"""A piece that is cut: its parts, and what puts their results together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
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
        return list(self.recipe.start(self.arguments, values))

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.recipe, self.arguments)


class Rest:
    """What is left of a piece of which parts were cut off: the end, and the whole.

    Parameters
    ----------
    part : Part
        The items that no other part has; they are gone through here.
    keys : sequence of key
        Under which the results of the parts before are found, in order.
    """

    __slots__ = ("keys", "part")

    def __init__(self, part: Part, keys: Sequence[Key]) -> None:
        self.part = part
        self.keys = keys

    def __call__(self, values: Mapping[Key, Any]) -> Any:
        """Return the piece's value."""
        recipe, arguments = self.part.recipe, self.part.arguments
        before = chain.from_iterable(values[key] for key in self.keys)
        items = chain(before, recipe.start(arguments, values))
        return recipe.finish(arguments, values, items)

    def __reduce__(self) -> tuple[Any, ...]:
        return Rest, (self.part, self.keys)


def cut(piece: Piece | Part, n: int) -> tuple[Part, Part]:
    """Cut the first `n` items off a piece or a part; return both parts.

    Parameters
    ----------
    piece : Piece or Part
        One whose recipe has a cut.
    n : int
        Items of the first part, 0 to all.
    """
    where = piece.recipe.cut
    assert where is not None
    source = piece.arguments[where.source]
    before = tuple(piece.arguments[: where.source])
    after = tuple(piece.arguments[where.source + 1 :])
    first, second = (
        Part(piece.recipe, (*before, items, *after))
        for items in (source[:n], source[n:])
    )
    return first, second
