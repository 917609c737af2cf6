"""Are plans right? `python benchmarks/plans.py`.

For each workload of `planned_work`, in a process of its own: `optimize` makes a plan;
then a loop, `multiprocessing.Pool.map` with a grid of process counts and chunk sizes
(a new pool each time), the same as the plan says, `Plan.compute` of a plan that was
made anew, `execute`, and bags of several partition sizes beside that of
`from_sequence` run in turn, some rounds, and medians count. Printed is

- pool: as the plan says, over the best of the grid, a loop included
- bag: partitions of `from_sequence` over the best of the grid, under this scheduler
- predicted: what was predicted for the pool, and for `compute`, over what it took
- optimize: its seconds, over those of the loop
- execute: over the loop

For functions that wait `n_jobs` is 1 by design (processes don't wait faster, threads
do), so `compute` stands for the pool there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from planned_work import WORKS, Work


def measure(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call took, and what it returned."""
    start = perf_counter()
    value = call()
    return perf_counter() - start, value


def run_pool(work: Work, n_jobs: int, chunksize: int) -> list[Any]:
    """Call the function with all items as users of a pool do."""
    if n_jobs == 1:
        return [work.function(item) for item in work.items]
    with multiprocessing.Pool(n_jobs) as pool:
        return pool.map(work.function, work.items, chunksize=chunksize)


def make_grid(n_items: int, n_cores: int) -> list[tuple[int, int]]:
    """Return process counts and chunk sizes, a loop among them."""
    grid = [(1, 1)]
    for n_jobs in range(2, n_cores + 1):
        size = 1
        while size * n_jobs <= n_items:
            grid.append((n_jobs, size))
            size *= 4
        grid.append((n_jobs, max(1, n_items // n_jobs)))
    return grid


def run_bag(work: Work, size: int | None, scheduler: Any) -> list[Any]:
    """Compute a bag of a partition size; ``None``: that of `from_sequence`."""
    import dask.bag as db

    from amorsize_dask import from_sequence

    if size is None:
        bag = from_sequence(work.items, work.function)
    else:
        bag = db.from_sequence(work.items, partition_size=size)
    return list(bag.map(work.function).compute(scheduler=scheduler))


def run_part(name: str, rounds: int) -> dict[str, Any]:
    """Run one workload in this process."""
    from amorsize_dask import AmorsizeScheduler, execute, optimize

    work = WORKS[name]()
    n_items = len(work.items)
    n_cores = len(os.sched_getaffinity(0))
    seconds: dict[str, list[float]] = defaultdict(list)
    plan = None
    expected = None
    with AmorsizeScheduler() as scheduler:
        run_bag(work, max(1, n_items // 8), scheduler)
        for _ in range(rounds):
            taken, plan = measure(
                lambda: optimize(work.function, work.items, scheduler=scheduler)
            )
            seconds["optimize"].append(taken)
            calls: dict[str, Callable[[], Any]] = {
                f"pool {n_jobs} {size}": lambda n_jobs=n_jobs, size=size: run_pool(
                    work, n_jobs, size
                )
                for n_jobs, size in make_grid(n_items, n_cores)
            }
            calls["planned pool"] = lambda plan=plan: run_pool(
                work, plan.n_jobs, plan.chunksize
            )
            calls["compute"] = lambda plan=plan: plan.compute(scheduler)
            calls["execute"] = lambda: execute(
                work.function, work.items, scheduler=scheduler
            )
            for n_partitions in (1, 2, 8, 32, 128):
                size = max(1, n_items // n_partitions)
                calls[f"bag {size}"] = lambda size=size: run_bag(work, size, scheduler)
            calls["planned bag"] = lambda: run_bag(work, None, scheduler)
            for title, call in calls.items():
                taken, value = measure(call)
                seconds[title].append(taken)
                expected = value if expected is None else expected
                assert value == expected, f"{name}: {title} gives another result"
            # What has to be paired is: a prediction with the run that it is for.
            seconds["predicted pool"].append(plan.pool_predicted_s)
            seconds["predicted compute"].append(plan.predicted_s)
    assert plan is not None
    return {
        "seconds": seconds,
        "plan": f"{plan.n_jobs} x {plan.chunksize}, {plan.lane} x {plan.n_workers}",
        "lane": plan.lane,
    }


def summarise(name: str, found: dict[str, Any]) -> dict[str, float]:
    """Return the ratios of one workload."""
    seconds = {title: median(values) for title, values in found["seconds"].items()}
    loop_s = seconds["pool 1 1"]
    best_pool_s = min(s for title, s in seconds.items() if title.startswith("pool "))
    best_bag_s = min(s for title, s in seconds.items() if title.startswith("bag "))
    waits = found["lane"] == "threads" and name == "waits"
    planned_s = seconds["compute"] if waits else seconds["planned pool"]
    return {
        "pool": planned_s / best_pool_s,
        "bag": seconds["planned bag"] / best_bag_s,
        "predicted pool": seconds["predicted pool"] / seconds["planned pool"],
        "predicted compute": seconds["predicted compute"] / seconds["compute"],
        "optimize": seconds["optimize"] / loop_s,
        "optimize s": seconds["optimize"],
        "execute": seconds["execute"] / loop_s,
        "loop s": loop_s,
    }


def print_errors(title: str, ratios: list[float]) -> None:
    """Print how far predictions were off."""
    errors = sorted(abs(ratio - 1) for ratio in ratios)
    tenth = quantiles(errors, n=10)[-1] if len(errors) > 1 else errors[0]
    print(
        f"{title}: off by {median(errors):.0%} in the median, 90 % of them {tenth:.0%}"
    )


def main() -> None:
    """Run all workloads and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(WORKS))
    parser.add_argument("--part", help="run only this one, here")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(run_part(arguments.part, arguments.rounds)))
        return
    table: dict[str, dict[str, float]] = {}
    for name in arguments.only:
        command = [sys.executable, __file__, "--part", name]
        command += ["--rounds", str(arguments.rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: {done.stderr[-2000:]}")
            continue
        found = json.loads(done.stdout)
        row = table[name] = summarise(name, found)
        cells = "  ".join(f"{title} {value:.3f}" for title, value in row.items())
        print(f"{name:>14}  {cells}  ({found['plan']})", flush=True)
    for title in ("predicted pool", "predicted compute"):
        print_errors(title, [row[title] for row in table.values()])


if __name__ == "__main__":
    main()
