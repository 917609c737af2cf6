"""What came back from a task, with its measurements."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """One finished task, as measured where it ran. The value stays at the edge."""

    task: int
    #: Seconds by the wall clock.
    seconds: float
    #: Seconds of CPU time of the task's thread; ``None``: not measured.
    cpu_s: float | None = None
    #: Bytes of the pickled result; ``None``: not measured.
    out_bytes: int | None = None
    #: Bytes of memory that it took beside its result and gave back; ``None``: not
    #: measured.
    peak_bytes: int | None = None
    #: Bytes that the result takes where it is kept; ``None``: as many as its pickle.
    held_bytes: int | None = None
    #: Whether the result stays where it was made, out of the caller's memory, until it
    #: is needed here.
    is_away: bool = False
