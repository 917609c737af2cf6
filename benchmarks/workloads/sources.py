"""The standard library's sources, as syntax trees and as text."""

from __future__ import annotations

import sysconfig
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from by_hand import longest_first, loop, parts, pool
from limits import NOT_SLOWER_THAN_STOCK
from workload import Job, Setting, Workload

from amorsize_dask.demo import count_nodes
from workloads.modules import find_modules

#: One of how many modules is parsed. Smaller: parsing takes most of the suite's time.
STEP = 8

#: Words that are asked for.
N_WORDS = 50


def count_words(path: str) -> Counter[str]:
    """Return how often each word is in a file."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return Counter(text.split())


def by_count(pair: tuple[str, int]) -> tuple[int, str]:
    """Return by what words are ranked, so that none rank equal."""
    word, n = pair
    return n, word


def file_size(path: Path) -> int:
    """Return what an expert would expect the time of a file to depend on."""
    return path.stat().st_size


def add_up(counters: Iterable[Counter[str]]) -> Counter[str]:
    """Return the sum of counters."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def most_frequent(counters: Iterable[Counter[str]]) -> list[tuple[str, int]]:
    """Add counters up, and return the most frequent words."""
    return sorted(add_up(counters).items(), key=by_count, reverse=True)[:N_WORDS]


def make_modules(setting: Setting, variant: int) -> list[Path]:
    """Return each eighth module of the standard library."""
    step = setting.size(STEP, 40 * STEP)
    return list(find_modules()[variant % step :: step])


def make_texts(setting: Setting, variant: int) -> list[str]:
    """Return the modules that are packages' own or belong to none, but one."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py"))
    paths += sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    foreign = ("site-packages", "dist-packages", "test")
    paths = [path for path in paths if path.parent.name not in foreign]
    step = setting.size(1, 20)
    return [str(path) for path in paths[variant::step]]


def parsed(data: list[Path]) -> Any:
    """Return a bag of the number of nodes of each file, in default partitions."""
    from dask.bag import from_sequence

    return from_sequence(data).map(count_nodes)


def frequencies(data: list[str]) -> Any:
    """Return a bag of the most frequent words."""
    from dask.bag import read_text

    lines = read_text(data, encoding="utf-8", errors="replace")
    words = lines.map(str.split).flatten()
    return words.frequencies().topk(N_WORDS, key=by_count)


WORKLOADS = (
    Workload(
        name="parse",
        title=f"each {STEP}th module of the standard library parsed to its tree",
        make=make_modules,
        collection=parsed,
        job=lambda data: Job(count_nodes, data),
        by_hand={
            "loop": loop,
            "pool, one by one": pool(1),
            "pool, longest first": longest_first(file_size),
        },
        limits=(NOT_SLOWER_THAN_STOCK,),
    ),
    Workload(
        name="words",
        title="word frequencies of the standard library: read_text, frequencies, topk",
        make=make_texts,
        collection=frequencies,
        job=lambda data: Job(count_words, data, most_frequent),
        by_hand={"loop": loop, "pool, four parts a core": parts(add_up, n_a_core=4)},
        limits=(NOT_SLOWER_THAN_STOCK,),
    ),
)
