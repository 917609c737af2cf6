"""A program that computes, run more than once.

`python remembering_runs.py <seconds of a task> <number of tasks> [<times>]` prints for
each compute what was decided, and whether the results are right.
"""

from __future__ import annotations

import sys
import time

import dask
from dask import delayed

from amorsize_dask import AmorsizeScheduler


def spin(seconds: float) -> float:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def main(seconds: float, n_tasks: int, times: int = 1) -> None:
    with AmorsizeScheduler() as scheduler:
        for _ in range(times):
            calls = [delayed(spin)(seconds) for _ in range(n_tasks)]
            results = dask.compute(*calls, scheduler=scheduler)
            run = scheduler.last_run
            print(results == (seconds,) * n_tasks, run.decisions[0].reason)


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:]))
