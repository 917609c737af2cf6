"""Tasks that leave something in their process."""

from __future__ import annotations

import os
import time

MB = 1_000_000

_left: list[bytearray] = []


def _leave(n_bytes: int) -> None:
    _left.append(bytearray(b"x") * n_bytes)


def leak(i: int) -> tuple[int, int, bytes]:
    """Leave 60 MB, and return what goes into a file."""
    _leave(60 * MB)
    time.sleep(0.02)
    return i, os.getpid(), bytes([i]) * 200_000


def load_once(i: int) -> int:
    """Leave 150 MB the first time."""
    if not _left:
        _leave(150 * MB)
    time.sleep(0.02)
    return os.getpid()


def leave_a_little(i: int) -> int:
    """Leave 60 MB."""
    _leave(60 * MB)
    return os.getpid()
