"""Other partitions for a bag, where nobody can tell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.recipe import Piece, Recipe
from amorsize_dask.lowering import read
from amorsize_dask.lowering.partitions import find_partitions, is_bag


def apply_partitions(bag: Any, size: int) -> Any:
    """Return a bag in partitions of a size; itself if that could be noticed.

    It couldn't for a bag made of a list, and for what takes each item by itself
    afterwards. A function that is given whole partitions would be given others.

    Raises
    ------
    ArgumentError
        If it is no bag.
    """
    if not is_bag(bag):
        raise ArgumentError("bag", bag, "expected a dask.bag.Bag")
    dsk, keys = find_partitions(bag)
    tasks = read(dsk, keys)
    from dask.bag import from_sequence

    if not tasks.nodes:
        parts = [tasks.constants.get(key) for key in keys]
        if not all(isinstance(part, list) for part in parts):
            return bag
        items = list(chain.from_iterable(parts))  # type: ignore[arg-type]
        return from_sequence(items, partition_size=size)
    number_of = {key: task for task, key in enumerate(tasks.keys)}
    nodes = [tasks.nodes[number_of[key]] for key in keys if key in number_of]
    pieces = [node for node in nodes if type(node) is Piece]
    if len(pieces) < len(tasks.nodes) or len(pieces) != len(keys):
        return bag
    first, *others = pieces
    if not _is_elementwise(first.recipe) or not all(
        _is_alike(first, other) for other in others
    ):
        return bag
    source = first.recipe.cut.source  # type: ignore[union-attr]
    items = list(chain.from_iterable(piece.arguments[source] for piece in pieces))
    chained = _Chain(first.recipe, first.arguments, source)
    made = from_sequence(items, partition_size=size)
    return made.map_partitions(chained)


class _Chain:
    """What all pieces of a bag's chain go through, for other partitions than theirs."""

    def __init__(self, recipe: Recipe, arguments: Sequence[Any], source: int) -> None:
        self._recipe = recipe
        # The items themselves go with each partition.
        self._arguments = [
            None if i == source else argument for i, argument in enumerate(arguments)
        ]
        self._source = source
        self.__name__ = recipe.name

    def __call__(self, items: Any) -> Any:
        arguments = list(self._arguments)
        arguments[self._source] = items
        return self._recipe.run(arguments, {})


def _is_elementwise(recipe: Recipe) -> bool:
    """Whether nothing but the making of a list sees more than one item."""
    if recipe.cut is None or recipe.references:
        return False
    after = recipe.functions[recipe.cut.n_steps :]
    n_after = len(recipe.steps) - recipe.cut.n_steps
    return len(after) == n_after and all(_makes_list(function) for function in after)


def _makes_list(function: Any) -> bool:
    return function is list or getattr(function, "__name__", "") == "reify"


def _is_alike(one: Piece, other: Piece) -> bool:
    """Whether two pieces differ in their items alone."""
    if one.recipe is not other.recipe:
        return False
    source = one.recipe.cut.source  # type: ignore[union-attr]
    return all(
        i == source or a is b
        for i, (a, b) in enumerate(zip(one.arguments, other.arguments, strict=True))
    )
