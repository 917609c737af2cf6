"""What others take of this machine: cores that are in use, and pressure on memory.

Cores are counted by CPU time: what all processes have used on the cores that this one
may run on, less what this process and its workers have. So a run that has just ended
isn't taken for someone else's, as it would be by the load average.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import psutil

from amorsize_dask.core.units import format_bytes
from amorsize_dask.measure.cgroup import (
    find_groups,
    read_lines,
    read_number,
    read_table,
)
from amorsize_dask.measure.cores import find_affinity, find_quotas

#: Seconds between two looks from which on what was used between them counts. Smaller:
#: time is counted in hundredths of a second, which is too coarse for it; larger: runs
#: soon after each other go by what was seen before the first of them.
MIN_WINDOW_S = 0.5

#: Seconds up to which it does. Smaller: after each pause the load average has to do,
#: which knows less; larger: others that ended long ago still count.
MAX_WINDOW_S = 60.0

#: Share of the time that someone waits for memory at which half of it may be taken.
#: Smaller: a disk that is read for the first time costs workers; larger: a machine that
#: is about to stand still is given the rest.
HALVING_PRESSURE = 0.1

#: Pressure below which memory isn't short. Smaller: each run has another limit, for
#: nothing; larger: a slow beginning isn't seen.
MIN_PRESSURE = 0.01


class CoreUse(NamedTuple):
    """Cores that others share with this process."""

    #: What shares them out, for people.
    name: str
    n_cores: float
    #: Cores' worth of time that others use.
    by_others: float


class Pressure(NamedTuple):
    """How much of the last ten seconds someone has waited for memory."""

    name: str
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What others take, as far as it is known."""

    cores: tuple[CoreUse, ...] = ()
    #: The largest one there is; ``None``: the system doesn't say.
    memory: Pressure | None = None

    @property
    def cores_left(self) -> float | None:
        """Cores' worth of time that others leave; ``None``: not known."""
        return min((use.n_cores - use.by_others for use in self.cores), default=None)

    def limit_cores(self, n_cores: int) -> int:
        """Return how many of `n_cores` others leave, rounded to whole ones, >= 1."""
        left = self.cores_left
        return n_cores if left is None else max(1, min(n_cores, int(left + 0.5)))

    @property
    def memory_fraction(self) -> float:
        """Share of the memory that is left that may be taken; 1 without pressure."""
        if self.memory is None or self.memory.fraction < MIN_PRESSURE:
            return 1.0
        return 1 / (1 + self.memory.fraction / HALVING_PRESSURE)

    def limit_memory(self, n_bytes: int) -> int:
        """Return how many of `n_bytes` may be taken, >= 1."""
        return max(1, int(n_bytes * self.memory_fraction))

    def explain(self, n_cores: int, n_bytes: int) -> str:
        """Say what becomes of cores and memory, and why."""
        n_left = self.limit_cores(n_cores)
        text = f"{n_left} of {n_cores} cores"
        if self.cores:
            least = min(self.cores, key=lambda use: use.n_cores - use.by_others)
            text += (
                f", since others use {least.by_others:.1f} of {least.n_cores:g} "
                f"({least.name})"
            )
        if self.memory_fraction < 1.0:
            assert self.memory is not None
            text += (
                f"; {format_bytes(self.limit_memory(n_bytes))} of "
                f"{format_bytes(n_bytes)}, since memory is waited for "
                f"{self.memory.fraction:.0%} of the time ({self.memory.name})"
            )
        return text


class _Sample(NamedTuple):
    """CPU seconds that have been used until one moment."""

    at_s: float
    #: On each core of the machine, by anyone.
    by_core: dict[int, float]
    #: By this process and each of its workers.
    by_own: dict[int, float]
    #: In each group that has a quota, by anyone.
    by_group: dict[Path, float]


class LoadWatch:
    """Looks at what others take, now and since it looked before.

    Parameters
    ----------
    root : Path, optional
        Where ``proc`` and ``sys`` are found.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(
        self, root: Path = Path("/"), clock: Callable[[], float] = monotonic
    ) -> None:
        self._root = root
        self._clock = clock
        self._seen: tuple[CoreUse, ...] | None = None
        self._before = self._sample(())

    def look(self, pids: Iterable[int] = ()) -> Load:
        """Return what others take now.

        Reads a dozen files, which takes about a tenth of a millisecond, and one more
        for each worker, 15 µs.

        Parameters
        ----------
        pids : iterable of int
            Processes that work for this one, so that they are no others.
        """
        now = self._sample(pids)
        if now.at_s - self._before.at_s >= MIN_WINDOW_S:
            used = _use_between(self._before, now, self._root)
            self._before, self._seen = now, used
        if self._seen is None:
            # Worker processes of ours might be what there is pressure from.
            is_alone = now.by_own.keys() <= {os.getpid()}
            self._seen = _use_now(self._root, len(now.by_core), is_alone=is_alone)
        return Load(cores=self._seen, memory=_find_memory_pressure(self._root))

    def _sample(self, pids: Iterable[int]) -> _Sample:
        root = self._root
        own = {os.getpid(): _read_own_s(root, "self")}
        for pid in pids:
            own[pid] = _read_own_s(root, str(pid))
        return _Sample(
            at_s=self._clock(),
            by_core=_read_busy_s(root),
            by_own={pid: s for pid, s in own.items() if s is not None},
            by_group={
                folder: used_s
                for folder, is_v2, _ in find_quotas(root)
                if (used_s := _read_group_s(folder, is_v2)) is not None
            },
        )


def _use_between(
    before: _Sample, now: _Sample, root: Path
) -> tuple[CoreUse, ...] | None:
    """Return what others have used between two looks; ``None``: it can't be known."""
    seconds = now.at_s - before.at_s
    if seconds > MAX_WINDOW_S or os.getpid() not in before.by_own:
        return None
    if not before.by_own.keys() <= now.by_own.keys():
        # No one knows how much of it a worker has used that has ended since.
        return None
    own_s = sum(s - before.by_own.get(pid, 0.0) for pid, s in now.by_own.items())
    cores = find_affinity() & before.by_core.keys() & now.by_core.keys()
    if not cores:
        return None
    busy_s = sum(now.by_core[core] - before.by_core[core] for core in cores)
    uses = [_use("cores", len(cores), (busy_s - own_s) / seconds)]
    for folder, _, quota in find_quotas(root):
        if folder in before.by_group and folder in now.by_group:
            used_s = now.by_group[folder] - before.by_group[folder]
            uses.append(_use(f"cgroup {folder}", quota, (used_s - own_s) / seconds))
    return tuple(uses)


