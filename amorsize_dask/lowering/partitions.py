"""The partitions of collections, as keys of an expression."""

from __future__ import annotations

from typing import Any, NoReturn

from dask.base import is_dask_collection, persist
from dask.core import flatten

from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.functions import look_up


class _HandedOver(Exception):
    """What Dask hands to a scheduler that persists; it goes no further."""

    def __init__(self, dsk: Any, keys: list[Key]) -> None:
        super().__init__()
        self.dsk = dsk
        self.keys = keys


def find_partitions(collection: Any) -> tuple[Any, list[Key]]:
    """Return an expression and the keys of a collection's partitions, in order.

    `dask.persist` asks a scheduler for just these, whatever the collection is.

    Parameters
    ----------
    collection : Dask collection, or list of these
        One or more.

    Raises
    ------
    ArgumentError
        If there is no collection.
    """
    try:
        persist(collection, scheduler=_hand_over)
    except _HandedOver as handed:
        return handed.dsk, _repeat(handed.keys, collection)
    expected = "expected a Dask collection such as a bag, or a list of delayed values"
    raise ArgumentError("collection", collection, expected)


def _repeat(keys: list[Key], collection: Any) -> list[Key]:
    """Return keys in the order of a list, in which one may be several times.

    Dask asks for each once, and for other keys if it has made the collection anew.
    """
    if not isinstance(collection, list | tuple):
        return keys
    listed = [
        key
        for one in collection
        if is_dask_collection(one)
        for key in flatten(one.__dask_keys__())
    ]
    return listed if set(listed) == set(keys) else keys


def _hand_over(dsk: Any, keys: list[Key], **_: Any) -> NoReturn:
    raise _HandedOver(dsk, keys)


def is_bag(collection: Any) -> bool:
    """Whether a collection is a bag, whose partitions are lists of items."""
    bag = look_up("dask.bag.core:Bag")
    return bag is not None and isinstance(collection, bag)
