"""Functions for pipelines, in a module that workers import quickly."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path


def double(x: int) -> int:
    return 2 * x


def add_one(x: int) -> int:
    return x + 1


def nap(x: int) -> int:
    time.sleep(0.01)
    return x


def spin(x: int) -> int:
    """Take 3 ms of the GIL."""
    end = time.perf_counter() + 0.003
    while time.perf_counter() < end:
        pass
    return x


def wait_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def spin_for(seconds: float) -> float:
    """Take so long of the GIL."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


class Adder:
    """Adds a number to each item."""

    def __init__(self, number: float) -> None:
        self._number = number

    def __call__(self, item: float) -> float:
        return item + self._number


async def nap_together(x: int) -> tuple[int, int]:
    """Return the thread that it ran in, too."""
    await asyncio.sleep(0.01)
    return x, threading.get_ident()


class NapAndAdd:
    """Adds a number to each item, in a coroutine."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def __call__(self, x: int) -> int:
        await asyncio.sleep(0.01)
        return x + self.number


async def count_slowly(n: int) -> AsyncIterator[int]:
    for x in range(n):
        await asyncio.sleep(0.01)
        yield x


def is_odd(x: int) -> bool:
    return bool(x % 2)


def count_down(x: int) -> list[int]:
    return list(range(x % 4))


def add_up(xs: list[int]) -> list[tuple[int, int]]:
    """Return each item, and how many there were."""
    return [(x, len(xs)) for x in xs]


def lose_one(xs: list[int]) -> list[int]:
    return xs[1:]


def fail_on_seven(x: int) -> int:
    if x % 10 == 7:
        raise ValueError(f"seven: {x}")
    return x


def name_worker() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def with_worker(x: int, worker: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    assert worker == name_worker()
    return spin(x), worker


def set_up_slowly() -> int:
    time.sleep(0.2)
    return 1


def add_set_up(x: int, one: int) -> int:
    return x + one


def fail_twice(path: Path) -> int:
    """Fail until there are two marks beside a path."""
    for i in range(2):
        mark = path.with_suffix(f".{i}")
        if not mark.exists():
            mark.touch()
            raise OSError("not yet")
    return 1


def kill_once(path: Path) -> str:
    """Kill the worker, but not twice for the same path."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def kill_always(x: int) -> int:
    """Kill the worker, if the item is negative."""
    if x < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def make_bytes(x: int) -> bytes:
    return bytes(5_000_000) + b"%d" % x


def count_bytes(data: bytes) -> int:
    return len(data)
