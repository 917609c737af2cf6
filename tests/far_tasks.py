"""What a cluster is given to do as a lane, in a module that is quick to import."""

from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any


def square(x: int) -> int:
    return x * x


def spin(n: int) -> int:
    total = 0
    for i in range(n):
        total += i * i % 7
    return total


def make(n_bytes: int) -> bytes:
    """Return so many bytes, which begin with their number."""
    return str(n_bytes).encode().ljust(n_bytes)


def pid_and_length(value: bytes) -> tuple[int, int]:
    return os.getpid(), len(value)


def pid(_: Any) -> int:
    return os.getpid()


def fail_at(x: int) -> int:
    """Raise for 7, as a deep frame would."""
    if x == 7:
        raise KeyError(f"no {x}")
    return x


def warn(x: int) -> int:
    warnings.warn(f"about {x}", UserWarning, stacklevel=1)
    return x


def _kill() -> None:
    """End this worker, once its nanny has taken note of its start.

    Nannies of older releases (distributed 2025.4 does it, 2026.8 doesn't) lose track
    of a worker that is given a task and dies before that: two starts then read from one
    queue, and closing the cluster waits forever for the second.
    """
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_once(x: int, marker: str) -> int:
    """End the worker the first time that this is called at all."""
    path = Path(marker)
    if x == 3 and not path.exists():
        path.touch()
        _kill()
    time.sleep(0.02)
    return x


def kill_at(x: int, bad: int) -> int:
    """End the worker whenever it is this one."""
    if x == bad:
        _kill()
    return x


def nap(x: int, seconds: float) -> int:
    time.sleep(seconds)
    return x


def compute_inside(n: int) -> tuple[int, list[str]]:
    """Compute with a scheduler of this package, and say in which lanes."""
    import dask.bag as db

    from amorsize_dask import AmorsizeScheduler

    with AmorsizeScheduler() as scheduler:
        total = db.range(n, npartitions=4).map(square).sum()
        return total.compute(scheduler=scheduler), list(scheduler.last_run.lanes)


def compute_inside_forced(n: int) -> int:
    """Compute with a scheduler that was made for a cluster alone."""
    import dask.bag as db

    from amorsize_dask import AmorsizeScheduler

    with AmorsizeScheduler(lanes=("cluster",)) as scheduler:
        total = db.range(n, npartitions=4).map(square).sum()
        return total.compute(scheduler=scheduler)


def unpicklable(x: int) -> Any:
    """Return what can't be sent."""
    return (i for i in range(x))
