"""Functions for plans: in a module of their own, so that workers import little."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any


def compute(n: int) -> int:
    return sum(i * i for i in range(n))


def spin(seconds: float) -> float:
    """Hold the GIL for a time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def digest(n: int) -> str:
    """Compute without the GIL."""
    return hashlib.sha256(bytes(n)).hexdigest()


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


async def wait_by_loop(x: Any) -> Any:
    return x


def double(x: Any) -> Any:
    return x + x


def fail(x: Any) -> None:
    raise ValueError(f"no {x}")


def fail_at_odd(x: int) -> int:
    if x % 2:
        raise ValueError(f"odd {x}")
    return x


def make_bytes(n: int) -> bytes:
    return os.urandom(1) * n


class Recorder:
    """Writes down each item that it is called with, in whatever process."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self.folder = folder
        self.seconds = seconds

    def __call__(self, x: int) -> int:
        with (self.folder / str(x)).open("a") as file:
            file.write(".")
        spin(self.seconds)
        return x * 2

    def counts(self) -> dict[int, int]:
        """How often it was called with each item."""
        return {int(path.name): path.stat().st_size for path in self.folder.iterdir()}


_LOCK = threading.Lock()


def digest_alone(n: int) -> str:
    """Compute without the GIL, but not beside another call of this."""
    with _LOCK:
        return digest(n)


def invert(x: int) -> float:
    return 1 / x
