"""What tasks take in threads, beside others that are under way there."""

from __future__ import annotations

from collections.abc import Sequence

from amorsize_dask.core.fading import weigh
from amorsize_dask.core.outcome import Outcome


class Crew:
    """Fading means of tasks in threads, by item.

    Their seconds contain the waiting for the GIL and for a core.

    Attributes
    ----------
    n_items : int
        Items that were counted.
    mean_s, cpu_s : float
        Mean seconds of an item, and those in which it computes.
    variance : float
        That of the seconds of items.
    """

    __slots__ = ("cpu_s", "mean_s", "n_items", "variance")

    def __init__(self) -> None:
        self.n_items = 0
        self.mean_s = self.cpu_s = self.variance = 0.0

    def add(self, outcomes: Sequence[Outcome], n_items: int) -> None:
        """Count tasks of so many items, those whose CPU seconds were measured."""
        measured = [(out.seconds, out.cpu_s) for out in outcomes]
        known = [(seconds, cpu_s) for seconds, cpu_s in measured if cpu_s is not None]
        if not known:
            return
        n_known = len(known) * n_items / len(outcomes)
        self.n_items += n_items
        weight = weigh(n_items, self.n_items)
        mean_s = sum(seconds for seconds, _ in known) / n_known
        cpu_s = sum(cpu_s for _, cpu_s in known) / n_known
        # Means of so many items spread less than these do.
        size, delta = n_items / len(outcomes), mean_s - self.mean_s
        within = sum((seconds - size * mean_s) ** 2 for seconds, _ in known)
        self.variance = (1 - weight) * (self.variance + weight * size * delta**2)
        self.variance += weight * within / n_known
        self.mean_s += weight * delta
        self.cpu_s += weight * (cpu_s - self.cpu_s)
