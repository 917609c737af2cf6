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
    #: Where the result is kept in a file, the bytes that it takes beside it once it has
    #: been loaded: next to none if it is an array, which is mapped. ``None``: it is
    #: kept as what it is.
    loaded_bytes: int | None = None

    @property
    def kept_bytes(self) -> int | None:
        """Bytes that the result takes where it is kept; ``None``: not measured."""
        return self.out_bytes if self.held_bytes is None else self.held_bytes

    @property
    def object_bytes(self) -> int | None:
        """Bytes that the result takes in a process; ``None``: not measured."""
        kept_bytes = self.kept_bytes
        if kept_bytes is None:
            return None
        return max(kept_bytes, self.loaded_bytes or 0)
