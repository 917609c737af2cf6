"""Tasks that compute in Python and hold the GIL."""

from __future__ import annotations

from random import Random
from typing import Any

from by_hand import longest_first, loop, pool
from limits import HAND, no_process, ratio
from workload import Job, Setting, Workload

from workloads.spinning import spin


def make_uniform(setting: Setting, variant: int) -> list[int]:
    """Return the steps of 600 tasks of 1 to 2 ms."""
    random = Random(variant)
    n = setting.size(600, 12)
    return [round(setting.steps_per_ms * random.uniform(1, 2)) for _ in range(n)]


def make_heavy_tail(setting: Setting, variant: int) -> list[int]:
    """Return the steps of 300 tasks of 1 ms and then 16 of 10 to 50 ms, rising."""
    random = Random(variant)
    short = [random.uniform(0.9, 1.1) for _ in range(setting.size(300, 10))]
    n_long = setting.size(16, 2)
    long = [10 + 40 * (i + random.random()) / n_long for i in range(n_long)]
    return [round(setting.steps_per_ms * ms) for ms in short + long]


def make_ten(setting: Setting, variant: int) -> list[int]:
    """Return the steps of ten tasks of 1 ms."""
    return [setting.steps_per_ms + variant] * 10


def in_own_partitions(data: list[int]) -> Any:
    """Return a bag with a partition for each item."""
    from dask.bag import from_sequence

    return from_sequence(data, npartitions=len(data)).map(spin)


def in_one_partition(data: list[int]) -> Any:
    """Return a bag with one partition."""
    from dask.bag import from_sequence

    return from_sequence(data, npartitions=1).map(spin)


def spins(data: list[int]) -> Job:
    """Return the job in plain Python."""
    return Job(spin, data)


WORKLOADS = (
    Workload(
        name="uniform",
        title="600 tasks that compute 1 to 2 ms",
        make=make_uniform,
        collection=in_own_partitions,
        job=spins,
        by_hand={
            "loop": loop,
            "pool, one by one": pool(1),
            "pool, chunks of 8": pool(8),
        },
        limits=(ratio(1.1, HAND), ratio(1.3, HAND, ours="cold")),
    ),
    Workload(
        name="one_partition",
        title="the same 600 items in one partition",
        make=make_uniform,
        collection=in_one_partition,
        job=spins,
        by_hand={
            "loop": loop,
            "pool, one by one": pool(1),
            "pool, chunks of 8": pool(8),
        },
        limits=(ratio(1.15, HAND),),
    ),
    Workload(
        name="heavy_tail",
        title="300 tasks of 1 ms, then 16 of 10 to 50 ms, the heaviest last",
        make=make_heavy_tail,
        collection=in_own_partitions,
        job=spins,
        by_hand={
            "loop": loop,
            "pool, one by one": pool(1),
            "pool, longest first": longest_first(float),
        },
        limits=(ratio(1.1, HAND),),
    ),
    Workload(
        name="ten_tasks",
        title="ten tasks of 1 ms: 10 ms in all",
        make=make_ten,
        collection=in_own_partitions,
        job=spins,
        by_hand={"loop": loop, "pool, one by one": pool(1)},
        limits=(ratio(1.05, "sync"), no_process()),
        n_repeats=21,
    ),
)
