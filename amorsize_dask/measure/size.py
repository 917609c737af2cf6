"""How many bytes a value takes, and as a pickle, without making all of them."""

from __future__ import annotations

import copyreg
import logging
import pickle
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from types import MemberDescriptorType, ModuleType
from typing import Any

import cloudpickle
from dask.sizeof import sizeof

from amorsize_dask.measure.mapped_array import find_reducers

logger = logging.getLogger(__name__)

#: What a value is taken to have that doesn't even tell what itself takes, in bytes.
UNKNOWN_BYTES = 100

#: Levels of containers and attributes that are looked into for attributes, and items
#: of each container. Smaller: objects that hold others are taken for small ones;
#: larger: measuring a result takes longer than making it.
MAX_DEPTH = 4
MAX_ITEMS = 10

#: Bytes after which pickling is stopped. Smaller: large results are taken for small
#: ones; larger: measuring a large list takes longer than the task that made it.
LIMIT_BYTES = 8_000_000

#: Bytes of a write up to which it is searched for names. The pickler collects what it
#: writes into pieces of 64 kB; larger ones are single strings, whose names are data.
SEARCHED_BYTES = 66_000


#: Bytes of a pickle from which on its values are taken to need memory that is new.
#: Smaller: it is taken for new where freed memory is taken again; larger: what large
#: values take is not seen.
NEW_MEMORY_BYTES = 1 << 17


@dataclass(frozen=True, slots=True)
class PickledSize:
    """The size of a value as a pickle."""

    #: Bytes, those of buffers included; at least this many if not complete.
    n_bytes: int
    #: Seconds that pickling took, as far as it went.
    seconds: float
    #: Whether all of the value was pickled.
    is_complete: bool
    #: Whether `pickle` can do it without cloudpickle's help, as far as it went.
    is_plain: bool = True
    #: Bytes of buffers that are sent beside the pickle, among `n_bytes`.
    n_beside_bytes: int = 0

    def loading_s(self, load_bytes_per_s: float) -> float:
        """Return the seconds that it takes to load it for its size alone."""
        return count_loading_s(self.n_bytes - self.n_beside_bytes, load_bytes_per_s)


def count_loading_s(n_bytes: int, load_bytes_per_s: float) -> float:
    """Return the seconds that it takes to load a pickle, buffers beside it apart."""
    return n_bytes / load_bytes_per_s if n_bytes >= NEW_MEMORY_BYTES else 0.0


class _Full(Exception):
    """Raised to stop a pickler."""


class _Counter:
    """A file that only counts what is written to it."""

    def __init__(self, limit_bytes: int) -> None:
        self.n_bytes = 0
        self.n_buffer_bytes = 0
        self.names_main = False
        self._limit_bytes = limit_bytes

    def write(self, data: bytes | memoryview) -> int:
        n = memoryview(data).nbytes
        self.n_bytes += n
        if n <= SEARCHED_BYTES and b"__main__" in bytes(data):
            self.names_main = True
        if self.n_bytes > self._limit_bytes:
            raise _Full
        return n

    def count_buffer(self, buffer: pickle.PickleBuffer) -> None:
        self.n_buffer_bytes += buffer.raw().nbytes


def measure_held(value: Any) -> int:
    """Return the bytes that a value takes in memory, by Dask's estimate.

    What Dask knows nothing of, objects of users' classes for instance, counts with its
    attributes, also as an item of lists, tuples, sets and dicts. A value that can't be
    estimated, for it is nested too deeply or its own methods raise, counts as what
    Python says of it alone.
    """
    n_bytes = _measure_plain(value)
    if n_bytes is not None:
        return n_bytes
    try:
        n_bytes = max(0, int(sizeof(value)))
        return n_bytes + int(_measure_attributes(value, MAX_DEPTH))
    except Exception as error:
        return _measure_alone(value, error)


def measure_known(value: Any) -> int:
    """Return Dask's estimate of the bytes of a value, without more of its attributes.

    If its methods raise, it counts as what Python says of it alone.
    """
    try:
        return max(0, int(sizeof(value)))
    except Exception as error:
        return _measure_alone(value, error)


def _measure_alone(value: Any, error: Exception) -> int:
    logger.debug("the size of a %s isn't known: %r", type(value).__name__, error)
    try:
        return sys.getsizeof(value, UNKNOWN_BYTES)
    except Exception:
        return UNKNOWN_BYTES


def estimate_bytes(value: Any) -> int:
    """Return Dask's estimate of the bytes of a value, sooner where it is a plain one.

    Raises
    ------
    Exception
        Whatever methods of the value raise.
    """
    n_bytes = _measure_plain(value)
    return sizeof(value) if n_bytes is None else n_bytes


