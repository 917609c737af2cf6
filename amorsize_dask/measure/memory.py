"""How much memory a run may take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from amorsize_dask.measure.cgroup import (
    find_groups,
    read_number,
    read_table,
)

#: Version 1 writes "no limit" as the largest number of pages; nothing has this much.
NO_LIMIT_BYTES = 1 << 60

#: The files of a group that tell its limit and what it uses.
V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V2_FILES = ("memory.max", "memory.current")


class MemoryLimit(NamedTuple):
    """Something that bounds the memory of a run."""

    #: What sets the limit, for people.
    name: str
    #: Bytes that are left before it; not above 0 if there are none.
    left_bytes: int


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that a run may take: what the system and all groups have left.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are found.

    Returns
    -------
    int
        The least of `find_memory_limits`; at least 1.
    """
    return max(1, min(limit.left_bytes for limit in find_memory_limits(root)))


def find_memory_limits(root: Path = Path("/")) -> list[MemoryLimit]:
    """Return all that bounds the memory of a run, the system's own limit first."""
    return [limit for source in SOURCES for limit in source(root)]


def _find_in_system(root: Path) -> list[MemoryLimit]:
    return [MemoryLimit("system", psutil.virtual_memory().available)]


def _find_in_groups(root: Path) -> list[MemoryLimit]:
    limits = []
    for folder, is_v2 in find_groups("memory", root):
        of_limit, of_usage = V2_FILES if is_v2 else V1_FILES
        limit = read_number(folder / of_limit)
        if limit is None or limit >= NO_LIMIT_BYTES:
            continue
        # Read only where there is a limit: the kernel adds up all cores for it.
        used = read_number(folder / of_usage) or 0
        left = limit - max(0, used - _read_reclaimable(folder, is_v2))
        limits.append(MemoryLimit(f"cgroup {folder}", left))
    return limits


def _read_reclaimable(folder: Path, is_v2: bool) -> int:
    """Return the bytes of page cache that a group counts as used and would give up."""
    table = read_table(folder / "memory.stat")
    inactive = table.get("inactive_file", 0)
    # Usage contains that of the groups below, and so must this. In version 1 it has a
    # name of its own.
    return inactive if is_v2 else table.get("total_inactive_file", inactive)


#: Where limits are looked for; each finds any number of them.
SOURCES: tuple[Callable[[Path], list[MemoryLimit]], ...] = (
    _find_in_system,
    _find_in_groups,
)
