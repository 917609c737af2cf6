"""What the tasks of random bags do, and the text files that they read.

Everything here is deterministic, whatever computes it and in which process.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import dask
import dask.bag as db

# -- on items --------------------------------------------------------------------------


def mix(*values: Any, **named: Any) -> int:
    """Return a number that depends on all that it gets, types and order included."""
    return crc32(repr((values, sorted(named.items()))).encode()) % 1000


def record(*values: Any, **named: Any) -> tuple[Any, ...]:
    return *values, named


def half(x: int) -> tuple[int, int]:
    return divmod(x, 2)


def fields(x: int) -> dict[str, Any]:
    return {"a": x % 5, "b": str(x)} if x % 3 else {"a": x}


def count_up(n: int) -> Iterator[int]:
    yield from range(n % 4)


def none_if_odd(x: int) -> int | None:
    return None if x % 2 else x


def type_name(x: Any) -> str:
    return type(x).__name__


def adder(n: int) -> Callable[[int], int]:
    """Return a closure."""
    return lambda x: x + n


class Scale:
    """A callable object, and one with a method to map."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, x: int) -> int:
        return self.factor * x % 1000

    def add(self, x: int) -> int:
        return self.factor + x


def refuse_three(x: Any) -> Any:
    if x == 3:
        raise ValueError("three")
    return x


def stop_at_three(x: Any) -> Any:
    # For an iterator no error, but the end.
    if x == 3:
        raise StopIteration
    return x


def fail(*values: Any) -> NoReturn:
    raise RuntimeError("this was data")


def name_group(name: Any, members: list[Any]) -> tuple[Any, int, int]:
    return name, len(members), mix(members)


# -- on two items ----------------------------------------------------------------------


def append(total: tuple[Any, ...], x: Any) -> tuple[Any, ...]:
    return (*total, x)


def keep_first(x: Any, y: Any) -> Any:
    return x


def mix_two(x: Any, y: Any) -> int:
    # Neither commutative nor associative: shows in which order things were folded.
    return mix(x, y)


# -- on partitions ---------------------------------------------------------------------


def twice(partition: Iterable[Any]) -> list[Any]:
    """Tell lists from iterators, which are empty when they are read again."""
    return [*partition, *partition]


def generate(partition: Iterable[Any]) -> Iterator[Any]:
    """Yield all items but the first."""
    items = iter(partition)
    next(items, None)
    yield from items


def count_items(partition: Iterable[Any]) -> list[int]:
    return [length(partition)]


def length(partition: Iterable[Any]) -> int:
    """Return a number in the place of a partition."""
    return sum(1 for _ in partition)


def mix_each(partition: Iterable[Any], *values: Any, **named: Any) -> list[int]:
    """Mix each item with all other arguments, partitions of other bags among them."""
    rest = mix(*map(_settle, values), **{name: _settle(v) for name, v in named.items()})
    return [mix(x, rest) for x in partition]


def generate_mixed(
    partition: Iterable[Any], *values: Any, **named: Any
) -> Iterator[int]:
    yield from mix_each(partition, *values, **named)


def _settle(value: Any) -> Any:
    # An iterator would be shown with its address.
    return list(value) if isinstance(value, Iterator) else value


def sort_groups(groups: Iterable[tuple[Any, list[Any]]]) -> list[tuple[Any, Any]]:
    return sorted(((name, sorted(group, key=repr)) for name, group in groups), key=repr)


def last_two(values: Iterable[Any]) -> list[Any]:
    return list(values)[-2:]


def last_two_of_all(parts: Iterable[Iterable[Any]]) -> list[Any]:
    return last_two(x for part in parts for x in part)


# -- on bags ---------------------------------------------------------------------------


def handmade(n: int) -> db.Bag:
    """Make a bag as an expert may: with its graph written down."""
    graph = {(f"handmade-{n}", i): (range, i + n) for i in range(3)}
    return db.Bag(graph, f"handmade-{n}", 3)


def optimized(bag: db.Bag) -> db.Bag:
    return dask.optimize(bag)[0]


def delayed_again(bag: db.Bag, optimize_graph: bool = True) -> db.Bag:
    return db.from_delayed(bag.to_delayed(optimize_graph=optimize_graph))


def zip_again(bags: Iterable[db.Bag]) -> db.Bag:
    return db.zip(*bags)


# -- text files ------------------------------------------------------------------------

#: Lines of all kinds: none at all, empty ones, without an end, beyond ASCII.
TEXTS = {
    "a.txt": "one\ntwo\nthree\n",
    "b.txt": "",
    "c.txt": "7\n\n12\n3",
    "d.txt": "äöü\r\nab ba\n",
    "e.txt.gz": "packed\nlines\n",
}


def write_texts(folder: Path) -> None:
    """Write the files that descriptions read."""
    for name, text in TEXTS.items():
        content = text.encode()
        (folder / name).write_bytes(
            gzip.compress(content) if name.endswith(".gz") else content
        )
