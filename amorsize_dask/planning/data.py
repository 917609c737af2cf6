"""What data is: which items it has, how many, and which of them to try."""

from __future__ import annotations

from collections import deque
from collections.abc import (
    Iterable,
    Iterator,
    KeysView,
    Sequence,
    Set,
    ValuesView,
)
from itertools import chain, count, cycle, islice, repeat
from operator import length_hint
from random import Random
from time import perf_counter
from typing import Any

from amorsize_dask.errors import ArgumentError

#: Seconds for which data without a length is read, to see whether it has an end.
#: Smaller: data of a few thousand items is taken for endless; larger: that is most of
#: what `optimize` may take.
READ_S = 0.01

#: Items that are read between two looks at the clock. Smaller: looking is what takes
#: the time; larger: more of an endless source is read than was meant.
READ_AT_ONCE = 64

#: Items of data without a known length that are put into a list. Smaller: data that
#: would have fit is refused; larger: an endless source fills the memory first.
MOST_LISTED = 10_000_000

#: Items that data of unknown length is taken to have: it wouldn't be read bit by bit
#: if they were few.
UNKNOWN_ITEMS = 1_000_000

#: The golden ratio's fraction: any number of steps of this length around a circle
#: leaves no large gap.
GOLDEN = 0.6180339887498949

#: Share of the data by which places are moved at random. Smaller: all may fall on, or
#: beside, every tenth item, if these are others; larger: gaps are left.
JITTER = 0.05

#: Types whose length and order hold while they are gone through, but that can't be
#: looked into at a place. Making a list of one takes no one's time.
_LISTED = (Set, dict, deque, KeysView, ValuesView)


#: Types of which a part is as good as the whole, and made in no time.
SLICED = (list, tuple, range, str, bytes)


class Unread:
    """Data of which some items have been read, as if none had.

    It can be gone through once, and says so the second time: a generator that was
    consumed would seem to be empty.
    """

    def __init__(self, read: list[Any], rest: Iterator[Any]) -> None:
        self._read = read
        self.rest = rest
        self.is_begun = False

    def __iter__(self) -> Iterator[Any]:
        if self.is_begun:
            expected = (
                "it has been gone through already; make a list of what a generator "
                "yields to use it several times"
            )
            raise ArgumentError("data", self, expected)
        self.is_begun = True
        read, self._read = self._read, []
        return chain(read, self.rest)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} items of {self.rest!r}>"


class Begun(Unread):
    """The same of data that may be one that can be gone through again.

    Nothing tells it from what only hands out what some generator yields, as a progress
    bar does, or a response. So the first time it goes on with what has been begun. What
    has been gone through to its end is begun anew afterwards.
    """

    def __init__(
        self, read: list[Any], rest: Iterator[Any], source: Iterable[Any]
    ) -> None:
        super().__init__(read, rest)
        self.source: Any = source
        self._is_ended = False

    def __iter__(self) -> Iterator[Any]:
        if not self._is_ended:
            return self._go_on(super().__iter__())
        iterator = iter(self.source)
        first = list(islice(iterator, 1))
        if not first:
            return super().__iter__()  # which says that it was consumed
        return chain(first, iterator)

    def _go_on(self, items: Iterator[Any]) -> Iterator[Any]:
        yield from items
        self._is_ended = True


