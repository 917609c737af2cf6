"""The processes lane of one run: batches to workers, answers back, deaths noticed."""

from __future__ import annotations

import selectors
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amorsize_dask.core.events import (
    BatchDone,
    Event,
    StartFailed,
    Unshippable,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.model import Lane
from amorsize_dask.errors import WorkerStartError
from amorsize_dask.execute.caller_state import dump_caller_state
from amorsize_dask.execute.failure import load_failure
from amorsize_dask.execute.pool import ProcessWorker, WorkerPool
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.wire import Part, count_bytes, dump, load
from amorsize_dask.execute.worker import Report

#: Called with a task's number and its value when it has come back.
Receive = Callable[[int, Any, str], None]

#: Called with the number and the exception of a task that raised; doesn't return.
Fail = Callable[[int, BaseException, Lane], None]


@dataclass(frozen=True, slots=True)
class Tag:
    """What a descriptor in the selector belongs to."""

    worker: int
    is_sentinel: bool


class ProcessLane:
    """The workers that a run has taken from the pool.

    Attributes
    ----------
    peak_rss_bytes : dict of int to int
        For each worker the highest resident bytes that it has reported.
    """

    def __init__(
        self,
        pool: WorkerPool,
        store: Store,
        selector: selectors.BaseSelector,
        receive: Receive,
        fail: Fail,
        ready: Callable[[ProcessWorker], None],
    ) -> None:
        self._pool = pool
        self._store = store
        self._selector = selector
        self._receive = receive
        self._fail = fail
        self._ready = ready
        self._workers: dict[int, ProcessWorker] = {}
        self._state: list[Part] | None = None
        self.peak_rss_bytes: dict[int, int] = {}

    @property
    def n_busy(self) -> int:
        """How many workers have a batch."""
        return sum(bool(worker.batches) for worker in self._workers.values())

    def start(self, numbers: tuple[int, ...]) -> list[Event]:
        """Take workers from the pool, and boot those that it hasn't."""
        warm = self._pool.take(len(numbers))
        try:
            cold = self._pool.boot(len(numbers) - len(warm))
        except WorkerStartError as error:
            for worker in warm:
                self._pool.give_back(worker)
            return [StartFailed(Lane.PROCESSES, numbers, str(error))]
        for number, worker in zip(numbers, (*warm, *cold), strict=True):
            self._workers[number] = worker
            self._watch(number, worker)
        return [WorkerReady(number) for number in numbers[: len(warm)]]

    def give(self, number: int, tasks: list[int]) -> list[Event]:
        """Send a batch, or say that it can't be sent."""
        worker = self._workers[number]
        try:
            parts = dump((self._store.items(tasks), self._store.arguments(tasks)))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return [Unshippable(number, self._find_unshippable(tasks), "task", reason)]
        self._send_state(worker)
        worker.channel.send([_RUN, *parts])
        worker.batches.append((tasks, count_bytes(parts)))
        self._mind_writing(number, worker)
        return []

    def handle(self, tag: Tag, mask: int) -> list[Event]:
        """Do what a descriptor has become ready for; return what has happened."""
        worker = self._workers.get(tag.worker)
        if worker is None:
            return []
        if mask & selectors.EVENT_WRITE:
            worker.channel.flush()
            self._mind_writing(tag.worker, worker)
        events: list[Event] = []
        for message in worker.channel.receive():
            events += self._take_message(tag.worker, worker, message)
        if tag.is_sentinel or not worker.channel.is_open:
            self._unwatch(worker)
            del self._workers[tag.worker]
            worker.batches.clear()
            events.append(WorkerLost(tag.worker, self._pool.ending(worker)))
        return events

    def release(self) -> None:
        """Give all workers back; those with a batch in flight are killed."""
        for worker in self._workers.values():
            self._unwatch(worker)
            self._pool.give_back(worker)
        self._workers.clear()

    # -- messages -------------------------------------------------------------------

    def _take_message(
        self, number: int, worker: ProcessWorker, message: list[bytearray]
    ) -> list[Event]:
        kind, *content = load(message[:1])
        if kind == "ready":
            worker.set_up(*content)
            if worker.sentinel is not None:
                self._selector.register(
                    worker.sentinel, selectors.EVENT_READ, Tag(number, True)
                )
            self._ready(worker)
            return [WorkerReady(number)]
        if kind == "echo":
            return []  # it is late, and calibration has given up on it
        return self._take_report(number, worker, content[0], message)

    def _take_report(
        self,
        number: int,
        worker: ProcessWorker,
        report: Report,
        message: list[bytearray],
    ) -> list[Event]:
        tasks, in_bytes = worker.batches.popleft()
        self.peak_rss_bytes[number] = report.peak_rss_bytes
        for category, text, filename, lineno in report.warnings:
            warned = _warned.setdefault(filename, {})
            warnings.warn_explicit(text, category, filename, lineno, registry=warned)
        events: list[Event] = []
        if report.unloadable is not None:
            events.append(Unshippable(number, tasks, "result", report.unloadable))
        for task, reason in report.unshippable:
            events.append(Unshippable(number, [task], "result", reason))
        outcomes = []
        start = 1
        for outcome, n_parts in zip(report.outcomes, report.n_parts, strict=True):
            parts = message[start : start + n_parts]
            start += n_parts
            try:
                value = load(parts)
            except Exception as error:
                reason = (
                    f"its result can't be unpickled: {type(error).__name__}: {error}"
                )
                events.append(Unshippable(number, [outcome.task], "result", reason))
                continue
            outcomes.append(outcome)
            self._receive(outcome.task, value, f"process {worker.pid}")
        if report.failure is not None:
            task, failure = report.failure
            parts = [bytearray(part) for part in failure]
            self._fail(
                task, load_failure(self._store.key_of(task), parts), Lane.PROCESSES
            )
        events.append(BatchDone(number, outcomes, in_bytes=in_bytes))
        return events

    def _find_unshippable(self, tasks: list[int]) -> list[int]:
        for task in tasks:
            try:
                dump((self._store.items([task]), self._store.arguments([task])))
            except Exception:
                return [task]
        return tasks

    def _send_state(self, worker: ProcessWorker) -> None:
        if self._state is None:
            self._state = dump_caller_state()
        state = bytes(self._state[0])
        if worker.state != state:
            worker.state = state
            worker.channel.send(self._state)

    # -- the selector ---------------------------------------------------------------

    def _watch(self, number: int, worker: ProcessWorker) -> None:
        self._selector.register(
            worker.channel, selectors.EVENT_READ, Tag(number, False)
        )
        if worker.sentinel is not None:
            self._selector.register(
                worker.sentinel, selectors.EVENT_READ, Tag(number, True)
            )

    def _unwatch(self, worker: ProcessWorker) -> None:
        self._selector.unregister(worker.channel)
        if worker.sentinel is not None:
            self._selector.unregister(worker.sentinel)

    def _mind_writing(self, number: int, worker: ProcessWorker) -> None:
        """Wait for room in a pipe exactly as long as something waits to be sent."""
        mask = selectors.EVENT_READ
        if worker.channel.wants_to_write:
            mask |= selectors.EVENT_WRITE
        self._selector.modify(worker.channel, mask, Tag(number, False))


_RUN: Part = dump(("run",))[0]

#: For each file what Python keeps in a module's ``__warningregistry__``: otherwise a
#: warning of which the filters show the first one only would be shown for each batch.
_warned: dict[str, dict[Any, Any]] = {}
