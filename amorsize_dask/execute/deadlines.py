"""Until when each worker process has time for the task that it runs."""

from __future__ import annotations

from time import perf_counter

#: Seconds that a worker has, beside those of the task, to get a task and its arguments
#: out of what it was sent: it may have to import what they are made of. Smaller: tasks
#: are ended for imports; larger: one that hangs while it is unpickled is noticed that
#: much later.
LOADING_S = 30.0


class Deadlines:
    """The workers that have a batch, and since when.

    Parameters
    ----------
    timeout_s : float or None
        Seconds that a task may take; ``None``: as long as it likes.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._ends_at: dict[int, float] = {}
        self._late: set[int] = set()

    def begin(self, number: int) -> None:
        """Note that a worker is about to load its next batch."""
        if self.timeout_s is not None:
            self._ends_at[number] = perf_counter() + LOADING_S + self.timeout_s

    def note_loaded(self, number: int) -> None:
        """Note that it has done so, and begins to run it."""
        if self.timeout_s is not None and number in self._ends_at:
            self._ends_at[number] = perf_counter() + self.timeout_s

    def end(self, number: int) -> None:
        """Note that a worker has no batch any more."""
        self._ends_at.pop(number, None)

    def seconds_left(self) -> float | None:
        """Return the seconds until a worker has been busy for too long, if any can."""
        if not self._ends_at:
            return None
        return max(0.0, min(self._ends_at.values()) - perf_counter())

    def take_late(self) -> list[int]:
        """Return the workers that have been busy for too long, each once."""
        now = perf_counter()
        late = [number for number, end in self._ends_at.items() if end <= now]
        for number in late:
            del self._ends_at[number]
        self._late.update(late)
        return late

    def is_late(self, number: int) -> bool:
        """Whether a worker has been busy for too long."""
        return number in self._late
