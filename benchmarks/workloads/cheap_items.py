"""Bags of very many items that each take less than any scheduler's bookkeeping."""

from __future__ import annotations

from typing import Any

from by_hand import loop, parts
from limits import HAND, peak_memory, ratio
from workload import Job, Setting, Workload


def double(item: int) -> int:
    """Return twice the item."""
    return 2 * item


def is_kept(item: int) -> bool:
    """Return whether an item counts."""
    return item % 6 == 0


def count_one(item: int) -> int:
    """Return 1 if the doubled item is kept."""
    return is_kept(double(item))


def make_million(setting: Setting, variant: int) -> range:
    """Return a million numbers."""
    return range(variant, variant + setting.size(1_000_000, 2_000))


def make_less(setting: Setting, variant: int) -> range:
    """Return 300,000 numbers."""
    return range(variant, variant + setting.size(300_000, 2_000))


def sum_of_doubles(data: range) -> Any:
    """Return a bag's sum, in default partitions."""
    from dask.bag import from_sequence

    return from_sequence(data).map(double).sum()


def count_of_kept(data: range) -> Any:
    """Return how many items of a bag are kept, in default partitions."""
    from dask.bag import from_sequence

    return from_sequence(data).map(double).filter(is_kept).count()


WORKLOADS = (
    Workload(
        name="cheap_sum",
        title="a million items doubled and summed, default partitions",
        make=make_million,
        collection=sum_of_doubles,
        job=lambda data: Job(double, data, sum),
        by_hand={"loop": loop, "pool, a part a core": parts(sum)},
        limits=(
            ratio(0.05, "sync"),
            ratio(4, f"{HAND}: loop"),
            peak_memory(1.5, "sync"),
        ),
    ),
    Workload(
        name="cheap_count",
        title="300,000 items doubled, filtered and counted, default partitions",
        make=make_less,
        collection=count_of_kept,
        job=lambda data: Job(count_one, data, sum),
        by_hand={"loop": loop, "pool, a part a core": parts(sum)},
        limits=(ratio(0.1, "sync"),),
    ),
)
