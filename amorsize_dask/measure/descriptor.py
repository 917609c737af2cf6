"""Opening a file in a thread that may be interrupted."""

from __future__ import annotations

import os


def open_into(kept: list[int], path: str) -> None:
    """Open a file for reading and add its descriptor to a list, in one step.

    An interrupt strikes between two steps of Python code: what `os.open` has returned
    could be lost before it is kept anywhere.

    Raises
    ------
    OSError
        If it can't be opened.
    """
    kept.extend(map(os.open, (path,), (os.O_RDONLY | os.O_CLOEXEC,)))
