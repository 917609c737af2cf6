"""Which of the values that the user streams is handed over next."""

from __future__ import annotations

import atexit
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.events import Event, Taken
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.threads import Mailbox


class Delivery:
    """Hands over the values of keys, each once, as soon as it is there.

    Parameters
    ----------
    keys : sequence of key
        What was asked for, in the order of the collection.
    tasks : TaskGraph
        What makes it.
    is_ordered : bool
        Whether a value waits for those before it.
    """

    def __init__(
        self, keys: Sequence[Key], tasks: TaskGraph, *, is_ordered: bool
    ) -> None:
        self._is_ordered = is_ordered
        self._waiting = deque(keys)
        self._numbers = {tasks.keys[task]: task for task in tasks.graph.wanted}
        self._targets = {key: tasks.aliases.get(key, key) for key in keys}
        # Several keys may stand for one value.
        self._n_uses = Counter(self._targets[key] for key in keys)
        self._keys: dict[int, list[Key]] = {}
        self._there: deque[Key] = deque()
        self._finished: set[Key] = set()
        self._handed_over: list[Key] = []
        for key in keys:
            target = self._targets[key]
            number = self._numbers.get(target)
            if number is None:
                self._finish(target, [key])
            else:
                self._keys.setdefault(number, []).append(key)
        self._n_left = len(keys)

    @property
    def is_done(self) -> bool:
        """Whether all values have been handed over."""
        return not self._n_left

    @property
    def has_result(self) -> bool:
        """Whether a value can be handed over now."""
        if not self._is_ordered:
            return bool(self._there)
        return bool(self._waiting) and self._targets[self._waiting[0]] in self._finished

    @property
    def has_more(self) -> bool:
        """Whether there is more to add to the graph: never."""
        return False

    def begin(self, open_mailbox: Callable[[], Mailbox]) -> None:
        """Do nothing: all tasks are there from the beginning."""

    def take(self, store: Store) -> Any:
        """Return the next value."""
        key = self.next_key()
        assert key is not None
        self._handed_over.append(key)
        return store.read_key(key)

    def grow(self, store: Store, budget: Budget) -> list[Event]:
        """Say which values the user is done with."""
        released = [self.release(key) for key in self._handed_over]
        self._handed_over = []
        tasks = [task for task in released if task is not None]
        return [Taken(tasks)] if tasks else []

    def note(self, tasks: Iterable[int]) -> None:
        """Take note of tasks that have finished."""
        for task in tasks:
            keys = self._keys.pop(task, None)
            if keys is not None:
                self._finish(self._targets[keys[0]], keys)

    def _finish(self, target: Key, keys: list[Key]) -> None:
        self._finished.add(target)
        self._there += keys

    def next_key(self) -> Key | None:
        """Return the key whose value is handed over now; ``None`` if there is none."""
        if not self.has_result:
            return None
        key = self._waiting.popleft() if self._is_ordered else self._there.popleft()
        self._n_left -= 1
        return self._targets[key]

    def release(self, key: Key) -> int | None:
        """Note that the user is done with a value; return its task if all uses are."""
        self._n_uses[key] -= 1
        return None if self._n_uses[key] else self._numbers.get(key)


#: What users have been given to iterate over.
_iterators: WeakSet[Generator[Any, None, None]] = WeakSet()


def closed_at_exit(values: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Have an iterator closed before the interpreter is, if its user leaves it open.

    Its run ends in good order then. Collected later on, it would find no module left
    to end it with.
    """
    _iterators.add(values)
    return values


@atexit.register
def _close_iterators() -> None:
    for values in list(_iterators):
        # Another thread may be in it.
        with suppress(Exception):
            values.close()
