"""How much memory this process takes, and how much a run may take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from amorsize_dask.measure.cgroup import find_groups, read_number, read_table

with suppress(ImportError):  # Windows has no such module
    import resource

#: Version 1 writes "no limit" as the largest number of pages; nothing has this much.
NO_LIMIT_BYTES = 1 << 60

#: What `ru_maxrss` counts in.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


def read_rss() -> int:
    """Return the resident bytes of this process."""
    return int(psutil.Process().memory_info().rss)


def read_peak_rss() -> int:
    """Return the highest resident bytes that this process has had so far.

    Costs a microsecond, where the system keeps count; else the present value is taken.
    """
    if "resource" not in globals():
        return read_rss()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that a run may take: what the system and all groups have left.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are found.

    Returns
    -------
    int
        At least 1.
    """
    return max(
        1, min(psutil.virtual_memory().available, *_left_in_groups(root), 1 << 62)
    )


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what each group has left, where it has a limit.

    Page cache that can be reclaimed counts as used in a group, and isn't.
    """
    for folder, is_v2 in find_groups("memory", root):
        names = ("max", "current") if is_v2 else ("limit_in_bytes", "usage_in_bytes")
        limit, used = (read_number(folder / f"memory.{name}") for name in names)
        if limit is None or limit >= NO_LIMIT_BYTES:
            continue
        statistics = read_table(folder / "memory.stat")
        cache = statistics.get("inactive_file" if is_v2 else "total_inactive_file", 0)
        yield limit - max(0, (used or 0) - cache)
