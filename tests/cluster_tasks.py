"""What clusters are given to do, in a module that is quick to import."""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import threading
import time
from typing import Any


def compute(n: int) -> int:
    """Compute holding the GIL."""
    total = 0
    for i in range(n):
        total += i * i % 7
    return total


def wait(i: int) -> int:
    """Wait, as for a server."""
    time.sleep(0.02)
    return i


#: Kept, since giving many bytes back takes milliseconds in which the GIL is held: on a
#: busy machine, where who holds it loses its core, that was half of the time.
_zeros = functools.cache(bytes)


def digest(n_bytes: int) -> str:
    """Compute without the GIL."""
    return hashlib.sha256(_zeros(n_bytes)).hexdigest()


def take(n_bytes: int) -> tuple[int, int]:
    """Take memory for a while; return how much, and the process it was taken in."""
    taken = bytearray(n_bytes)
    for i in range(0, n_bytes, 4096):
        taken[i] = 1
    time.sleep(0.3)
    return len(taken), os.getpid()


def make(n_bytes: int) -> bytes:
    """Return so many bytes, having taken twice as many."""
    return bytes(bytearray(n_bytes))


def fail(i: int) -> int:
    """Raise."""
    raise KeyError(i)


def lock(i: int) -> Any:
    """Return what no one can pickle."""
    return threading.Lock()


def nap(seconds: float) -> float:
    """Wait so long; return how long it was."""
    start = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - start


def spin(seconds: float) -> float:
    """Compute for so long; return by how much the clock went on meanwhile."""
    start, end = time.perf_counter(), time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return time.perf_counter() - start


def own_pid() -> int:
    """Return the process that this runs in."""
    return os.getpid()


def kill(pid: int) -> None:
    """End a process at once."""
    os.kill(pid, signal.SIGKILL)
