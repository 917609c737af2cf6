"""Functions for worker processes, in a module that imports next to nothing."""

from __future__ import annotations

import time


def square(x: int) -> int:
    return x * x


def nap(x: int) -> int:
    time.sleep(0.01)
    return x


def spin(seconds: float) -> float:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds
