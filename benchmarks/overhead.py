"""What running a task costs beyond the task, by lane and by batch size.

The tasks do nothing, so all of the time is overhead. It is compared with that of Dask's
own scheduler of the same kind. The last table is what `OVERHEAD_FRACTION` in
`amorsize_dask/core/batch_size.py` rests on: by how much larger batches help.

Run it on an idle machine: `python benchmarks/overhead.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dask.local
import dask.multiprocessing
import dask.threaded
from rounds import time_rounds

from amorsize_dask import AmorsizeScheduler

N_TASKS = 2_000
N_ROUNDS = 5
BATCH_SIZES = (1, 4, 16, 64, 256)

STOCK: dict[str, Callable[..., Any]] = {
    "inline": dask.local.get_sync,
    "threads": dask.threaded.get,
    "processes": dask.multiprocessing.get,
}


def do_nothing(item: int) -> int:
    """Return what it is given."""
    return item


GRAPH = {("nothing", i): (do_nothing, i) for i in range(N_TASKS)}
KEYS = list(GRAPH)


def overhead(schedulers: dict[str, Callable[..., Any]]) -> None:
    """Print the microseconds that each scheduler takes for a task."""
    contestants = {
        name: lambda get=get: list(get(GRAPH, KEYS)) for name, get in schedulers.items()
    }
    for name, seconds in time_rounds(contestants, N_ROUNDS).items():
        print(f"  {name:<24} {seconds / N_TASKS * 1e6:>8.1f} µs a task")


def main() -> None:
    """Print all tables."""
    print(f"{N_TASKS} tasks that do nothing, median of {N_ROUNDS} rounds")
    for lane, get in STOCK.items():
        print(lane)
        with AmorsizeScheduler(lanes=(lane,)) as scheduler:
            overhead({"Dask's": get, "amorsize": scheduler})
    print("processes, by tasks in a batch")
    for n in BATCH_SIZES:
        with AmorsizeScheduler(lanes=("processes",)) as scheduler:
            # There is no public way to fix a batch size; it is what is measured here.
            policy = scheduler._policy
            policy.limits = replace(policy.limits, max_batch_size=n)
            overhead({f"at most {n}": scheduler})


if __name__ == "__main__":
    main()
