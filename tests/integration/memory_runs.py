"""Runs whose memory is looked at.

`python memory_runs.py <name> <memory limit> <number of tasks> <lane> ...`
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
from dask import delayed
from memory_meter import MemoryMeter

from amorsize_dask import AmorsizeScheduler

MB = 1_000_000
#: What each array takes.
TASK_BYTES = 10 * MB


def make_array(i: int) -> Any:
    return np.full(TASK_BYTES // 8, i, dtype=float)


def make_texts(i: int) -> list[str]:
    return [
        f"{i} {k} of a text of some length, so that there are bytes"
        for k in range(80_000)
    ]


def count_both(a: Any, b: Any) -> int:
    return len(a) + len(b)


def hold(scheduler: AmorsizeScheduler, n_tasks: int) -> bool:
    """Make arrays that are needed again in the reverse order."""
    made = [delayed(make_array)(i) for i in range(n_tasks)]
    pairs = [delayed(count_both)(a, b) for a, b in zip(made, made[::-1], strict=True)]
    values = dask.compute(*pairs, scheduler=scheduler)
    return values == (2 * (TASK_BYTES // 8),) * n_tasks


def hold_texts(scheduler: AmorsizeScheduler, n_tasks: int) -> bool:
    """Make lists of texts that are needed again in the reverse order."""
    made = [delayed(make_texts)(i) for i in range(n_tasks)]
    pairs = [delayed(count_both)(a, b) for a, b in zip(made, made[::-1], strict=True)]
    return dask.compute(*pairs, scheduler=scheduler) == (160_000,) * n_tasks


def stream(
    scheduler: AmorsizeScheduler, n_tasks: int, *, ordered: bool, pause_s: float = 0
) -> bool:
    """Take arrays one after the other."""
    firsts = []
    arrays = [delayed(make_array)(i) for i in range(n_tasks)]
    for array in scheduler.stream(arrays, ordered=ordered):
        firsts.append(int(array[0]))
        time.sleep(pause_s)
    return (firsts if ordered else sorted(firsts)) == list(range(n_tasks))


RUNS: dict[str, Callable[[AmorsizeScheduler, int], bool]] = {
    "hold": hold,
    "hold_texts": hold_texts,
    "stream": lambda scheduler, n: stream(scheduler, n, ordered=True),
    "stream_unordered": lambda scheduler, n: stream(scheduler, n, ordered=False),
    "stream_slowly": lambda scheduler, n: stream(
        scheduler, n, ordered=True, pause_s=0.01
    ),
}


def main(name: str, limit: str, n_tasks: str, *lanes: str) -> None:
    with AmorsizeScheduler(lanes=lanes, memory_limit=limit) as scheduler:
        # What is idle doesn't count: imports and workers that are up.
        small = [delayed(np.full)(1000, i) for i in range(4)]
        dask.compute(*small, scheduler=scheduler)
        with MemoryMeter() as meter:
            is_right = RUNS[name](scheduler, int(n_tasks))
    print(is_right, meter.peak_bytes)


if __name__ == "__main__":
    main(*sys.argv[1:])
