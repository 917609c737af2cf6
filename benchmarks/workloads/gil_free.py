"""Tasks that compute outside of the GIL: in zlib, OpenSSL, NumPy and BLAS."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from by_hand import loop, one_blas_thread, pool, threads
from dask.system import CPU_COUNT
from limits import NOT_SLOWER_THAN_STOCK, ratio
from workload import Job, Setting, Workload

from workloads.modules import find_modules

#: Bytes of a source file that takes milliseconds to compress.
LARGE_BYTES = 40_000

#: Times that each large file is taken, so that the job isn't over too soon.
N_COPIES = 2

#: Numbers that take milliseconds to sort, and points to draw.
N_NUMBERS = 200_000
N_POINTS = 100_000

#: Rows of a matrix whose square takes milliseconds.
N_ROWS = 500


def compress(source: tuple[Path, int]) -> tuple[str, int]:
    """Return a file's hash, and its size compressed after some bytes are left out."""
    path, n_skipped = source
    content = path.read_bytes()[n_skipped:]
    return hashlib.sha256(content).hexdigest(), len(zlib.compress(content))


def find_median(seed: int) -> float:
    """Sort random numbers and return the middle one."""
    numbers = np.random.default_rng(seed).random(N_NUMBERS)
    return float(np.sort(numbers)[N_NUMBERS // 2])


def count_inside(seed: int) -> int:
    """Return how many random points of a square are inside of the circle in it."""
    x, y = np.random.default_rng(seed).random((2, N_POINTS))
    return int(np.count_nonzero(x * x + y * y < 1))


def multiply(seed: int) -> int:
    """Multiply two random matrices of small whole numbers; return the product's sum."""
    a, b = np.random.default_rng(seed).integers(0, 9, (2, N_ROWS, N_ROWS))
    return int((a.astype(float) @ b.astype(float)).sum())


def make_sources(setting: Setting, variant: int) -> list[tuple[Path, int]]:
    """Return large modules of the standard library, and bytes of each to leave out."""
    paths = [path for path in find_modules() if path.stat().st_size > LARGE_BYTES]
    paths = paths[: setting.size(len(paths), 4)]
    return [(path, variant + i) for i in range(N_COPIES) for path in paths]


def make_sort_seeds(setting: Setting, variant: int) -> range:
    """Return the seeds of 200 tasks."""
    return range(variant, variant + setting.size(200, 4))


def make_point_seeds(setting: Setting, variant: int) -> range:
    """Return the seeds of 300 tasks."""
    return range(variant, variant + setting.size(300, 4))


def make_matrix_seeds(setting: Setting, variant: int) -> range:
    """Return the seeds of 60 tasks."""
    return range(variant, variant + setting.size(60, 4))


def mapped(function: Any) -> Any:
    """Return what makes a bag of the function's results, a partition for each item."""

    def collection(data: Any) -> Any:
        from dask.bag import from_sequence

        return from_sequence(data, npartitions=len(data)).map(function)

    return collection


BY_HAND = {
    "loop": loop,
    "a thread for each core": threads(CPU_COUNT),
    "pool, one by one": pool(1),
}

WORKLOADS = (
    Workload(
        name="compress",
        title="the standard library's larger modules hashed and compressed",
        make=make_sources,
        collection=mapped(compress),
        job=lambda data: Job(compress, data),
        by_hand=BY_HAND,
        limits=(ratio(1.05, "threads"),),
    ),
    Workload(
        name="sort",
        title="200 NumPy sorts of 200,000 numbers",
        make=make_sort_seeds,
        collection=mapped(find_median),
        job=lambda data: Job(find_median, data),
        by_hand=BY_HAND,
        limits=(ratio(1.05, "threads"),),
    ),
    Workload(
        name="monte_carlo",
        title="NumPy Monte Carlo: 300 times 100,000 points, counted and summed",
        make=make_point_seeds,
        collection=lambda data: mapped(count_inside)(data).sum(),
        job=lambda data: Job(count_inside, data, sum),
        by_hand=BY_HAND,
        limits=(NOT_SLOWER_THAN_STOCK,),
    ),
    Workload(
        name="blas",
        title=f"60 products of matrices of {N_ROWS} x {N_ROWS}: BLAS has threads too",
        make=make_matrix_seeds,
        collection=mapped(multiply),
        job=lambda data: Job(multiply, data),
        by_hand={
            "loop": loop,
            "a thread for each core, BLAS in one": one_blas_thread(threads(CPU_COUNT)),
            "pool, BLAS in one thread": one_blas_thread(pool(1)),
        },
        limits=(NOT_SLOWER_THAN_STOCK,),
    ),
)
