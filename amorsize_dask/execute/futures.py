"""Futures that the user has put into a graph, as `Client.persist` does."""

from __future__ import annotations

import sys
from typing import Any

from amorsize_dask.errors import ClusterError
from amorsize_dask.execute.connection import find_client, is_usable


class Borrowed:
    """Keeps a future from being taken for a key. It stays the user's."""

    __slots__ = ("future",)

    def __init__(self, future: Any) -> None:
        self.future = future

    def __repr__(self) -> str:
        return repr(self.future)


def find_future(key: Any) -> Any:
    """Return the future of a key that the active client has; ``None``: it has none."""
    client = find_client()
    if client is None or key not in client.futures:
        return None
    return sys.modules["distributed"].Future(key, client)


def read_future(borrowed: Borrowed) -> Any:
    """Return the value that a future stands for; wait for it, if need be.

    Raises
    ------
    ClusterError
        If its client is gone, or can't be waited for, or the value is lost.
    BaseException
        What the task has raised that should have made it.
    """
    future = borrowed.future
    if future.client is None or not is_usable(future.client):
        raise ClusterError(
            f"the graph needs {future!r}, whose client isn't connected, or is an "
            "asynchronous one"
        )
    try:
        return future.result()
    except BaseException as error:
        if not future.cancelled():
            raise
        raise ClusterError(
            f"the graph needs {future!r}, which was cancelled, or what it stands for "
            "is lost"
        ) from error
