"""Which way of starting worker processes this system has."""

from __future__ import annotations

import os
import socket

from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.pool import START_METHODS


def has_processes() -> bool:
    """Whether worker processes can be started at all: a POSIX system is needed.

    A worker inherits its end of a socket pair, and sockets are passed to the fork
    server, which Windows has no equal of in Python's standard library.
    """
    return os.name == "posix"


def choose_start_method(name: str) -> str:
    """Return the start method that a setting asks for.

    Raises
    ------
    ArgumentError
        If it is an unknown one, or one that this system doesn't have.
    """
    has_forkserver = hasattr(os, "fork") and hasattr(socket, "send_fds")
    if name == "auto":
        return "forkserver" if has_forkserver else "spawn"
    if name not in START_METHODS:
        expected = f"expected 'auto' or one of {', '.join(map(repr, START_METHODS))}"
        raise ArgumentError("amorsize.start-method", name, expected)
    if name == "forkserver" and not has_forkserver:
        expected = "this system can't fork, take 'spawn'"
        raise ArgumentError("amorsize.start-method", name, expected)
    return name
