"""State that calls leave for each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import pytest

from amorsize_dask.planning.shared_state import SharedState

total = 0
model: Any = None
seen: list[int] = []
cache: dict[int, int] = {}
TABLE = [1, 2, 3]


def add_up(x: int) -> int:
    global total
    total += x
    return total


def load_once(x: int) -> Any:
    global model
    if model is None:
        model = object()
    return model


def remember(x: int) -> int:
    seen.append(x)
    return x


def look_up(x: int) -> int:
    return TABLE[x % 3]


def use_cache(x: int) -> int:
    if x not in cache:
        cache[x] = x * x
    return cache[x]


def build(x: int) -> list[int]:
    found = []
    found.append(x)
    return [y + 1 for y in found]


@lru_cache
def square(x: int) -> int:
    return x * x


def counting() -> Callable[[int], int]:
    n = 0

    def count(x: int) -> int:
        nonlocal n
        n += 1
        return n

    return count


def closing_over() -> Callable[[int], int]:
    n = 5
    return lambda x: x + n


class Processor:
    def __init__(self) -> None:
        self.count = 0
        self.results: list[int] = []

    def process(self, x: int) -> int:
        self.count += 1
        return x * self.count

    def keep(self, x: int) -> None:
        self.results.append(x)

    def multiply(self, x: int) -> int:
        return x * self.count

    def __call__(self, x: int) -> int:
        return self.process(x)


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def __call__(self, x: int) -> int:
        self.n += 1
        return self.n


def changes(func: Callable[[int], Any]) -> str | None:
    state = SharedState(func)
    func(1)
    state.note_first_call()
    func(2)
    func(3)
    return state.describe_changes()


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (add_up, "total"),
        (partial(add_up), "total"),
        (remember, "seen"),
        (counting(), "n"),
        (Processor().process, "self.count"),
        (Processor().keep, "self.results"),
        (Counter(), "self.n"),
    ],
)
def test_what_changes_at_each_call(func: Callable[[int], Any], name: str) -> None:
    assert changes(func) == name


@pytest.mark.parametrize(
    "func",
    [
        load_once,
        look_up,
        use_cache,
        build,
        square,
        closing_over(),
        Processor().multiply,
        abs,
        int,
    ],
)
def test_what_does_not(func: Callable[[int], Any]) -> None:
    """Caches and what is loaded once are no state; nor is what is only read."""
    assert changes(func) is None


def test_what_only_reads_has_no_names() -> None:
    """So that it may be tried in any order."""
    for func in (look_up, build, use_cache, closing_over(), Processor().multiply):
        assert not SharedState(func).names
    assert SharedState(load_once).names == ("model",)
