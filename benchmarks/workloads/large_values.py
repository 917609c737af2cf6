"""Tasks with large results, and tasks with large inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from by_hand import loop, pool, threads
from dask.system import CPU_COUNT
from limits import NOT_SLOWER_THAN_STOCK, ratio
from workload import Job, Setting, Workload

#: Floats of a megabyte, and bytes of five.
N_FLOATS = 131_072
N_BYTES = 5_000_000


def fill(number: int) -> np.ndarray:
    """Return 1 MB that begin with a number."""
    return np.arange(number, number + N_FLOATS, dtype=float)


def total(numbers: np.ndarray) -> int:
    """Return the sum of an array."""
    return int(numbers.sum(dtype=np.int64))


def make_numbers(setting: Setting, variant: int) -> range:
    """Return the numbers that 300 results begin with."""
    return range(variant, variant + setting.size(300, 6))


def make_arrays(setting: Setting, variant: int) -> list[np.ndarray]:
    """Return 60 arrays of 5 MB."""
    random = np.random.default_rng(variant)
    return [
        random.integers(0, 256, N_BYTES, dtype=np.uint8)
        for _ in range(setting.size(60, 3))
    ]


def large_results(data: range) -> Any:
    """Return a bag with a partition for each result."""
    from dask.bag import from_sequence

    return from_sequence(data, npartitions=len(data)).map(fill)


def large_inputs(data: list[np.ndarray]) -> Any:
    """Return a bag with a partition for each array."""
    from dask.bag import from_sequence

    return from_sequence(data, npartitions=len(data)).map(total)


WORKLOADS = (
    Workload(
        name="large_results",
        title="300 results of 1 MB",
        make=make_numbers,
        collection=large_results,
        job=lambda data: Job(fill, data),
        by_hand={"loop": loop, "a thread for each core": threads(CPU_COUNT)},
        limits=(ratio(1.1, "sync", "threads"), NOT_SLOWER_THAN_STOCK),
    ),
    Workload(
        name="large_results_in_processes",
        title='the same, with `lanes=("processes",)`',
        make=make_numbers,
        collection=large_results,
        job=lambda data: Job(fill, data),
        by_hand={"pool, one by one": pool(1)},
        limits=(ratio(0.1, "processes"),),
        left_out={
            "sync": "processes are what it is about",
            "threads": "processes are what it is about",
        },
        options={"lanes": ("processes",)},
        is_counted=False,
    ),
    Workload(
        name="large_inputs",
        title="60 inputs of 5 MB, each summed",
        make=make_arrays,
        collection=large_inputs,
        job=lambda data: Job(total, data),
        by_hand={"loop": loop, "a thread for each core": threads(CPU_COUNT)},
        limits=(ratio(1.1, "sync", "threads"), NOT_SLOWER_THAN_STOCK),
    ),
)
