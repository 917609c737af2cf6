"""What a worker answers to a batch: made there, read in the caller.

Nearly all answers are many small values: their pickles travel as one piece, and what
was measured as columns of numbers. A large value is in a spool file, if there is a
place for one, and the caller needs not read it.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.execute.failure import dump_failure
from amorsize_dask.execute.spool import SPOOL_BYTES, Spooled, SpoolPlace, is_large
from amorsize_dask.execute.wire import Buffer, Part, count_bytes, dump, load
from amorsize_dask.measure.rss import read_peak_rss, read_rss

#: Category, text, file and line of a warning.
CaughtWarning = tuple[type[Warning], str, str, int]


class Parts(NamedTuple):
    """A value that is the next `n` parts."""

    n: int


class Left(NamedTuple):
    """A value that has stayed in the worker of a cluster that made it."""

    #: Its place in what the batch has returned there.
    position: int
    n_bytes: int


Payload = int | Parts | Spooled | Left | str


class Report(NamedTuple):
    """What came of a batch. It says nothing of tasks that were not run."""

    #: Seconds and CPU seconds of each task that was, in order.
    seconds: list[float]
    cpu_s: list[float | None]
    #: What the batch took at its peak and gave back, 0 if it kept it all; ``None``: it
    #: wasn't seen to take any.
    peak_bytes: int | None
    #: Highest resident bytes of this process while it ran, and those at the end.
    peak_rss_bytes: int
    rss_bytes: int
    #: For each task what its value is: bytes of its pickle in the first part that
    #: follows, or how many of the other parts are its, or where it is, or why there is
    #: none.
    payloads: list[Payload]
    warnings: list[CaughtWarning]
    #: Position and parts of the exception, if a task raised.
    failure: tuple[int, list[bytes]] | None
    #: Why the batch couldn't be unpickled; nothing was run then.
    unloadable: str | None
    #: Seconds that loading arguments from files and pickling results took; ``None``:
    #: not measured.
    pack_s: float | None = None


def make_answer(
    result: BatchResult,
    caught: list[CaughtWarning],
    unloadable: str | None,
    place: SpoolPlace,
    read_kept: Callable[[], int] = read_rss,
    load_s: float = 0.0,
) -> list[Part]:
    """Return the parts of an answer, the report first.

    Parameters
    ----------
    result : BatchResult
        What came of the batch; its values are gone afterwards.
    caught : list
        Warnings that were caught meanwhile; pickling results may add to it.
    unloadable : str or None
        Why the batch couldn't be unpickled, if so.
    place : SpoolPlace
        Where large results may be written.
    read_kept : callable, optional
        Returns the resident bytes of this process, called when the values are gone.
    load_s : float, optional
        Seconds that it took to load arguments that were in files.
    """
    start = perf_counter()
    payloads, following = _dump_values(result.values, place)
    pack_s = load_s + perf_counter() - start
    report = make_report(result, caught, unloadable, payloads, read_kept(), pack_s)
    return [dump(("done", report))[0], *following]


def make_report(
    result: BatchResult,
    caught: list[CaughtWarning],
    unloadable: str | None,
    payloads: list[Payload],
    rss_bytes: int,
    pack_s: float | None = None,
) -> Report:
    """Return the report of a batch whose values have been pickled, as payloads say."""
    outcomes = result.outcomes
    return Report(
        [outcome.seconds for outcome in outcomes],
        [outcome.cpu_s for outcome in outcomes],
        outcomes[-1].peak_bytes if outcomes else None,
        read_peak_rss(),
        rss_bytes,
        payloads,
        caught,
        _dump_failure(result),
        unloadable,
        pack_s,
    )


def _dump_failure(result: BatchResult) -> tuple[int, list[bytes]] | None:
    if result.failure is None:
        return None
    parts = [bytes(part) for part in dump_failure(result.failure[1])]
    return len(result.outcomes), parts


def _dump_values(
    values: list[Any], place: SpoolPlace
) -> tuple[list[Payload], list[Part]]:
    """Pickle values, and let go of each: what is in a file is in memory already."""
    payloads: list[Payload] = []
    small: list[bytes] = []
    large: list[Part] = []
    for i, value in enumerate(values):
        values[i] = None
        try:
            parts = dump(value)
        except Exception as error:
            payloads.append(f"{type(error).__name__}: {error}")
            continue
        if len(parts) == 1 and len(parts[0]) < SPOOL_BYTES:
            payloads.append(len(parts[0]))
            small.append(bytes(parts[0]))
            continue
        del value
        spooled = place.write(parts) if is_large(parts) else None
        payloads.append(spooled or Parts(len(parts)))
        if spooled is None:
            large += parts
    return payloads, [b"".join(small), *large]


class Answer(NamedTuple):
    """An answer as the caller reads it."""

    outcomes: list[Outcome]
    #: The values, or where they are.
    values: list[Any]
    #: Tasks whose results can't be had, and why.
    unshippable: list[tuple[int, str]]
    #: The task that raised, and the parts of its exception.
    failure: tuple[int, list[bytes]] | None


def read_answer(
    report: Report, following: Sequence[Buffer], tasks: Sequence[int]
) -> Answer:
    """Read the answer to a batch of these tasks."""
    outcomes: list[Outcome] = []
    values: list[Any] = []
    unshippable: list[tuple[int, str]] = []
    joined = memoryview(following[0])
    start, n_parts = 0, 1
    for task, seconds, cpu_s, payload in zip(
        tasks, report.seconds, report.cpu_s, report.payloads, strict=False
    ):
        try:
            if type(payload) is int:
                size = payload
                value = pickle.loads(joined[start : start + size])
                start += size
            elif isinstance(payload, Parts):
                parts = following[n_parts : n_parts + payload.n]
                n_parts += payload.n
                size, value = count_bytes(parts), load(parts)
            elif isinstance(payload, Spooled | Left):
                size, value = payload.n_bytes, payload
            else:
                unshippable.append((task, str(payload)))
                continue
        except Exception as error:
            start += payload if type(payload) is int else 0
            unshippable.append((task, _describe(error)))
            continue
        outcomes.append(Outcome(task, seconds, cpu_s, size))
        values.append(value)
    if report.peak_bytes is not None and outcomes:
        outcomes[-1] = outcomes[-1]._replace(peak_bytes=report.peak_bytes)
    failure = None
    if report.failure is not None:
        position, parts = report.failure
        failure = tasks[position], parts
    return Answer(outcomes, values, unshippable, failure)


def show_warnings(caught: list[CaughtWarning]) -> None:
    """Let warnings of a worker go through the filters of this process."""
    for category, text, filename, lineno in caught:
        warned = _warned.setdefault(filename, {})
        warnings.warn_explicit(text, category, filename, lineno, registry=warned)


#: For each file what Python keeps in a module's ``__warningregistry__``: otherwise a
#: warning of which the filters show the first one only would be shown for each batch.
_warned: dict[str, dict[Any, Any]] = {}


def _describe(error: Exception) -> str:
    return f"its result can't be unpickled: {type(error).__name__}: {error}"
