"""How many cores this process may use."""

from __future__ import annotations

import os
from functools import lru_cache
from math import ceil
from pathlib import Path

import psutil

from amorsize_dask.measure.batch_system import find_job_cores
from amorsize_dask.measure.cgroup import find_groups, read_lines, read_number
from amorsize_dask.measure.hints import find_python_cores


def count_cores(root: Path = Path("/")) -> int:
    """Count the cores that this process may use: affinity, quotas, batch systems.

    Unlike `dask.system.CPU_COUNT` it looks at the quotas of all ancestors, not only at
    those of the group that the process is in, or of the root; and it doesn't stay what
    it was when Dask was imported.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are found.

    Returns
    -------
    int
        At least 1. A quota of one and a half cores counts as two.
    """
    return min(find_core_limits(root).values())


def find_core_limits(root: Path = Path("/")) -> dict[str, int]:
    """Return all that bounds the cores of a run, by name; affinity is always there.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are found.
    """
    return {"affinity": count_by_affinity(), **find_grants(root)}


def find_grants(root: Path = Path("/")) -> dict[str, int]:
    """Return what control groups, batch systems and Python's user grant, by name.

    Reads some files, which costs about a tenth of a millisecond.
    """
    n_by_quota = count_by_quota(root)
    by_quota = {} if n_by_quota is None else {"cgroup quota": n_by_quota}
    return {**by_quota, **find_job_cores(), **find_python_cores()}


def count_by_affinity() -> int:
    """Count the cores that the scheduler of the system may run this process on.

    Costs a microsecond. At least 1.
    """
    return len(find_affinity())


def find_affinity() -> frozenset[int]:
    """Return the numbers of these cores."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def count_by_quota(root: Path = Path("/")) -> int | None:
    """Count the cores whose time the control groups grant; ``None``: no limit.

    Reads some files, which costs about a tenth of a millisecond. At least 1.
    """
    quotas = [quota for _, _, quota in find_quotas(root)]
    return ceil(min(quotas)) if quotas else None


def find_quotas(root: Path = Path("/")) -> list[tuple[Path, bool, float]]:
    """Return the control groups that have a quota of time, nearest first.

    Returns
    -------
    list of (folder : Path, is_v2 : bool, quota : float)
        Each with the number of cores that it grants, > 0.
    """
    return [
        (folder, is_v2, quota)
        for folder, is_v2 in find_groups("cpu", root)
        if (quota := _read_quota(folder, is_v2)) is not None
    ]


def count_physical_cores(n_cores: int, root: Path = Path("/")) -> int:
    """Count the distinct physical cores among the `n_cores` that may be used.

    Where logical cores that share a physical one are both allowed by affinity, they
    count once. With a quota, as many as there are of different ones are taken to be.

    Parameters
    ----------
    n_cores : int
        Cores that may be used, >= 1.
    root : Path, optional
        Where ``sys`` is found.

    Returns
    -------
    int
        Between 1 and `n_cores`; `n_cores` where the system doesn't say.
    """
    return max(1, min(n_cores, _count_physical(find_affinity(), root) or n_cores))


@lru_cache(maxsize=16)
def _count_physical(cores: frozenset[int], root: Path) -> int | None:
    folder = root / "sys/devices/system/cpu"
    siblings = {
        tuple(read_lines(folder / f"cpu{core}/topology/thread_siblings_list"))
        for core in cores
    }
    return psutil.cpu_count(logical=False) if () in siblings else len(siblings)


def _read_quota(folder: Path, is_v2: bool) -> float | None:
    """Return the number of cores that a group grants, > 0; ``None``: no limit."""
    if is_v2:
        # "150000 100000", or "max 100000"; the root group has no such file.
        words = " ".join(read_lines(f"{folder}/cpu.max")[:1]).split()
        if len(words) != 2 or not all(word.isdecimal() for word in words):
            return None
        quota, period = map(int, words)
    else:
        # Without a limit the quota is -1.
        quota = read_number(f"{folder}/cpu.cfs_quota_us") or 0
        if quota <= 0:
            return None
        period = read_number(f"{folder}/cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None
