"""How large an item is, where that is quickly seen: mostly that tells what it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

#: Numbers from which on, and below one over which, one is no size. Smaller: what takes
#: long for being large isn't seen; larger: squares of sizes don't fit into a float.
MOST = 1e100


def find_measure(items: Sequence[Any]) -> Callable[[Any], float] | None:
    """Return what measures such items, going by the first; ``None`` if nothing does.

    Of files it is their bytes, of containers and texts their lengths, of arrays their
    bytes; numbers are their own size.
    """
    first = items[0]
    if isinstance(first, bool):
        return None
    if isinstance(first, int | float):
        return float
    if isinstance(first, str | os.PathLike):
        try:
            is_file = os.path.isfile(first)
        except ValueError:
            is_file = False  # a text with a null in it
        if is_file:
            return size_of_file
        return len if isinstance(first, str) else None
    # By their types: images make a copy when they are asked, and mappings whose keys
    # are attributes raise what they do for a key.
    if all(hasattr(type(first), name) for name in ("__array_interface__", "nbytes")):
        return _size_of_array
    if isinstance(first, bytes | bytearray | list | tuple | dict | set | frozenset):
        return len
    return None


def measure_items(
    items: Sequence[Any], find: Callable[[Any], float]
) -> list[float] | None:
    """Return what `find` says of each item; ``None`` if one isn't like the others."""
    try:
        sizes = list(map(find, items))
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return sizes if all(map(_is_size, sizes)) else None


def _is_size(number: float) -> bool:
    return not number or 1 / MOST < abs(number) < MOST


def size_of_file(path: Any) -> float:
    """Return the bytes of a file.

    Raises
    ------
    OSError
        If there is none.
    """
    return os.stat(path).st_size


def _size_of_array(array: Any) -> float:
    return float(array.nbytes)
