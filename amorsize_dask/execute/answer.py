"""What a worker answers to a batch: made there, read in the caller.

Nearly all answers are many small values: they travel as one pickle, and what was
measured as columns of numbers. Where values are large each has a payload of its own, in
a spool file if there is a place for one, so that the caller needs not read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from amorsize_dask.core.events import Outcome
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.execute.failure import dump_failure
from amorsize_dask.execute.spool import Spooled, SpoolPlace, is_large
from amorsize_dask.execute.wire import Part, count_bytes, dump, load
from amorsize_dask.measure.memory import read_peak_rss

#: Bytes of a batch's values, in the mean of a task, up to which the next batch's travel
#: together. Smaller: each is a payload of its own, some microseconds; larger: large
#: ones are pickled twice, to find out.
TOGETHER_BYTES = 4_000

#: Category, text, file and line of a warning.
CaughtWarning = tuple[type[Warning], str, str, int]


@dataclass(slots=True)
class Report:
    """What came of a batch. It says nothing of tasks that were not run."""

    #: Seconds and CPU seconds of each task that was, in order.
    seconds: list[float]
    cpu_s: list[float | None]
    #: Largest growth of the process's memory peak.
    peak_bytes: int | None
    #: Highest resident bytes of this process so far.
    peak_rss_bytes: int
    #: For each task the parts of its payload that follow, or where they are, or why
    #: there are none; ``None`` if the values of all are one payload.
    payloads: list[int | Spooled | str] | None
    #: Position and parts of the exception, if a task raised.
    failure: tuple[int, list[bytes]] | None = None
    #: Why the batch couldn't be unpickled; nothing was run then.
    unloadable: str | None = None
    warnings: list[CaughtWarning] = field(default_factory=list)


class Answerer:
    """Makes the answers of one worker."""

    def __init__(self) -> None:
        self._are_small = True

    def make(
        self,
        result: BatchResult,
        warnings: list[CaughtWarning],
        unloadable: str | None,
        place: SpoolPlace,
    ) -> list[Part]:
        """Return the parts of an answer, the report first."""
        outcomes = result.outcomes
        report = Report(
            [outcome.seconds for outcome in outcomes],
            [outcome.cpu_s for outcome in outcomes],
            max((out.peak_bytes or 0 for out in outcomes), default=0) or None,
            read_peak_rss(),
            None,
            unloadable=unloadable,
            warnings=warnings,
        )
        payload = self._dump_together(result.values)
        if payload is None:
            report.payloads, payload = _dump_each(result.values, place)
        self._are_small = count_bytes(payload) <= TOGETHER_BYTES * len(outcomes)
        if result.failure is not None:
            parts = [bytes(part) for part in dump_failure(result.failure[1])]
            report.failure = len(outcomes), parts
        return [dump(("done", report))[0], *payload]

    def _dump_together(self, values: list[Any]) -> list[Part] | None:
        if not self._are_small and values:
            return None
        try:
            parts = dump(values)
        except Exception:
            return None
        return None if is_large(parts) else parts


def _dump_each(
    values: list[Any], place: SpoolPlace
) -> tuple[list[int | Spooled | str], list[Part]]:
    payloads: list[int | Spooled | str] = []
    following: list[Part] = []
    for value in values:
        try:
            parts = dump(value)
        except Exception as error:
            payloads.append(f"{type(error).__name__}: {error}")
            continue
        spooled = place.write(parts) if is_large(parts) else None
        payloads.append(len(parts) if spooled is None else spooled)
        if spooled is None:
            following += parts
    return payloads, following


@dataclass(slots=True)
class Answer:
    """An answer as the caller reads it."""

    outcomes: list[Outcome] = field(default_factory=list)
    #: The values, or where they are.
    values: list[Any] = field(default_factory=list)
    #: Tasks whose results can't be had, and why.
    unshippable: list[tuple[int, str]] = field(default_factory=list)
    failure: tuple[int, list[bytes]] | None = None


def read_answer(
    report: Report, payload: Sequence[Part], tasks: Sequence[int]
) -> Answer:
    """Read the answer to a batch of these tasks."""
    done = tasks[: len(report.seconds)]
    answer = Answer()
    if report.failure is not None:
        position, parts = report.failure
        answer.failure = tasks[position], parts
    if report.payloads is None:
        _read_together(report, payload, done, answer)
    else:
        _read_each(report, payload, done, answer)
    if report.peak_bytes and answer.outcomes:
        last = answer.outcomes[-1]
        answer.outcomes[-1] = last._replace(peak_bytes=report.peak_bytes)
    return answer


def _read_together(
    report: Report, payload: Sequence[Part], tasks: Sequence[int], answer: Answer
) -> None:
    try:
        answer.values = load(payload)
    except Exception as error:
        reason = _describe(error)
        answer.unshippable = [(task, reason) for task in tasks]
        return
    size = count_bytes(payload) // max(1, len(tasks))
    answer.outcomes = list(
        map(Outcome, tasks, report.seconds, report.cpu_s, repeat(size))
    )


def _read_each(
    report: Report, payload: Sequence[Part], tasks: Sequence[int], answer: Answer
) -> None:
    start = 0
    for task, seconds, cpu_s, found in zip(
        tasks, report.seconds, report.cpu_s, report.payloads or (), strict=True
    ):
        if isinstance(found, str):
            answer.unshippable.append((task, found))
            continue
        value: Any = found
        if isinstance(found, Spooled):
            size = found.n_bytes
        else:
            parts = payload[start : start + found]
            start += found
            size = count_bytes(parts)
            try:
                value = load(parts)
            except Exception as error:
                answer.unshippable.append((task, _describe(error)))
                continue
        answer.outcomes.append(Outcome(task, seconds, cpu_s, size))
        answer.values.append(value)


def _describe(error: Exception) -> str:
    return f"its result can't be unpickled: {type(error).__name__}: {error}"
