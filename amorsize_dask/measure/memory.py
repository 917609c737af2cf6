"""How much memory this process takes, and how much a run may take."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil

from amorsize_dask.measure.cgroup import (
    find_groups,
    read_lines,
    read_number,
    read_table,
)

if sys.platform != "win32":
    import resource

#: Version 1 writes "no limit" as the largest number of pages; nothing has this much.
NO_LIMIT_BYTES = 1 << 60

#: The files of a group that tell its limit and what it uses.
V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V2_FILES = ("memory.max", "memory.current")

#: Bytes by which two ways of reading the same peak may differ, as the kernel counts
#: pages in each core apart. Smaller: processes whose peak is their own read it the slow
#: way; larger: an inherited peak hides a growth of as much.
PEAK_SLACK_BYTES = 4 << 20

#: What `ru_maxrss` counts in.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024

_STATM = "/proc/self/statm"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class MemoryLimit(NamedTuple):
    """Something that bounds the memory of a run."""

    #: What sets the limit, for people.
    name: str
    #: Bytes that are left before it; not above 0 if there are none.
    left_bytes: int


def read_rss() -> int:
    """Return the resident bytes of this process.

    A few microseconds on Linux, some ten times as many elsewhere. Linux counts pages in
    each core apart and adds them up now and then, so that this can be behind by a few
    hundred kB.
    """
    try:
        # Opened anew each time: one that is kept would, after a fork, still tell of the
        # parent.
        descriptor = os.open(_STATM, os.O_RDONLY)
    except OSError:
        return int(psutil.Process().memory_info().rss)
    try:
        return int(os.read(descriptor, 128).split()[1]) * _PAGE_BYTES
    finally:
        os.close(descriptor)


def read_peak_rss() -> int:
    """Return the highest resident bytes that this process has had so far.

    Costs a microsecond, where the system keeps count; else the present value is taken.
    """
    if sys.platform == "win32":
        return read_rss()
    if _inherits_peak(os.getpid()):
        return _read_own_peak() or read_rss()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


@cache
def _inherits_peak(pid: int) -> bool:
    """Whether `ru_maxrss` of this process began with that of another one.

    On Linux it survives `exec`. A worker that is a fresh interpreter would otherwise
    report the caller's peak as its own, and no growth of it before it is larger.
    """
    if not sys.platform.startswith("linux"):
        return False
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
    # Read afterwards, so that only an inherited peak can be higher.
    own_peak = _read_own_peak()
    return own_peak is not None and peak > own_peak + PEAK_SLACK_BYTES


def _read_own_peak() -> int | None:
    """Return the peak since the last `exec`, at twenty times the price."""
    for line in read_lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


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
