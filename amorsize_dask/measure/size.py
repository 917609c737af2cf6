"""How many bytes a value is when it is pickled, without making all of them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import cloudpickle

#: Bytes after which pickling is stopped. Smaller: large results are taken for small
#: ones; larger: measuring a large list takes longer than the task that made it.
LIMIT_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class PickledSize:
    """The size of a value as a pickle."""

    #: Bytes, those of buffers included; at least this many if not complete.
    n_bytes: int
    #: Whether all of the value was pickled.
    is_complete: bool


class _Full(Exception):
    """Raised to stop a pickler."""


class _Counter:
    """A file that only counts what is written to it."""

    def __init__(self, limit_bytes: int) -> None:
        self.n_bytes = 0
        self._limit_bytes = limit_bytes

    def write(self, data: Any) -> int:
        n = memoryview(data).nbytes
        self.n_bytes += n
        if self.n_bytes > self._limit_bytes:
            raise _Full
        return n


def measure_pickled(value: Any, limit_bytes: int = LIMIT_BYTES) -> PickledSize:
    """Measure a value as it would be sent: pickle 5, buffers counted but not copied.

    Parameters
    ----------
    value : object
        What to measure. It isn't changed.
    limit_bytes : int, optional
        Bytes, buffers apart, after which to stop, > 0.

    Returns
    -------
    PickledSize

    Raises
    ------
    Exception
        What the pickler raises for a value that can't be pickled.
    """
    try:
        return _measure(pickle.Pickler, value, limit_bytes)
    except Exception:
        return _measure(cloudpickle.Pickler, value, limit_bytes)


def _measure(kind: Any, value: Any, limit_bytes: int) -> PickledSize:
    counter = _Counter(limit_bytes)
    n_buffers = 0

    def count(buffer: pickle.PickleBuffer) -> None:
        nonlocal n_buffers
        n_buffers += buffer.raw().nbytes

    try:
        kind(counter, protocol=5, buffer_callback=count).dump(value)
    except _Full:
        return PickledSize(counter.n_bytes + n_buffers, False)
    return PickledSize(counter.n_bytes + n_buffers, True)
