"""The control groups that this process is in, nearest first.

Only Linux has them. A process is in one group of each hierarchy, and the limits of all
its ancestors hold as well, so looking at the root alone, or at the group alone, misses
those that a batch system or a container runtime has set between them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

#: Bytes of a file that are read. ``memory.stat`` has about 2000, and the length of
#: ``proc/self/cgroup`` depends on how deep the groups are nested. Smaller: its end is
#: missed; larger: no harm.
MAX_BYTES = 65_536


def find_groups(controller: str, root: Path) -> tuple[tuple[Path, bool], ...]:
    """Find the folders of the groups that limit this process.

    Parameters
    ----------
    controller : str
        ``"cpu"`` or ``"memory"``.
    root : Path
        Where ``proc`` and ``sys`` are found: ``/`` but in tests.

    Returns
    -------
    tuple of (folder : Path, is_v2 : bool)
        Each folder from the process's own group up to the hierarchy's root, and whether
        it follows version 2 of the interface. Empty where there are no groups.
    """
    # A process can be moved to another group while it runs, so that is read each time.
    # Here and below: `os.path` where a compute waits for it, at a tenth of the price.
    membership = tuple(read_lines(os.path.join(root, "proc/self/cgroup")))
    return _find_groups(controller, root, membership)


@lru_cache(maxsize=16)
def _find_groups(
    controller: str, root: Path, membership: tuple[str, ...]
) -> tuple[tuple[Path, bool], ...]:
    groups: list[tuple[Path, bool]] = []
    for line in membership:
        # "4:memory:/path", with several controllers "3:cpu,cpuacct:/path", and for
        # version 2 "0::/path".
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        is_v2 = not names
        if is_v2:
            mount = _find_mount_v2(root / "sys/fs/cgroup")
        elif controller in names.split(","):
            mount = _find_mount_v1(root / "sys/fs/cgroup", names, controller)
        else:
            continue
        if mount is not None:
            groups += [(folder, is_v2) for folder in _lineage(mount, path)]
    return tuple(groups)


def _find_mount_v2(base: Path) -> Path | None:
    """Find the one hierarchy of version 2: alone, or beside those of version 1."""
    # Unlike `os.path`, the methods of `Path` raise where a folder may not be looked
    # into.
    unified = base / "unified"
    if os.path.isdir(unified):
        return unified
    return base if os.path.exists(base / "cgroup.controllers") else None


def _find_mount_v1(base: Path, names: str, controller: str) -> Path | None:
    for mount in (base / names, base / controller):
        if os.path.isdir(mount):
            return mount
    return None


def _lineage(mount: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and those of its ancestors, up to the mounted one.

    Inside of a container the path may be the host's, while what is mounted is the
    container's own group; or it may lead out of what is visible, by "..". Both can be
    seen no nearer than the mounted group, which limits this process in any case.
    """
    parts = [part for part in path.split("/") if part]
    if ".." in parts or not os.path.isdir(mount.joinpath(*parts)):
        parts = []
    for n in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:n])


def read_lines(path: Path | str) -> list[str]:
    """Return the first `MAX_BYTES` of a file as lines; none if it can't be read."""
    try:
        # Half the price of `open`, and a look at the machine reads a dozen files.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.read(descriptor, MAX_BYTES).decode().splitlines()
        finally:
            os.close(descriptor)
    except (OSError, UnicodeDecodeError):
        return []


def read_number(path: Path | str) -> int | None:
    """Return the number in a file; ``None`` if there is none, as for "max"."""
    try:
        return int(read_lines(path)[0])
    except (IndexError, ValueError):
        return None


def read_table(path: Path | str) -> dict[str, int]:
    """Return a file of names and numbers, such as ``memory.stat``."""
    table = {}
    for line in read_lines(path):
        name, _, number = line.partition(" ")
        if number.strip().isdecimal():
            table[name] = int(number)
    return table
