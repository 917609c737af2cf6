"""Tasks that start processes until the system lets no one start any more."""

from __future__ import annotations

import os
import time

#: Seconds after which what a bomb has started ends by itself, whatever else fails.
FUSE_S = 60.0


def count_forks(i: int, kind: str) -> int:
    """Be a bomb if it is the fourth task: of children, of theirs too, or for ever."""
    if i != 3:
        return i
    end = time.monotonic() + FUSE_S
    while True:
        try:
            is_child = not os.fork()
        except BlockingIOError:
            if kind == "raises":
                raise
            if time.monotonic() > end:
                os._exit(1)
            time.sleep(0.001)
            continue
        if is_child and kind != "spreads":
            time.sleep(FUSE_S)
            os._exit(0)
