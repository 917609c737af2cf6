"""Does memory hold, and what does that cost? `python benchmarks/memory.py`.

- 200 results of 20 MB are streamed with a limit of 500 MB and without one, in order and
  as they finish, to a consumer that takes them at once and to one that takes its time:
  the peak of all processes together above what they take when idle, shared memory
  included, over the limit; and the throughput over that without a limit.
- 200 tasks that make 50 MB each are reduced pairwise to numbers, with 500 MB, beside
  `threads` and `processes`.
- A groupby whose data is four times its limit, of tasks and on disk, results compared
  with those of `sync`. What is idle, imports and two workers, doesn't count.

Rounds are interleaved, each run in a fresh process, medians count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import dask
import dask.bag as db
import numpy as np
from dask import delayed

from amorsize_dask import AmorsizeScheduler

# What the tests measure memory with.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from memory_meter import MemoryMeter

MB = 1_000_000
LIMIT = "500 MB"
PAUSE_S = 0.02


def make(i: int, n_bytes: int) -> Any:
    """Return an array, which took some milliseconds to make."""
    array = np.full(n_bytes // 8, i, dtype=float)
    array.sort()
    return array


def add(a: Any, b: Any) -> float:
    """Return a number made of two arrays, or of two numbers."""
    return float(np.sum(a) + np.sum(b))


def stream(lane: str, limit: str, how: str, n: int = 200) -> dict[str, Any]:
    """Stream results of 20 MB."""
    pause_s = PAUSE_S if "slow" in how else 0.0
    arrays = [delayed(make)(i, 20 * MB) for i in range(n)]
    with AmorsizeScheduler(lanes=(lane,), memory_limit=limit) as scheduler:
        dask.compute(*[delayed(make)(i, 8000) for i in range(4)], scheduler=scheduler)
        with MemoryMeter() as meter:
            start = time.perf_counter()
            firsts = []
            for array in scheduler.stream(arrays, ordered="unordered" not in how):
                firsts.append(int(array[0]))
                time.sleep(pause_s)
            seconds = time.perf_counter() - start
    assert sorted(firsts) == list(range(n))
    return {"seconds": seconds, "peak": meter.peak_bytes}


def reduce(scheduler: Any, n: int = 200) -> dict[str, Any]:
    """Reduce results of 50 MB pairwise to a number."""
    values = [delayed(make)(i, 50 * MB) for i in range(n)]
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=False)
        last = values[-1:] if len(values) % 2 else []
        values = [delayed(add)(a, b) for a, b in pairs] + last
    with MemoryMeter() as meter:
        start = time.perf_counter()
        total = values[0].compute(scheduler=scheduler)
        seconds = time.perf_counter() - start
    assert total == sum(i * (50 * MB // 8) for i in range(n))
    return {"seconds": seconds, "peak": meter.peak_bytes}


def make_texts(i: int) -> list[tuple[int, str]]:
    """Return pairs of a group and a text, 4 MB in all."""
    return [(k % 70, f"{i:06}" * 300) for k in range(2000)]


def count_groups(n: int, shuffle: str) -> Any:
    """Return the lengths of groups of `n` times 4 MB of texts, as a bag."""
    bag = db.from_sequence(range(n), npartitions=n).map(make_texts).flatten()
    grouped = bag.groupby(lambda pair: pair[0], shuffle=shuffle)
    return grouped.map(lambda pair: (pair[0], sum(len(t) for _, t in pair[1])))


def group(limit: str, shuffle: str, n: int = 100) -> dict[str, Any]:
    """Group 400 MB of texts under a limit."""
    counts = count_groups(n, shuffle)
    with AmorsizeScheduler(memory_limit=limit) as scheduler:
        # All that it imports here and in workers, and the workers.
        count_groups(2, shuffle).compute(scheduler=scheduler)
        with dask.annotate(lane="processes"):
            warm = count_groups(2, shuffle)
        warm.compute(scheduler=scheduler, optimize_graph=False)
        with MemoryMeter() as meter:
            start = time.perf_counter()
            found = counts.compute(scheduler=scheduler)
            seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": meter.peak_bytes, "found": sorted(found)}


def group_in_sync(n: int = 100) -> dict[str, Any]:
    """Group the same under `sync`."""
    counts = count_groups(n, "tasks")
    with MemoryMeter() as meter:
        start = time.perf_counter()
        found = counts.compute(scheduler="sync")
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": meter.peak_bytes, "found": sorted(found)}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    f"stream {lane} {limit} {how}": (
        lambda lane=lane, limit=limit, how=how: stream(lane, limit, how)
    )
    for lane in ("processes", "threads")
    for how in ("ordered", "unordered", "ordered slow", "unordered slow")
    for limit in (LIMIT, "8 GB")
}
PARTS |= {
    "reduce 500 MB": lambda: reduce(AmorsizeScheduler(memory_limit=LIMIT)),
    "reduce threads": lambda: reduce("threads"),
    "reduce processes": lambda: reduce("processes"),
    "group tasks 100 MB": lambda: group("100 MB", "tasks"),
    "group disk 100 MB": lambda: group("100 MB", "disk"),
    "group sync": group_in_sync,
}


def main() -> None:
    """Run all parts in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="run only parts that begin so"
    )
    parser.add_argument("--part", help="run only this, here")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part]()))
        return
    seconds: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, list[float]] = defaultdict(list)
    groups = []
    for _ in range(arguments.rounds):
        for name in (name for name in PARTS if name.startswith(arguments.only)):
            command = [sys.executable, __file__, "--part", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}: {done.stderr[-500:]}")
                continue
            found = json.loads(done.stdout)
            seconds[name].append(found["seconds"])
            peaks[name].append(found["peak"])
            if "found" in found:
                groups.append(found["found"])
    assert all(one == groups[0] for one in groups)
    for name in seconds:
        line = f"{name:>36}  {median(seconds[name]):7.2f} s"
        line += f"  peak {max(peaks[name]) / MB:6.0f} MB"
        if LIMIT in name and name.startswith("stream"):
            unlimited = median(seconds[name.replace(LIMIT, "8 GB")])
            line += f"  throughput {unlimited / median(seconds[name]):.2f} x"
        print(line)


if __name__ == "__main__":
    main()
