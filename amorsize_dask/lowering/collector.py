"""Keeping Python's cycle collector from walking a graph while it is being made."""

from __future__ import annotations

import gc
import threading

#: Objects made meanwhile from which on they leave the first two generations of the
#: collector. Smaller: a few cycles of the user's wait for a full collection;
#: larger: graphs are walked three times, for nothing, when the collector is back.
MANY_OBJECTS = 50_000

#: Tasks of a graph from which on the collector leaves alone, while they run, what was
#: there when they began. Smaller: garbage of the user's waits for the end of each run;
#: larger: graphs are walked while they run, for 3 of 11 ms now and then if they have
#: 10,000 tasks, and three times and for 1.2 of 8.8 s if they have a million
#: (`inline_10000` and `inline_1000000` of the suite).
MANY_TASKS = 5_000

_lock = threading.Lock()
_n_paused = 0


# Contexts are classes: entering and leaving one takes a third of what it takes where a
# generator is one, and each run does it several times.


class PausedCollector:
    """Pauses the collector, as a context; several threads may do so at once.

    A graph is hundreds of thousands of objects that stay, beside a collection's own
    data. The collector, which is woken by such growth, walks all of it several times
    and finds nothing: that was 80 of 190 ms for a bag of 10,000 partitions.

    What was made is old at the end. Otherwise the collector would walk it once in each
    generation as soon as it is back: 1.6 of 10 s for a graph of a million tasks.
    """

    __slots__ = ("_is_ours",)

    def __enter__(self) -> None:
        global _n_paused
        with _lock:
            self._is_ours = bool(_n_paused or gc.isenabled())
            if self._is_ours:
                gc.disable()
                _n_paused += 1

    def __exit__(self, *_: object) -> None:
        global _n_paused
        if self._is_ours:
            with _lock:
                _n_paused -= 1
                if not _n_paused:
                    _make_old()
                    gc.enable()


class SparedGraph:
    """Keeps the collector from a graph and all else that is there, as a context.

    What is made meanwhile is collected as ever. What has been garbage before, and is in
    cycles, stays until the end.

    Parameters
    ----------
    n_tasks : int
        How many tasks the graph has. Of few it isn't worth it.
    is_open : bool, optional
        Whether it gets more of them, no one knows how many. What modules have made when
        they were imported, and that is walked whenever a quarter has been added to it,
        took 10 to 30 ms of a pipeline of a thousand items.
    """

    __slots__ = ("_is_ours",)

    def __init__(self, n_tasks: int, *, is_open: bool = False) -> None:
        is_worth_it = is_open or n_tasks >= MANY_TASKS
        # What someone else has frozen would be thawed.
        self._is_ours = is_worth_it and not gc.get_freeze_count()

    def __enter__(self) -> None:
        if self._is_ours:
            gc.freeze()

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            gc.unfreeze()


def _make_old() -> None:
    """Put many new objects where those are that have survived collections."""
    # Objects that someone has frozen would be thawed.
    if gc.get_count()[0] > MANY_OBJECTS and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
