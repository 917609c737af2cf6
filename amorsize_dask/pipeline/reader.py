"""Where a pipeline's items come from, read no further than there is room.

A sequence is read in the calling thread. Anything else may take long for its next item,
or for ever, so a thread of its own waits for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from itertools import islice
from typing import Any

from amorsize_dask.measure.size import estimate_bytes


class SequenceReader:
    """Reads a sequence."""

    def __init__(self, items: Sequence[Any]) -> None:
        #: As in `ThreadReader`; here there is never news.
        self.wake: Callable[[], None] = _wake_no_one
        #: How many items are left; ``None``: no one knows.
        self.n_left: int | None = len(items)
        #: What it has raised in the place of its next item.
        self.error: BaseException | None = None
        self._items = iter(items)

    @property
    def is_exhausted(self) -> bool:
        """Whether all items have been given."""
        return not self.n_left

    def take(
        self, n: int, room_bytes: float, n_ahead: int = 0
    ) -> list[tuple[Any, int]]:
        """Return `n` items, or all that are left; they are in memory already."""
        items: list[tuple[Any, int]] = []
        try:
            # It keeps those before one that isn't to be had: they go on.
            items.extend((item, 0) for item in islice(self._items, n))
        except Exception as error:
            self.error = error
        # It may have become shorter meanwhile.
        n_left = (self.n_left or 0) - len(items)
        self.n_left = n_left if len(items) == n else 0
        return items

    def close(self) -> None:
        """Do nothing."""


class ThreadReader:
    """Reads any iterable, in a thread.

    Parameters
    ----------
    iterable : iterable
        Iterated in the thread, and closed there if it is a generator.
    """

    n_left: int | None = None

    def __init__(self, iterable: Iterable[Any]) -> None:
        #: Called when there is an item, or no more.
        self.wake: Callable[[], None] = _wake_no_one
        self._iterator: Iterator[Any] = iter(iterable)
        self._changed = threading.Condition()
        self._items: deque[tuple[Any, int]] = deque()
        self._n_wanted = 0
        self._room_bytes = 0.0
        self._held_bytes = 0
        self._is_ended = self._is_closed = False
        #: What the iterable has raised in the place of its next item.
        self.error: BaseException | None = None
        self._thread = threading.Thread(
            target=copy_context().run,
            args=(self._read,),
            name="amorsize-reader",
            daemon=True,
        )
        self._thread.start()

    @property
    def is_exhausted(self) -> bool:
        """Whether all items have been given."""
        with self._changed:
            return self._is_ended and not self._items

    def take(
        self, n: int, room_bytes: float, n_ahead: int = 0
    ) -> list[tuple[Any, int]]:
        """Return up to `n` items that have been read, each with its bytes.

        More are read then: up to `n` in all, and `n_ahead` more that are going to be
        asked for soon, as many as fit into so many bytes.
        """
        with self._changed:
            items = [self._items.popleft() for _ in range(min(n, len(self._items)))]
            self._held_bytes = sum(n_bytes for _, n_bytes in self._items)
            self._n_wanted = n + n_ahead - len(items)
            self._room_bytes = room_bytes
            self._changed.notify()
        return items

    def close(self) -> None:
        """Read no more. One that is being waited for is still waited for, by no one."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _may_read(self) -> bool:
        if self._is_closed:
            return True
        has_room = self._held_bytes < self._room_bytes
        return len(self._items) < self._n_wanted and (has_room or not self._items)

    def _read(self) -> None:
        try:
            while self._wait():
                try:
                    item = next(self._iterator)
                except StopIteration:
                    break
                n_bytes = estimate_bytes(item)
                with self._changed:
                    is_first = not self._items
                    self._items.append((item, n_bytes))
                    self._held_bytes += n_bytes
                    del item
                # Of the others that are still here the loop knows.
                if is_first:
                    self.wake()
        except BaseException as error:
            self.error = error
        finally:
            close = getattr(self._iterator, "close", None)
            if close is not None:
                with suppress(Exception):
                    close()
            with self._changed:
                self._is_ended = True
            self.wake()

    def _wait(self) -> bool:
        """Wait until an item is wanted; False: none is any more."""
        with self._changed:
            self._changed.wait_for(self._may_read)
            return not self._is_closed


def open_reader(source: Iterable[Any]) -> SequenceReader | ThreadReader:
    """Return what reads a source."""
    if isinstance(source, Sequence):
        return SequenceReader(source)
    return ThreadReader(source)


def _wake_no_one() -> None:
    pass
