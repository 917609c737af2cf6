"""What a batch is in a worker of a cluster: one task of Dask's that runs many of ours.

Imported by the cluster's workers, which share nothing with the caller: no files, no
pipe, and perhaps no machine. What is sent to a worker are arguments of Dask's tasks,
and what comes back is their result.
"""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from amorsize_dask.execute.answer import (
    CaughtWarning,
    Left,
    Parts,
    Payload,
    make_report,
)
from amorsize_dask.execute.batch import BatchResult, flush, run_batch
from amorsize_dask.execute.recipe import received
from amorsize_dask.execute.wire import count_bytes, dump, load
from amorsize_dask.measure.clock import RunDelay
from amorsize_dask.measure.rss import read_rss

#: What callers and workers must agree on. It changes with what they send each other.
PROTOCOL = 2

#: Bytes of a pickled result from which on it stays in the worker until someone needs
#: it. Smaller: each costs the scheduler a task, some milliseconds; larger: what another
#: worker's task needs passes through the caller.
AWAY_BYTES = 100_000

#: Recipes that a worker keeps for its next batches. Smaller: those of graphs with many
#: stages are loaded for each batch; larger: functions that no one needs any more, and
#: what they refer to, take memory. Each thread needs those of its own batch.
MAX_RECIPES = 256


class Sent(NamedTuple):
    """What the caller has pickled for a batch."""

    items: Sequence[Any]
    #: Values of keys, and keys of the values that come as arguments beside it.
    near: dict[Any, Any]
    far: Sequence[Any]


def greet() -> int:
    """Say that this package can be imported here, and which one it is."""
    return PROTOCOL


def keep(value: Any) -> Any:
    """Return a value: the task of one that many batches need."""
    return value


def first(values: Any) -> Any:
    """Return what a batch has answered, without the results that it has left."""
    return values[0] if type(values) is list else values


def pick(values: list[Any], position: int) -> Any:
    """Return one of the results that a batch has left."""
    return values[position]


def run_far_batch(
    parts: list[bytes], recipes: list[tuple[Any, list[bytes]]], values: list[Any]
) -> bytes | list[Any]:
    """Run a batch.

    Parameters
    ----------
    parts : list of bytes
        A pickled `Sent`.
    recipes : list of (number, list of bytes)
        The recipes that it refers to.
    values : list
        The values of its far keys.

    Returns
    -------
    bytes or list
        The report and small results, pickled; or a list of that and those results that
        stay here.
    """
    caught: list[CaughtWarning] = []
    unloadable = None
    with _noting(caught), RunDelay(threading.get_native_id()) as delay:
        try:
            _receive(recipes)
            sent: Sent = load(parts)
            known = {**sent.near, **dict(zip(sent.far, values, strict=True))}
        except Exception as error:
            unloadable = f"{type(error).__name__}: {error}"
            result = BatchResult()
        else:
            result = run_batch(sent.items, known, delay)
            del sent, known, values
        flush()
        # Pickling the results may warn as well.
        return _answer(result, caught, unloadable)


def _receive(recipes: list[tuple[Any, list[bytes]]]) -> None:
    for number, parts in recipes:
        recipe = received.pop(number, None)
        received[number] = load(parts) if recipe is None else recipe
    while len(received) > MAX_RECIPES:
        received.pop(next(iter(received)), None)


def _answer(
    result: BatchResult, caught: list[CaughtWarning], unloadable: str | None
) -> bytes | list[Any]:
    payloads: list[Payload] = []
    small: list[bytes] = []
    others: list[bytes] = []
    left: list[Any] = []
    for i, value in enumerate(result.values):
        result.values[i] = None
        try:
            parts = dump(value)
        except Exception as error:
            payloads.append(f"{type(error).__name__}: {error}")
            continue
        n_bytes = count_bytes(parts)
        if n_bytes >= AWAY_BYTES:
            left.append(value)
            payloads.append(Left(len(left), n_bytes))
        elif len(parts) == 1:
            payloads.append(n_bytes)
            small.append(bytes(parts[0]))
        else:
            payloads.append(Parts(len(parts)))
            others += [bytes(part) for part in parts]
        del value, parts
    report = make_report(result, caught, unloadable, payloads, read_rss())
    answer = pickle.dumps((report, [b"".join(small), *others]))
    return [answer, *left] if left else answer


class _Noting(threading.local):
    """Where this thread's warnings go; ``None`` if it runs no batch."""

    found: list[CaughtWarning] | None = None


_noting_here = _Noting()
_noting_lock = threading.Lock()
_n_noting = 0
_catching: Any = None
_show: Any = None


@contextmanager
def _noting(found: list[CaughtWarning]) -> Iterator[None]:
    """Note this thread's warnings.

    Filters are the process's: those that show all of them are in force as long as any
    thread runs a batch. Other threads' warnings are shown as they would be.
    """
    global _n_noting, _catching, _show
    _noting_here.found = found
    with _noting_lock:
        if not _n_noting:
            _catching = warnings.catch_warnings()
            _catching.__enter__()
            _show = warnings.showwarning
            warnings.simplefilter("always")
            warnings.showwarning = _note
        _n_noting += 1
    try:
        yield
    finally:
        _noting_here.found = None
        with _noting_lock:
            _n_noting -= 1
            if not _n_noting:
                _catching.__exit__(None, None, None)


def _note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    found = _noting_here.found
    if found is None:
        _show(message, category, filename, lineno, file, line)
        return
    warning = (category, str(message), filename, lineno)
    if warning not in found:
        found.append(warning)
