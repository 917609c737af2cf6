"""Three promises of the main job, as ratios taken in one run.

- The demo with warm workers: not slower than the best of Dask's schedulers.
- Ten tasks of 1 ms: at most 10 % slower than `sync`, and no process is started.
- 200 tasks that wait 20 ms: at least 8 times faster than `threads`.

Run it on an idle machine: `python benchmarks/main_job.py`. It exits with 1 if a promise
isn't kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from time import perf_counter, sleep
from typing import Any

import dask.bag as db
import psutil
from rounds import time_rounds

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.demo import count_nodes, find_modules

STOCK = ("sync", "threads", "processes")


def spin(n_steps: int) -> int:
    """Compute for a time that is proportional to `n_steps`."""
    total = 0
    for i in range(n_steps):
        total += i * i
    return total


def steps_of_1_ms() -> int:
    """Return how many steps of `spin` take a millisecond on this machine."""
    n_steps = 200_000
    times = []
    for _ in range(5):
        start_s = perf_counter()
        spin(n_steps)
        times.append(perf_counter() - start_s)
    return max(1, round(n_steps * 1e-3 / min(times)))


def wait(item: int) -> int:
    """Wait 20 ms."""
    sleep(0.02)
    return item


def contestants(
    bag: Any, scheduler: AmorsizeScheduler, stock: tuple[str, ...]
) -> dict[str, Callable[[], Any]]:
    """Return the computes of a bag under Dask's schedulers and under this one."""
    found = {name: lambda name=name: bag.compute(scheduler=name) for name in stock}
    return {**found, "amorsize": lambda: bag.compute(scheduler=scheduler)}


def show(title: str, seconds: Mapping[str, float]) -> None:
    """Print the medians of one comparison."""
    print(f"\n{title}")
    for name, median_s in seconds.items():
        ratio = median_s / seconds["amorsize"]
        print(f"  {name:<10} {median_s * 1e3:>10.2f} ms   {ratio:>6.2f} x amorsize")


def judge(what: str, value: float, is_kept: bool) -> bool:
    """Print whether a promise is kept."""
    print(f"  {what}: {value:.3g} {'kept' if is_kept else 'NOT KEPT'}")
    return is_kept


def demo() -> bool:
    """Parse the standard library."""
    bag = db.from_sequence(find_modules()).map(count_nodes)
    with AmorsizeScheduler() as scheduler:
        seconds = time_rounds(contestants(bag, scheduler, STOCK), n_rounds=3)
        show("the demo, warm", seconds)
        print(scheduler.last_run)
    ratio = seconds["amorsize"] / min(seconds[name] for name in STOCK)
    return judge("amorsize / best stock, at most 1", ratio, ratio <= 1)


def short_tasks() -> bool:
    """Compute ten tasks of 1 ms."""
    bag = db.from_sequence([steps_of_1_ms()] * 10, npartitions=10).map(spin)
    me = psutil.Process()
    with AmorsizeScheduler() as scheduler:
        before = set(me.children(recursive=True))
        seconds = time_rounds(contestants(bag, scheduler, ("sync",)), n_rounds=100)
        n_started = len(set(me.children(recursive=True)) - before)
        show("ten tasks of 1 ms", seconds)
        print(scheduler.last_run)
    ratio = seconds["amorsize"] / seconds["sync"]
    return judge("amorsize / sync, at most 1.1", ratio, ratio <= 1.1) & judge(
        "processes started, none", n_started, n_started == 0
    )


def waiting_tasks() -> bool:
    """Wait 200 times 20 ms."""
    bag = db.from_sequence(range(200), npartitions=200).map(wait)
    with AmorsizeScheduler() as scheduler:
        seconds = time_rounds(contestants(bag, scheduler, ("threads",)), n_rounds=5)
        show("200 tasks that wait 20 ms", seconds)
        print(scheduler.last_run)
    ratio = seconds["threads"] / seconds["amorsize"]
    return judge("threads / amorsize, at least 8", ratio, ratio >= 8)


def main() -> None:
    """Take all three figures, or those that are named on the command line."""
    jobs = {job.__name__: job for job in (demo, short_tasks, waiting_tasks)}
    names = sys.argv[1:] or list(jobs)
    if not all([jobs[name]() for name in names]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
