"""A short text for a result, by which those of different runners are compared."""

from __future__ import annotations

from hashlib import sha256
from typing import Any


def digest(value: Any) -> str:
    """Return a hash of a result.

    Lists and tuples are the same, dicts and sets have no order, and NumPy's numbers are
    Python's. Floats are compared by nine digits, since sums are taken in other orders.

    Parameters
    ----------
    value : object
        None, numbers, text, bytes, arrays, and lists, tuples, sets and dicts of these.

    Returns
    -------
    str
        Hexadecimal digits.

    Raises
    ------
    TypeError
        For a value of another kind.
    """
    if isinstance(value, list | tuple):
        return _hash("list", *map(digest, value))
    if isinstance(value, dict):
        items = (digest(item) for item in value.items())
        return _hash("dict", *sorted(items))
    if isinstance(value, set | frozenset):
        return _hash("set", *sorted(map(digest, value)))
    if hasattr(value, "dtype"):
        if value.shape:
            return _hash(str(value.dtype), str(value.shape), value.tobytes())
        value = value.item()
    if isinstance(value, float):
        return _hash("number", f"{value:.9g}")
    if value is None or isinstance(value, bool | int | str | bytes):
        return _hash(type(value).__name__, repr(value))
    raise TypeError(f"results of type {type(value).__name__} can't be compared")


def _hash(*parts: str | bytes) -> str:
    state = sha256()
    for part in parts:
        state.update(part.encode() if isinstance(part, str) else part)
        state.update(b"\0")
    return state.hexdigest()
