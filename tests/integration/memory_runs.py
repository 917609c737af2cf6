"""Runs whose memory is looked at.

`python memory_runs.py <name> <memory limit> <number of tasks> <lane> ...`
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.bag as db
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


def make_pairs_of_one_text(i: int) -> list[tuple[int, str]]:
    """Make a list whose pickle is 400 kB and that takes twenty times as much."""
    text = "a text that they share"
    return [(i + k, text) for k in range(60_000)]


class Table:
    """Of which Dask's `sizeof` knows nothing."""

    def __init__(self, i: int) -> None:
        self.columns = {"a": make_array(i)}

    def __len__(self) -> int:
        return len(self.columns["a"])


def count_both(a: Any, b: Any) -> int:
    return len(a) + len(b)


def hold(scheduler: AmorsizeScheduler, n_tasks: int) -> bool:
    """Make arrays that are needed again in the reverse order."""
    made = [delayed(make_array)(i) for i in range(n_tasks)]
    pairs = [delayed(count_both)(a, b) for a, b in zip(made, made[::-1], strict=True)]
    values = dask.compute(*pairs, scheduler=scheduler)
    return values == (2 * (TASK_BYTES // 8),) * n_tasks


def hold_objects(scheduler: AmorsizeScheduler, n_tasks: int) -> bool:
    """Make objects with arrays in them that are needed again in the reverse order."""
    made = [delayed(Table)(i) for i in range(n_tasks)]
    pairs = [delayed(count_both)(a, b) for a, b in zip(made, made[::-1], strict=True)]
    values = dask.compute(*pairs, scheduler=scheduler)
    return values == (2 * (TASK_BYTES // 8),) * n_tasks


def hold_texts(scheduler: AmorsizeScheduler, n_tasks: int) -> bool:
    """Make lists of texts that are needed again in the reverse order."""
    made = [delayed(make_texts)(i) for i in range(n_tasks)]
    pairs = [delayed(count_both)(a, b) for a, b in zip(made, made[::-1], strict=True)]
    return dask.compute(*pairs, scheduler=scheduler) == (160_000,) * n_tasks


def hold_pairs(scheduler: AmorsizeScheduler, n_tasks: int) -> bool:
    """Make objects that are much larger than their pickles, needed in reverse order."""
    made = [delayed(make_pairs_of_one_text)(i) for i in range(n_tasks)]
    pairs = [delayed(count_both)(a, b) for a, b in zip(made, made[::-1], strict=True)]
    return dask.compute(*pairs, scheduler=scheduler) == (120_000,) * n_tasks


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


#: Takes 300 MB as soon as a file is there, removes it, and is there until told to end.
NEIGHBOUR = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
taken = b"x" * 300_000_000
os.remove(sys.argv[1])
sys.stdin.read()
"""


def make_slowly(i: int, flag: str) -> Any:
    if i == 2:
        Path(flag).touch()
        while Path(flag).exists():
            time.sleep(0.01)
    time.sleep(0.1)
    return make_array(i)


def hold_beside_others(scheduler: AmorsizeScheduler, n_tasks: int) -> bool:
    """Want half as many, while another process takes memory after the first of them."""
    n_tasks //= 2
    with tempfile.TemporaryDirectory() as folder:
        flag = f"{folder}/begun"
        command = [sys.executable, "-c", NEIGHBOUR, flag]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as neighbour:
            made = [delayed(make_slowly)(i, flag) for i in range(n_tasks)]
            values = dask.compute(*made, scheduler=scheduler)
            assert neighbour.poll() is None
            neighbour.communicate()
    return [int(value[0]) for value in values] == list(range(n_tasks))


def stream_text(scheduler: AmorsizeScheduler, n_tasks: int) -> bool:
    """Stream the lines of a file of half as many bytes as the arrays of others."""
    line = "of a text whose lines are as long as those of a log often are, with numbers"
    n_lines = n_tasks * TASK_BYTES // 2 // (len(line) + 10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        with path.open("w") as file:
            file.writelines(f"{i:08} {line}\n" for i in range(n_lines))
        bag = db.read_text(str(path), blocksize=4_000_000)
        assert bag.npartitions > 50
        numbers = (int(text[:8]) for text in scheduler.stream(bag))
        return all(i == k for i, k in zip(range(n_lines), numbers, strict=True))


def make_pairs(i: int) -> list[tuple[int, str]]:
    return [(k % 70, f"{i:06}" * 300) for k in range(1000)]


def group(scheduler: AmorsizeScheduler, n_tasks: int, shuffle: str) -> bool:
    """Group partitions of 2 MB each, twice as many as tasks."""
    n = 2 * n_tasks
    bag = db.from_sequence(range(n), npartitions=n).map(make_pairs).flatten()
    groups = bag.groupby(lambda pair: pair[0], shuffle=shuffle)
    counts = groups.map(lambda g: (g[0], sum(len(text) for _, text in g[1])))
    found = counts.compute(scheduler=scheduler)
    return sorted(found) == [(k, n * 1800 * len(range(k, 1000, 70))) for k in range(70)]


RUNS: dict[str, Callable[[AmorsizeScheduler, int], bool]] = {
    "hold": hold,
    "hold_objects": hold_objects,
    "hold_texts": hold_texts,
    "hold_pairs": hold_pairs,
    "hold_beside_others": hold_beside_others,
    "group_tasks": lambda scheduler, n: group(scheduler, n, "tasks"),
    "group_disk": lambda scheduler, n: group(scheduler, n, "disk"),
    "stream": lambda scheduler, n: stream(scheduler, n, ordered=True),
    "stream_unordered": lambda scheduler, n: stream(scheduler, n, ordered=False),
    "stream_text": stream_text,
    "stream_slowly": lambda scheduler, n: stream(
        scheduler, n, ordered=True, pause_s=0.01
    ),
}


def main(name: str, limit: str, n_tasks: str, *lanes: str) -> None:
    with AmorsizeScheduler(lanes=lanes, memory_limit=limit) as scheduler:
        # What is idle doesn't count: imports and workers that are up.
        small = [delayed(np.full)(1000, i) for i in range(4)]
        dask.compute(*small, scheduler=scheduler)
        if name.startswith("group"):
            RUNS[name](scheduler, 1)
        with MemoryMeter() as meter:
            is_right = RUNS[name](scheduler, int(n_tasks))
    print(is_right, meter.peak_bytes)


if __name__ == "__main__":
    main(*sys.argv[1:])
