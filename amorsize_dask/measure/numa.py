"""NUMA nodes: which memory is near to which cores, and which of it may be taken.

A group that is bound to some nodes (``cpuset.mems``) gets memory from these alone,
however much is left on the others. A process that isn't bound gets it from the nearest
node and, when that is full, from the others: so nodes limit nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from os.path import join
from pathlib import Path
from typing import NamedTuple

from amorsize_dask.measure.cgroup import read_lines

#: What of a node is free, or becomes so when someone needs it: free pages, the cache of
#: files and of the kernel. The kernel counts the whole machine in the same way, less
#: some tens of MB that it keeps for itself.
_AVAILABLE = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")


class Node(NamedTuple):
    """A part of the machine."""

    number: int
    cores: frozenset[int]
    total_bytes: int
    #: What is free, or would be when it is needed.
    available_bytes: int
    #: Whether this process may have memory of it.
    is_allowed: bool


def find_nodes(root: Path = Path("/")) -> list[Node]:
    """Return the nodes that are there; none where the system doesn't say.

    Some tens of microseconds for each.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are found.
    """
    folder = root / "sys/devices/system/node"
    allowed = _find_allowed(root)
    nodes = []
    for number in sorted(_read_numbers(folder / "online")):
        sizes = _read_sizes(folder / f"node{number}/meminfo")
        nodes.append(
            Node(
                number=number,
                cores=_read_numbers(folder / f"node{number}/cpulist"),
                total_bytes=sizes.get("MemTotal", 0),
                available_bytes=sum(sizes.get(name, 0) for name in _AVAILABLE),
                is_allowed=allowed is None or number in allowed,
            )
        )
    return nodes


def find_bound_nodes(root: Path = Path("/")) -> list[Node]:
    """Return the nodes that this process is bound to; none if it may use all memory.

    Costs about ten microseconds where there is one node.
    """
    if len(_read_numbers(join(root, "sys/devices/system/node/has_memory"))) < 2:
        return []
    nodes = [node for node in find_nodes(root) if node.total_bytes]
    bound = [node for node in nodes if node.is_allowed]
    return bound if len(bound) < len(nodes) else []


def _find_allowed(root: Path) -> frozenset[int] | None:
    """Return the nodes that all groups leave to this process; ``None``: not known."""
    # The kernel has worked it out of all ancestors' `cpuset.mems`, of both versions.
    for line in read_lines(root / "proc/self/status"):
        name, _, text = line.partition(":")
        if name == "Mems_allowed_list":
            return _parse_numbers(text)
    return None


def _read_sizes(path: Path) -> dict[str, int]:
    """Return a node's sizes in bytes by their names."""
    sizes = {}
    for line in read_lines(path):
        # "Node 0 MemFree:          102400 kB"
        words = line.split()
        if len(words) == 5 and words[3].isdecimal():
            sizes[words[2].rstrip(":")] = int(words[3]) * 1024
    return sizes


def _read_numbers(path: Path | str) -> frozenset[int]:
    return _parse_numbers("".join(read_lines(path)[:1]))


def _parse_numbers(text: str) -> frozenset[int]:
    """Return the numbers of a list such as ``"0-3,8"``."""
    return frozenset(_walk_numbers(text))


def _walk_numbers(text: str) -> Iterator[int]:
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            yield from range(int(first), int(last or first) + 1)