class Data:
    """Items, as far as they can be looked at before anything runs.

    Parameters
    ----------
    source : iterable
        What the user has given. Of data without a length some is read.

    Attributes
    ----------
    whole : iterable
        All items: what the user has given, or a list of it; or `Unread`, or `Begun`.
    items : sequence
        Those that can be looked at. If `n_items` is known they are mostly all.
    n_items : int or None
        How many there are, if that is known.
    n_assumed : int
        The same, or what it is taken to be.

    Raises
    ------
    ArgumentError
        If it is nothing that can be gone through. Nothing has been read.
    BaseException
        What the source raises while it is read.
    """

    def __init__(self, source: Any) -> None:
        iterator = begin(source)
        self.whole: Iterable[Any] = source
        self.items: Sequence[Any] = ()
        self.n_items: int | None = None
        if is_indexable(source):
            self.items = source
            self.n_items = len(source)
        elif isinstance(source, _LISTED):
            self.whole = self.items = list(iterator)
            self.n_items = len(self.items)
        else:
            self._read(source, iterator)
        known = self.n_items
        self.n_assumed = UNKNOWN_ITEMS if known is None else known
        if known is None and (hint := length_hint(iterator, 0)) > 0:
            self.n_assumed = len(self.items) + hint

    def _read(self, source: Any, iterator: Iterator[Any]) -> None:
        read, is_ended = _read_some(iterator)
        self.items = read
        if is_ended:
            self.whole = read
            self.n_items = len(read)
        elif iterator is source:
            self.whole = Unread(read, iterator)
        else:
            self.n_items = find_length(source)
            if not hasattr(type(source), "__getitem__"):
                self.whole = Begun(read, iterator, source)


def begin(source: Iterable[Any]) -> Iterator[Any]:
    """Begin to go through data.

    Raises
    ------
    ArgumentError
        If that can't be done.
    """
    try:
        return iter(source)
    except TypeError as error:
        expected = "expected something that can be gone through"
        raise ArgumentError("data", source, expected) from error


def is_indexable(data: Any) -> bool:
    """Whether items can be looked up by their places, each at any time."""
    if isinstance(data, Sequence):
        return True
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        # Arrays, and what has no more than is needed to be gone through. What has keys
        # or labels in the place of places is something else.
        # Asked for an attribute, some mappings raise what they do for a key.
        is_array = hasattr(type(data), "__array_interface__")
        return is_array or not hasattr(data, "__iter__")
    return False


def find_length(data: Any) -> int | None:
    """Return a length, if there is one: some have the method, and raise in it."""
    try:
        return len(data.source if isinstance(data, Begun) else data)
    except TypeError:
        return None


def _read_some(iterator: Iterator[Any]) -> tuple[list[Any], bool]:
    """Read items for `READ_S` seconds; return them and whether they were all."""
    end = perf_counter() + READ_S
    read: list[Any] = []
    n = 1
    while True:
        some = list(islice(iterator, n))
        read += some
        if len(some) < n:
            return read, True
        if perf_counter() > end:
            return read, False
        n = min(2 * n, READ_AT_ONCE)


def is_endless(data: Any) -> bool:
    """Whether data is known never to end."""
    if isinstance(data, repeat):
        try:
            data.__length_hint__()
        except TypeError:
            return True
    if isinstance(data, Unread):
        return is_endless(data.rest)
    return isinstance(data, count | cycle)


def list_all(whole: Iterable[Any]) -> Sequence[Any]:
    """Return all items, in a list if they aren't to be looked up otherwise.

    Raises
    ------
    ArgumentError
        If there seems to be no end of them. Its `value` has all of the items.
    """
    if isinstance(whole, SLICED):
        return whole
    if is_endless(whole):
        raise ArgumentError("data", whole, _NO_END)
    iterator = begin(whole)
    if find_length(whole) is not None:
        return list(iterator)
    items = list(islice(iterator, MOST_LISTED))
    if len(items) < MOST_LISTED:
        return items
    rest = Unread(items, iterator)
    raise ArgumentError("data", rest, f"after {MOST_LISTED} items, {_NO_END}")


_NO_END = (
    "there is no end of it, and all results can't be put in one list. "
    "process_in_batches goes through such data bit by bit"
)


def spread(n: int, jitter: float = JITTER) -> Iterator[int]:
    """Yield all places below `n`, so that the first few lie all over the data.

    The head is rarely typical: files are sorted by size, and customers by age.
    """
    if n <= 0:
        return
    seen: set[int] = set()
    chance = Random(n)
    position = 0.5
    # Where most places were taken already the steps meet few new ones.
    while len(seen) < n // 2 + 1:
        place = int((position + chance.uniform(0, jitter)) % 1.0 * n)
        position = (position + GOLDEN) % 1.0
        if place not in seen:
            seen.add(place)
            yield place
    yield from (place for place in range(n) if place not in seen)
