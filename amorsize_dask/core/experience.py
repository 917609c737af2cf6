"""What earlier runs have shown of a stage, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What was measured of a stage in earlier runs; all by item, as in `Workload`."""

    #: Items that the last of them had, >= 1.
    n_items: int
    #: Mean and standard deviation of an item's seconds, >= 0.
    mean_s: float
    std_s: float
    #: Share of the seconds in which it computes, 0 to 1.
    cpu_fraction: float
    #: Share in which the GIL is held, 0 to 1; ``None``: not measured.
    gil_fraction: float | None
    #: Bytes that go to an item and come back from it, pickled.
    in_bytes: float = 0.0
    out_bytes: float = 0.0
    #: Bytes that its result takes in a process; 0: as many as its pickle.
    held_bytes: float = 0.0
    #: Seconds that pickling them takes, and unpickling again; 0: not measured.
    pack_s: float = 0.0
    #: Bytes of memory that a running task adds at its peak.
    peak_bytes: float = 0.0


class Sampled(Experience):
    """The same of some of the very items that a run has, and so of what they make."""

    __slots__ = ()


#: By stage, where no run has been before.
NOTHING_KNOWN: Mapping[int, Experience] = {}
