"""The control groups that this process is in, nearest first.

Only Linux has them. A process is in one group of each hierarchy, and the limits of all
its ancestors hold as well, so looking at the root alone, or at the group alone, misses
those that a batch system or a container runtime has set between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def find_groups(controller: str, root: Path) -> tuple[tuple[Path, bool], ...]:
    """Find the folders of the groups that limit this process, once.

    Parameters
    ----------
    controller : str
        ``"cpu"`` or ``"memory"``.
    root : Path
        Where ``proc`` and ``sys`` are found: ``/`` but in tests.

    Returns
    -------
    tuple of (folder : Path, is_v2 : bool)
        Each existing folder from the process's own group up to the hierarchy's root,
        and whether it follows version 2 of the interface.
    """
    return tuple(_find_groups(controller, root))


def _find_groups(controller: str, root: Path) -> Iterator[tuple[Path, bool]]:
    base = root / "sys/fs/cgroup"
    for line in read_lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        is_v2 = not names
        if not is_v2 and controller not in names.split(","):
            continue
        for mount in _mounts(base, names, controller, is_v2):
            yield from ((folder, is_v2) for folder in _ancestors(mount, path))


def _mounts(base: Path, names: str, controller: str, is_v2: bool) -> list[Path]:
    if is_v2:
        # The whole hierarchy, or beside those of version 1.
        candidates = [base / "unified"]
        if (base / "cgroup.controllers").exists():
            candidates.append(base)
    else:
        candidates = list(dict.fromkeys([base / names, base / controller]))
    return [mount for mount in candidates if mount.is_dir()][:1]


def _ancestors(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for n in range(len(parts), -1, -1):
        # Inside of a container the path may be the host's, and not be there.
        folder = mount.joinpath(*parts[:n])
        if folder.is_dir():
            yield folder


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file, or none if it can't be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def read_number(path: Path) -> int | None:
    """Return the number in a file; ``None`` if there is none, as for "max"."""
    try:
        return int(read_lines(path)[0])
    except (IndexError, ValueError):
        return None


def read_table(path: Path) -> dict[str, int]:
    """Return a file of names and numbers, such as ``memory.stat``."""
    table = {}
    for line in read_lines(path):
        name, _, number = line.partition(" ")
        if number.strip().isdigit():
            table[name] = int(number)
    return table
