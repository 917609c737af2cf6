"""How large the items of tasks are, for the core to compare with what those take."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from time import perf_counter
from typing import Any

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.parts import Part, Rest
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.measure.item_size import find_measure, measure_items

#: Items that are looked at. Smaller: of large tasks a few items decide; larger: it
#: takes milliseconds.
MOST_ITEMS = 1000

#: Seconds after which it is given up. Smaller: a machine that is busy sees no sizes;
#: larger: files of a slow disk, which have to be asked for theirs, hold up a run.
MOST_S = 0.005


def weigh(tasks: TaskGraph, stage: int) -> dict[int, float]:
    """Return by task how large the items of a stage's tasks are together.

    Empty if tasks aren't shares of a list, or items are of several kinds, of one that
    has no size that is quickly seen, or all of one size.
    """
    items_of: dict[int, Sequence[Any]] = {}
    for task, number in enumerate(tasks.stage_of):
        if number == stage:
            items = _find_items(tasks.nodes[task])
            if items is None:
                return {}
            if len(items):
                items_of[task] = items
    if not items_of:
        return {}
    most = max(1, MOST_ITEMS // len(items_of))
    find = find_measure(next(iter(items_of.values())))
    sizes: dict[int, float] = {}
    end = perf_counter() + MOST_S
    seen: set[float] = set()
    kinds: set[type] = set()
    for task, items in items_of.items():
        if find is None or perf_counter() > end:
            return {}
        step = ceil(len(items) / most)
        # From another place in each, so that no period of the data is met.
        some = items[task % step :: step]
        kinds.update(map(type, some))
        found = measure_items(some, find)
        if found is None or len(kinds) > 1:
            return {}
        seen.update(found)
        sizes[task] = len(items) * sum(found) / len(found)
    return sizes if len(seen) > 1 else {}


def _find_items(node: Any) -> Sequence[Any] | None:
    """Return the items that a task still has for itself, if it is one of a list."""
    if isinstance(node, Rest):
        items = _find_items(node.piece)
        return None if items is None else items[node.start :]
    if not isinstance(node, Piece | Part) or node.recipe.cut is None:
        return None
    items = node.arguments[node.recipe.cut.source]
    return items if isinstance(items, list | tuple | range) else None
