"""Whether the system has ended processes because memory ran out."""

from __future__ import annotations

from pathlib import Path

from amorsize_dask.measure.cgroup import find_groups, read_table

#: The files of a group that tell how many of its processes were ended so.
V1_FILE = "memory.oom_control"
V2_FILE = "memory.events"


def count_oom_kills(root: Path = Path("/")) -> int | None:
    """Return how many processes were ended because memory ran out, since ever.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are found.

    Returns
    -------
    int or None
        Those of this process's control group, whoever's limit it was; where it has
        none, those of the whole system. ``None`` if no one counts.
    """
    groups = find_groups("memory", root)
    if groups:
        folder, is_v2 = groups[0]
        n = read_table(folder / (V2_FILE if is_v2 else V1_FILE)).get("oom_kill")
        if n is not None:
            return n
    return read_table(root / "proc/vmstat").get("oom_kill")


class OomKills:
    """Counts the processes that are ended because memory runs out."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._n_known: int | None = None

    def begin(self) -> None:
        """Count from now on, if that hasn't been said before."""
        if self._n_known is None:
            self._n_known = count_oom_kills(self._root)

    def take(self) -> bool:
        """Whether there was one more than was known of; of several one at a time.

        Where no one counts, or before the beginning, there was none.
        """
        n = count_oom_kills(self._root)
        if n is None or self._n_known is None or n <= self._n_known:
            return False
        self._n_known += 1
        return True