def _measure_plain(value: Any) -> int | None:
    """Return Dask's estimate of a plain value, or of a short list or tuple of some.

    Most results are one of these, and finding the way takes Dask longer than the sum.
    ``None`` for all else.
    """
    kind = type(value)
    if kind in _PLAIN:
        return len(value) if kind in _BYTES else sys.getsizeof(value)
    if kind not in _SHORT or len(value) > MAX_ITEMS:
        return None
    n_bytes = sys.getsizeof(value)
    for item in value:
        kind = type(item)
        if kind not in _PLAIN:
            return None
        n_bytes += len(item) if kind in _BYTES else sys.getsizeof(item)
    return n_bytes


def _measure_attributes(value: Any, depth: int) -> float:
    """Return the bytes of attributes within a value that Dask doesn't look at."""
    kind = type(value)
    if kind in _PLAIN or not depth:
        return 0.0
    if kind is dict:
        items: Any = value.values()
    elif kind in (list, tuple, set, frozenset):
        items = value
    elif sizeof.dispatch(kind) is _UNKNOWN and not isinstance(value, ModuleType):
        attributes = _attributes_of(value)
        n_bytes = sizeof(attributes) if attributes else 0
        return n_bytes + _measure_attributes(attributes, depth - 1)
    else:
        return 0.0
    if not items:
        return 0.0
    # Items often share what they refer to.
    looked_at = {id(item): item for item in islice(items, MAX_ITEMS)}
    n_bytes = sum(_measure_attributes(item, depth - 1) for item in looked_at.values())
    return n_bytes / min(MAX_ITEMS, len(items)) * len(items)


def _attributes_of(value: Any) -> dict[str, Any]:
    attributes = getattr(value, "__dict__", None)
    found = dict(attributes) if type(attributes) is dict else {}
    for owner in type(value).__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            descriptor = owner.__dict__.get(name)
            if isinstance(descriptor, MemberDescriptorType):
                with suppress(AttributeError):  # nothing has been put there
                    found[name] = descriptor.__get__(value)
    return found


#: What has no attributes, those of it that are as many bytes as they are long, what
#: may hold a few of them, and Dask's way with what it doesn't know.
_PLAIN = frozenset((int, float, complex, bool, str, bytes, bytearray, type(None), type))
_BYTES = frozenset((bytes, bytearray))
_SHORT = frozenset((list, tuple))
_UNKNOWN = sizeof.dispatch(object)


class _ByName(pickle.Pickler):
    """The C pickler, and arrays that map a file by its name."""

    @property
    def dispatch_table(self) -> Any:  # type: ignore[override] # it may be either
        """What is looked up when a pickler is made."""
        return {**copyreg.dispatch_table, **find_reducers()}


class _ByValue(cloudpickle.Pickler):  # type: ignore[misc] # it has no type hints
    """Cloudpickle's, and arrays that map a file by its name."""

    @property
    def dispatch_table(self) -> Any:
        """What is looked up when a pickler is made."""
        return cloudpickle.Pickler.dispatch_table.new_child(find_reducers())


def measure_pickled(value: Any, limit_bytes: int = LIMIT_BYTES) -> PickledSize:
    """Measure a value as it would be sent: pickle 5, buffers counted but not copied.

    Functions and classes of ``__main__`` are sent by value, so for these, and for what
    the C pickler can't do, it is cloudpickle's size.

    Parameters
    ----------
    value : object
        What to measure. It isn't changed: iterators aren't consumed, and generators
        can't be pickled.
    limit_bytes : int, optional
        Bytes, buffers apart, after which to stop, > 0. No total is guessed from what
        was seen up to there: nothing says that the rest is like it.

    Returns
    -------
    PickledSize

    Raises
    ------
    Exception
        What the pickler raises for a value that can't be pickled: `TypeError`,
        `pickle.PicklingError`, `AttributeError`, or what the value's own methods raise.
    """
    start = perf_counter()
    is_plain = True
    try:
        counter, is_complete = _measure(_ByName, value, limit_bytes)
        is_by_value = counter.names_main
    except Exception:
        # A lambda, a closure or a local class: if cloudpickle has an error too, that is
        # the one to tell.
        is_by_value, is_plain = True, False
    if is_by_value or cloudpickle.list_registry_pickle_by_value():
        counter, is_complete = _measure(_ByValue, value, limit_bytes)
    return PickledSize(
        counter.n_bytes + counter.n_buffer_bytes,
        perf_counter() - start,
        is_complete,
        is_plain,
        counter.n_buffer_bytes,
    )


def _measure(pickler: Any, value: Any, limit_bytes: int) -> tuple[_Counter, bool]:
    counter = _Counter(limit_bytes)
    counting = pickler(counter, protocol=5, buffer_callback=counter.count_buffer)
    try:
        counting.dump(value)
    except _Full:
        return counter, False
    return counter, True
