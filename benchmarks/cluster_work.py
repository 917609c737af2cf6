"""What the clusters of `cluster.py` are given to do, quick to import in workers."""

from __future__ import annotations

import hashlib
import time

MB = 1_000_000


def compute(n: int) -> int:
    """Compute holding the GIL."""
    total = 0
    for i in range(n):
        total += i * i % 7
    return total


def sort(seed: int) -> bytes:
    """Compute without the GIL, and return an array."""
    import numpy as np

    values = np.random.default_rng(seed).random(1_500_000)
    values.sort()
    return values[::2].copy()  # type: ignore[no-any-return]


def fetch(i: int) -> int:
    """Wait, as for a server."""
    time.sleep(0.02)
    return i


def peak(n_bytes: int) -> str:
    """Take memory, and for a moment twice as much."""
    taken = bytearray(n_bytes)
    for place in range(0, n_bytes, 4096):
        taken[place] = place % 251
    copy = bytes(taken)
    # So many bytes that looking at them isn't what takes the time.
    return hashlib.sha256(copy[::64]).hexdigest()