def _use_now(root: Path, n_cores: int, *, is_alone: bool) -> tuple[CoreUse, ...]:
    """Return what others seem to use, from what the system knows without a window.

    They use no more than the load average says, which is slow to fall, and no more than
    want to run right now, which may be less for a moment.
    """
    words = " ".join(read_lines(root / "proc/loadavg")[:1]).split()
    try:
        load, n_running = float(words[0]), int(words[3].partition("/")[0])
    except (IndexError, ValueError):
        return ()
    # One of those that run is the thread that reads this.
    by_others = min(load, max(0, n_running - 1))
    uses = []
    if is_alone:
        if len(find_affinity()) >= n_cores:
            waited = _read_pressure(root / "proc/pressure/cpu") or 0.0
            # Someone waits for a core only if all of them are in use.
            by_others = max(by_others, waited * n_cores)
        for folder, is_v2, quota in find_quotas(root):
            stalled = _read_pressure(folder / "cpu.pressure") if is_v2 else None
            if stalled:
                uses.append(_use(f"cgroup {folder}", quota, stalled * quota))
    return _use("load average", n_cores, by_others), *uses


def _use(name: str, n_cores: float, by_others: float) -> CoreUse:
    return CoreUse(name, n_cores, min(n_cores, max(0.0, by_others)))


def _find_memory_pressure(root: Path) -> Pressure | None:
    """Return the largest pressure of the system and of all groups."""
    files = [("system", root / "proc/pressure/memory")]
    for folder, is_v2 in find_groups("memory", root):
        if is_v2:
            files.append((f"cgroup {folder}", folder / "memory.pressure"))
    pressures = [
        Pressure(name, fraction)
        for name, path in files
        if (fraction := _read_pressure(path)) is not None
    ]
    return max(pressures, key=lambda pressure: pressure.fraction, default=None)


def _read_pressure(path: Path) -> float | None:
    """Return the share of the last ten seconds in which something has waited."""
    # "some avg10=0.12 avg60=0.05 avg300=0.01 total=4038360", in per cent.
    for line in read_lines(path):
        kind, *pairs = line.split()
        values = dict(pair.partition("=")[::2] for pair in pairs)
        if kind == "some" and "avg10" in values:
            try:
                return float(values["avg10"]) / 100
            except ValueError:
                return None
    return None


def _read_busy_s(root: Path) -> dict[int, float]:
    """Return the seconds that each core was in use, also by the hypervisor's others."""
    busy = {}
    lines = read_lines(root / "proc/stat")
    for line in lines:
        name, *words = line.split() or [""]
        if not (name.startswith("cpu") and name[3:].isdecimal()):
            continue
        # user, nice, system, idle, iowait, irq, softirq, steal; guests are users, too.
        ticks = [int(word) for word in words[:8] if word.isdecimal()]
        busy[int(name[3:])] = (sum(ticks) - sum(ticks[3:5])) / _ticks_per_s()
    if not lines:
        for core, times in enumerate(psutil.cpu_times(percpu=True)):
            busy[core] = sum(times) - times.idle
    return busy


def _read_own_s(root: Path, process: str) -> float | None:
    """Return the CPU seconds of a process and of its children that have ended."""
    lines = read_lines(root / "proc" / process / "stat")
    if not lines:
        return None if _has_proc(root) else _ask_own_s(process)
    # The name is in brackets and may have brackets and blanks in it.
    words = lines[-1].rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / _ticks_per_s()


def _ask_own_s(process: str) -> float | None:
    try:
        times = psutil.Process(None if process == "self" else int(process)).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _read_group_s(folder: Path, is_v2: bool) -> float | None:
    """Return the CPU seconds that a group has used."""
    if is_v2:
        used = read_table(folder / "cpu.stat").get("usage_usec")
        return None if used is None else used / 1e6
    used = read_number(folder / "cpuacct.usage")
    return None if used is None else used / 1e9


def _has_proc(root: Path) -> bool:
    return os.path.exists(root / "proc/stat")


def _ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK")
