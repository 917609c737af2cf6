"""Requested keys: nested as the user gave them, and flat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amorsize_dask.execute.node import Key


def flatten(keys: Any) -> list[Key]:
    """Return the single keys of a nest, in order.

    Parameters
    ----------
    keys : key or list of these, nested
        Only lists nest: a tuple is a key.

    Returns
    -------
    list of key
        As often as each is asked for.
    """
    if not isinstance(keys, list):
        return [keys]
    flat: list[Key] = []
    for part in keys:
        if isinstance(part, list):
            flat += flatten(part)
        else:
            flat.append(part)
    return flat


def nest(keys: Any, find: Callable[[Key], Any]) -> Any:
    """Return the values of keys, nested as the keys are.

    Parameters
    ----------
    keys : key or list of these, nested
        Only lists nest: a tuple is a key.
    find : callable
        Returns the value of one key; raises `KeyError` if there is none.

    Returns
    -------
    value or tuple of values, nested
        A bare value for a bare key, a tuple for each list, as Dask's schedulers do.

    Raises
    ------
    KeyError
        Whatever `find` raises.
    """
    if isinstance(keys, list):
        return tuple([nest(k, find) if isinstance(k, list) else find(k) for k in keys])
    return find(keys)
