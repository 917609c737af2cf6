"""Keeping Python's cycle collector from walking a graph while it is being made."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the collector; several threads may do so at the same time.

    A graph is hundreds of thousands of objects that stay, beside a collection's own
    data. The collector, which is woken by such growth, walks all of it several times
    and finds nothing: that was 80 of 190 ms for a bag of 10,000 partitions.

    What was made is old at the end. Otherwise the collector would walk it once in each
    generation as soon as it is back: 1.6 of 10 s for a graph of a million tasks.
    """
    global _n_paused
    with _lock:
        if _n_paused or gc.isenabled():
            gc.disable()
            _n_paused += 1
            is_ours = True
        else:
            is_ours = False
    try:
        yield
    finally:
        if is_ours:
            with _lock:
                _n_paused -= 1
                if not _n_paused:
                    _make_old()
                    gc.enable()


@contextmanager
def graph_spared(n_tasks: int) -> Iterator[None]:
    """Keep the collector from a graph of so many tasks, and all else that is there.

    What is made meanwhile is collected as ever. What has been garbage before, and is in
    cycles, stays until the end.
    """
    # What someone else has frozen would be thawed.
    is_ours = n_tasks >= MANY_TASKS and not gc.get_freeze_count()
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()


def _make_old() -> None:
    """Put many new objects where those are that have survived collections."""
    # Objects that someone has frozen would be thawed.
    if gc.get_count()[0] > MANY_OBJECTS and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
