"""How many cores this process may use."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

import psutil

from amorsize_dask.measure.batch_system import find_job_cores
from amorsize_dask.measure.cgroup import find_groups, read_lines, read_number


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
    """Return what control groups and batch systems grant, by name.

    Reads some files, which costs about a tenth of a millisecond.
    """
    n_by_quota = count_by_quota(root)
    by_quota = {} if n_by_quota is None else {"cgroup quota": n_by_quota}
    return {**by_quota, **find_job_cores()}


def count_by_affinity() -> int:
    """Count the cores that the scheduler of the system may run this process on.

    Costs a microsecond. At least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_by_quota(root: Path = Path("/")) -> int | None:
    """Count the cores whose time the control groups grant; ``None``: no limit.

    Reads some files, which costs about a tenth of a millisecond. At least 1.
    """
    quotas = [
        quota
        for folder, is_v2 in find_groups("cpu", root)
        if (quota := _read_quota(folder, is_v2)) is not None
    ]
    return ceil(min(quotas)) if quotas else None


def count_physical_cores(n_cores: int) -> int:
    """Count the distinct physical cores among the `n_cores` that may be used.

    Which logical cores share a physical one isn't looked at: up to as many as the
    machine has physical ones are taken to be distinct.

    Parameters
    ----------
    n_cores : int
        Cores that may be used, >= 1.

    Returns
    -------
    int
        Between 1 and `n_cores`; `n_cores` where the system doesn't say.
    """
    n_physical = psutil.cpu_count(logical=False)
    return max(1, min(n_cores, n_physical or n_cores))


def _read_quota(folder: Path, is_v2: bool) -> float | None:
    """Return the number of cores that a group grants, > 0; ``None``: no limit."""
    if is_v2:
        # "150000 100000", or "max 100000"; the root group has no such file.
        words = " ".join(read_lines(folder / "cpu.max")[:1]).split()
        if len(words) != 2 or not all(word.isdecimal() for word in words):
            return None
        quota, period = map(int, words)
    else:
        # Without a limit the quota is -1.
        quota = read_number(folder / "cpu.cfs_quota_us") or 0
        period = read_number(folder / "cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None
