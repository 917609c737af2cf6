"""How many cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import psutil

from amorsize_dask.measure.cgroup import find_groups, read_lines, read_number


def count_cores(root: Path = Path("/")) -> int:
    """Count the cores that this process may use: affinity and cgroup quotas.

    Unlike `dask.system.CPU_COUNT` it looks at the quotas of all ancestors, not only at
    those of the group that the process is in, or of the root.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are found.

    Returns
    -------
    int
        At least 1. A quota of one and a half cores counts as two.
    """
    return max(1, min([_count_by_affinity(), *map(ceil, _quotas(root))]))


def count_physical_cores(n_cores: int) -> int:
    """Count the distinct physical cores among the `n_cores` that may be used.

    Which logical cores share a physical one isn't looked at: up to as many as the
    machine has physical ones are taken to be distinct.
    """
    n_physical = psutil.cpu_count(logical=False)
    return max(1, min(n_cores, n_physical or n_cores))


def _count_by_affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yield the number of cores that each group allows, where it has a limit."""
    for folder, is_v2 in find_groups("cpu", root):
        if is_v2:
            words = " ".join(read_lines(folder / "cpu.max")[:1]).split()
            if len(words) != 2 or words[0] == "max":
                continue
            quota, period = map(_to_int, words)
        else:
            quota = read_number(folder / "cpu.cfs_quota_us")
            period = read_number(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0 and period > 0:
            yield quota / period


def _to_int(word: str) -> int | None:
    return int(word) if word.isdigit() else None
