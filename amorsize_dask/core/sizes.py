"""What is known of a stage in bytes: of what is sent, of results, and of memory.

What all tasks of a run hold together is in `core.budget`.
"""

from __future__ import annotations

from collections.abc import Sequence

from amorsize_dask.core.experience import Experience
from amorsize_dask.core.fading import WINDOW, weigh
from amorsize_dask.core.outcome import Outcome


class Sizes:
    """Fading means of bytes by item, and the largest peak of a task.

    What earlier runs have shown counts until the first of its kind is measured.

    Attributes
    ----------
    in_bytes : float
        Mean bytes that are sent for an item, pickled.
    held_bytes : float
        Mean bytes that a result takes in a process.
    peak_bytes : float
        Largest memory peak of a task.
    """

    __slots__ = (
        "_measured_peak_bytes",
        "_n_items_held",
        "_n_items_pickled",
        "_pickled_bytes",
        "_pickled_held_bytes",
        "held_bytes",
        "in_bytes",
        "peak_bytes",
    )

    def __init__(self) -> None:
        self.in_bytes = 0.0
        self.held_bytes = 0.0
        self._n_items_held = 0
        # Of results whose pickle was measured, its mean bytes and what they take in a
        # process: objects may be many times as large as their pickles.
        self._pickled_bytes = self._pickled_held_bytes = 0.0
        self._n_items_pickled = 0
        self.peak_bytes = 0.0
        self._measured_peak_bytes = 0.0

    @property
    def out_bytes(self) -> float:
        """Mean bytes of a pickled result, going by those whose pickle was measured.

        If none was it is taken to be as large as the result itself.
        """
        if not self._pickled_held_bytes:
            return self.held_bytes
        return self.held_bytes * self._pickled_bytes / self._pickled_held_bytes

    @property
    def measured_bytes(self) -> float:
        """Most that a task of this run has taken by itself, or its result does."""
        held_bytes = self.held_bytes if self._n_items_held else 0.0
        return max(self._measured_peak_bytes, held_bytes)

    def add(self, outcomes: Sequence[Outcome], n_items_a_task: float) -> None:
        """Count what tasks took and have made, as far as it was measured."""
        # Of many short tasks next to none are.
        measured = [
            out
            for out in outcomes
            if out.out_bytes is not None
            or out.held_bytes is not None
            or out.peak_bytes is not None
        ]
        n_held = n_pickled = 0
        held_bytes = pickled_bytes = pickled_held_bytes = 0
        for outcome in measured:
            n_bytes, out_bytes = outcome.object_bytes, outcome.out_bytes
            if n_bytes is not None:
                n_held += 1
                held_bytes += n_bytes
                if out_bytes is not None:
                    n_pickled += 1
                    pickled_bytes += out_bytes
                    pickled_held_bytes += n_bytes
            if outcome.peak_bytes is not None:
                peak = max(self._measured_peak_bytes, outcome.peak_bytes)
                self._measured_peak_bytes = self.peak_bytes = peak
        if n_held:
            n_items = round(n_held * n_items_a_task)
            self._n_items_held += n_items
            weight = weigh(n_items, self._n_items_held)
            self.held_bytes += weight * (held_bytes / n_items - self.held_bytes)
        if n_pickled:
            n_items = round(n_pickled * n_items_a_task)
            self._n_items_pickled += n_items
            weight = weigh(n_items, self._n_items_pickled)
            self._pickled_bytes += weight * (
                pickled_bytes / n_items - self._pickled_bytes
            )
            self._pickled_held_bytes += weight * (
                pickled_held_bytes / n_items - self._pickled_held_bytes
            )

    def add_sent(self, in_bytes: float) -> None:
        """Count the bytes that were sent for an item."""
        if self.in_bytes:
            self.in_bytes += (in_bytes - self.in_bytes) / WINDOW
        else:
            self.in_bytes = in_bytes

    def recall(self, experience: Experience) -> None:
        """Take earlier runs' word for what hasn't been measured."""
        self.in_bytes = experience.in_bytes
        self.peak_bytes = experience.peak_bytes
        self._pickled_bytes = experience.out_bytes
        self.held_bytes = experience.held_bytes or experience.out_bytes
        self._pickled_held_bytes = self.held_bytes

    def forget_results(self) -> None:
        """Forget how large results are: from now on tasks have others."""
        self.held_bytes = self._pickled_bytes = self._pickled_held_bytes = 0.0
        self._n_items_held = self._n_items_pickled = 0
