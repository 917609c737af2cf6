"""A caller whose tasks are bombs, in a group that holds them.

`python bomb_runs.py <kind> <start method> <file of the group's processes>` prints what
came of it, what the same scheduler computes afterwards, and how many processes are left
in the group beside this one when it is closed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import dask
import psutil
from bombs import count_forks
from dask import delayed

from amorsize_dask import AmorsizeScheduler

#: Seconds that processes which have been told to end may take for it.
GRACE_S = 20.0


def is_there(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def count_others(group: Path) -> int:
    """Return how many processes don't end."""
    end = time.monotonic() + GRACE_S
    while True:
        pids = set(map(int, group.read_text().split())) - {os.getpid()}
        n = sum(map(is_there, pids))
        if not n or time.monotonic() > end:
            return n
        time.sleep(0.05)


def main(kind: str, start_method: str, group: str) -> None:
    tasks = [delayed(count_forks)(i, kind, dask_key_name=f"bomb-{i}") for i in range(8)]
    timeout_s = None if kind == "raises" else 2.0
    with dask.config.set({"amorsize.start-method": start_method}):
        scheduler = AmorsizeScheduler(
            lanes=("processes",), max_workers=2, task_timeout=timeout_s
        )
    with scheduler:
        try:
            dask.compute(*tasks, scheduler=scheduler)
        except Exception as error:
            print(type(error).__name__, error, *error.__notes__)
        print(dask.compute(*[delayed(abs)(-i) for i in range(8)], scheduler=scheduler))
    print(count_others(Path(group)))


if __name__ == "__main__":
    main(*sys.argv[1:])
