"""How much memory a run may take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from amorsize_dask.measure.batch_system import find_job_memory
from amorsize_dask.measure.cgroup import (
    find_groups,
    read_number,
    read_table,
)
from amorsize_dask.measure.numa import find_bound_nodes
from amorsize_dask.measure.rss import read_rss, read_virtual

if sys.platform != "win32":
    import resource

#: Version 1 writes "no limit" as the largest number of pages; nothing has this much.
NO_LIMIT_BYTES = 1 << 60

#: The files of a group that tell its limits, and what it uses. Beyond ``memory.high``
#: nothing is killed, but all of the group is slowed down until it takes less.
V1_FILES = ("memory.limit_in_bytes",), "memory.usage_in_bytes"
V2_FILES = ("memory.max", "memory.high"), "memory.current"


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
    return max(1, find_binding_limit(root).left_bytes)


def find_binding_limit(root: Path = Path("/")) -> MemoryLimit:
    """Return what leaves the least."""
    return min(find_memory_limits(root), key=lambda limit: limit.left_bytes)


def find_memory_limits(root: Path = Path("/")) -> list[MemoryLimit]:
    """Return all that bounds the memory of a run, the system's own limit first.

    They are what the system has available, or the NUMA nodes that this process is bound
    to, the control groups' limits, this process's resource limits, and what a batch
    system grants.
    """
    return [limit for source in SOURCES for limit in source(root)]


def _find_in_system(root: Path) -> list[MemoryLimit]:
    return [MemoryLimit("system", psutil.virtual_memory().available)]


def _find_in_nodes(root: Path) -> list[MemoryLimit]:
    """Find what is left on the NUMA nodes that this process is bound to."""
    nodes = find_bound_nodes(root)
    if not nodes:
        return []
    name = f"NUMA node {','.join(str(node.number) for node in nodes)}"
    return [MemoryLimit(name, sum(node.available_bytes for node in nodes))]


def _find_in_groups(root: Path) -> list[MemoryLimit]:
    limits = []
    groups = find_groups("memory", root)
    for i, (folder, is_v2) in enumerate(groups):
        of_limits, of_usage = V2_FILES if is_v2 else V1_FILES
        bounds = [read_number(f"{folder}/{name}") for name in of_limits]
        if not is_v2 and groups[i + 1 :][:1] != ((folder.parent, False),):
            # Of the outermost group that can be seen, version 1 says what those allow
            # that can't be: in a container, the pod that it is a part of.
            table = read_table(f"{folder}/memory.stat")
            bounds.append(table.get("hierarchical_memory_limit"))
        known = [n for n in bounds if n is not None and n < NO_LIMIT_BYTES]
        if not known:
            continue
        # Read only where there is a limit: the kernel adds up all cores for it.
        used = read_number(f"{folder}/{of_usage}") or 0
        left = min(known) - max(0, used - _read_reclaimable(folder, is_v2))
        limits.append(MemoryLimit(f"cgroup {folder}", left))
    return limits


def _read_reclaimable(folder: Path, is_v2: bool) -> int:
    """Return the bytes of page cache that a group counts as used and would give up."""
    table = read_table(f"{folder}/memory.stat")
    inactive = table.get("inactive_file", 0)
    # Usage contains that of the groups below, and so must this. In version 1 it has a
    # name of its own.
    return inactive if is_v2 else table.get("total_inactive_file", inactive)


def _find_in_resource_limits(root: Path) -> list[MemoryLimit]:
    """Find the limits of each process, of which this one has used up a part."""
    limits = []
    if sys.platform != "win32":
        for name, used in (("RLIMIT_AS", read_virtual), ("RLIMIT_RSS", read_rss)):
            soft, _ = resource.getrlimit(getattr(resource, name))
            if soft != resource.RLIM_INFINITY:
                limits.append(MemoryLimit(name, soft - used()))
    return limits


def _find_in_batch_system(root: Path) -> list[MemoryLimit]:
    return [
        MemoryLimit(name, n_bytes - read_rss())
        for name, n_bytes in find_job_memory().items()
    ]


#: Where limits are looked for; each finds any number of them.
SOURCES: tuple[Callable[[Path], list[MemoryLimit]], ...] = (
    _find_in_system,
    _find_in_nodes,
    _find_in_groups,
    _find_in_resource_limits,
    _find_in_batch_system,
)
