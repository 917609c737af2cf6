"""Workloads for the benchmark of plans: a function and its items, half of them real."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import json
import re
import time
import tokenize
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Work(NamedTuple):
    """A function and what it is called with."""

    function: Callable[[Any], Any]
    items: list[Any]


def find_sources(n: int) -> list[str]:
    """Return sources of the standard library, some of each size."""
    folder = Path(ast.__file__).parent
    paths = sorted(folder.glob("*.py"), key=lambda path: path.stat().st_size)
    return [path.read_text("utf-8") for path in paths[:: max(1, len(paths) // n)]]


def spin(steps: int) -> int:
    """Count, holding the GIL."""
    total = 0
    for i in range(steps):
        total += i
    return total


@functools.cache
def steps_per_ms() -> int:
    """Return the steps of `spin` that take a millisecond here."""
    start = time.perf_counter()
    spin(1_000_000)
    return int(1_000_000 / (1000 * (time.perf_counter() - start)))


def parse(source: str) -> int:
    """Return the number of a module's AST nodes."""
    return sum(1 for _ in ast.walk(ast.parse(source)))


def count_tokens(source: str) -> int:
    """Return the number of a module's tokens."""
    return sum(1 for _ in tokenize.generate_tokens(io.StringIO(source).readline))


def count_words(source: str) -> list[tuple[str, int]]:
    """Return a module's most common words."""
    return Counter(re.findall(r"\w+", source.lower())).most_common(10)


def compress(source: str) -> bytes:
    """Return a module in few bytes."""
    return zlib.compress(source.encode(), 9)


def load_lines(lines: str) -> int:
    """Return what the values of JSON lines add up to."""
    return sum(sum(json.loads(line)["values"]) for line in lines.splitlines())


def hash_many(data: bytes) -> str:
    """Return a key that takes long to derive."""
    return hashlib.pbkdf2_hmac("sha256", data, b"salt", 4000).hex()


def double(x: int) -> int:
    """Return twice as much."""
    return 2 * x


def nap(seconds: float) -> float:
    """Wait."""
    time.sleep(seconds)
    return seconds


def make_bytes(n: int) -> bytes:
    """Return bytes that took 2 ms to make."""
    end = time.perf_counter() + 0.002
    while time.perf_counter() < end:
        pass
    return bytes(n)


def make_lines() -> list[str]:
    """Return texts of 200 JSON lines."""
    line = json.dumps({"name": "record", "values": list(range(40))})
    return ["\n".join([line] * 200) for _ in range(300)]


def uneven(n: int) -> list[int]:
    """Return steps for 1 ms each, and for 20 ms each tenth time."""
    return [steps_per_ms() * (20 if i % 10 == 5 else 1) for i in range(n)]


#: Each by a function that makes it, since making some takes long.
WORKS: dict[str, Callable[[], Work]] = {
    "parse": lambda: Work(parse, find_sources(60)),
    "tokens": lambda: Work(count_tokens, find_sources(60)),
    "words": lambda: Work(count_words, 4 * find_sources(100)),
    "compress": lambda: Work(compress, 2 * find_sources(100)),
    "json_lines": lambda: Work(load_lines, make_lines()),
    "hashes": lambda: Work(hash_many, [b"%d" % i for i in range(400)]),
    "even": lambda: Work(spin, [2 * steps_per_ms()] * 400),
    "uneven": lambda: Work(spin, uneven(300)),
    "few_long": lambda: Work(spin, [100 * steps_per_ms()] * 8),
    "too_few": lambda: Work(spin, [steps_per_ms()] * 20),
    "too_fast": lambda: Work(double, list(range(200_000))),
    "large_results": lambda: Work(make_bytes, [2_000_000] * 150),
    "waits": lambda: Work(nap, [0.01] * 100),
}
