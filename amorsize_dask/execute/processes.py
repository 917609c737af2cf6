"""The processes lane of one run: batches to workers, answers back, deaths noticed."""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Any

from amorsize_dask.core.events import (
    BatchDone,
    Event,
    StartFailed,
    Unshippable,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.losses import ALLOWED_FAILURES
from amorsize_dask.core.model import Lane
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.errors import TaskTimeoutError, WorkerStartError
from amorsize_dask.execute.answer import Report, read_answer, show_warnings
from amorsize_dask.execute.caller_state import dump_caller_state
from amorsize_dask.execute.deadlines import Deadlines
from amorsize_dask.execute.failure import load_failure
from amorsize_dask.execute.log_record import handle_record
from amorsize_dask.execute.losses import Losses
from amorsize_dask.execute.message_files import MessageFiles, is_kept
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.pool import ProcessWorker, SentBatch, WorkerPool
from amorsize_dask.execute.preload import for_all
from amorsize_dask.execute.recipe import Recipe, Sender
from amorsize_dask.execute.spool import Spooled, SpoolPlace, is_large, remove
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.wire import Part, count_bytes, dump, load
from amorsize_dask.execute.worker import RunHead
from amorsize_dask.measure.size import count_loading_s

logger = logging.getLogger(__name__)

#: Share of the memory limit, and bytes, that a worker may keep for its next batches.
#: Smaller: what many tasks share is loaded again for each batch; larger: what no one
#: needs any more takes memory from what someone does.
KEPT_FRACTION = 0.02
MAX_KEPT_BYTES = 256_000_000

#: Seconds after which a worker that hasn't got up is given up. Smaller: one that has to
#: import from a slow disk is; larger: a run waits for workers that hang at their boot.
BOOT_TIMEOUT_S = 60.0

#: Called with outcomes, the values or where they are, and what names the worker.
Receive = Callable[[list[Outcome], list[Any], str], None]

#: Called with the number and the exception of a task that raised; returns if the task
#: is to be tried again.
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
        modules: Sequence[str] = (),
        limit_bytes: int | None = None,
        timeout_s: float | None = None,
        load_bytes_per_s: float = inf,
    ) -> None:
        self._pool = pool
        self._store = store
        self._selector = selector
        self._receive = receive
        self._fail = fail
        self._ready = ready
        self._modules = modules
        self._n_lost_importing = 0
        self._deadlines = Deadlines(timeout_s)
        self._load_bytes_per_s = load_bytes_per_s
        self._losses = Losses()
        self._kept_bytes = MAX_KEPT_BYTES
        if limit_bytes is not None:
            self._kept_bytes = min(MAX_KEPT_BYTES, int(KEPT_FRACTION * limit_bytes))
        self._workers: dict[int, ProcessWorker] = {}
        self._state: list[Part] | None = None
        self._place: SpoolPlace | None = None
        self._files = MessageFiles()
        # Workers that have had a batch of this run.
        self._begun: set[int] = set()
        self.peak_rss_bytes: dict[int, int] = {}

    @property
    def n_workers(self) -> int:
        """How many workers there are, up or not."""
        return len(self._workers)

    @property
    def n_busy(self) -> int:
        """How many workers have a batch."""
        return sum(bool(worker.batches) for worker in self._workers.values())

    def start(self, numbers: tuple[int, ...]) -> list[Event]:
        """Take workers from the pool, and boot those that it hasn't."""
        self._losses.begin()
        warm = self._pool.take(len(numbers))
        try:
            cold = self._pool.boot(len(numbers) - len(warm), for_all(self._modules))
        except WorkerStartError as error:
            for worker in warm:
                self._pool.give_back(worker)
            return [StartFailed(Lane.PROCESSES, numbers, str(error))]
        for number, worker in zip(numbers, (*warm, *cold), strict=True):
            worker.sender = Sender()
            self._workers[number] = worker
            self._watch(number, worker)
        if self._modules and self._n_lost_importing < ALLOWED_FAILURES:
            # Before they get anything to do: it would wait for that.
            for number in numbers[len(warm) :]:
                worker = self._workers[number]
                self._send_state(worker)
                worker.ask_to_import(self._modules)
                self._mind_writing(number, worker)
        return [WorkerReady(number) for number in numbers[: len(warm)]]

    def give(self, number: int, tasks: list[int]) -> list[Event]:
        """Send a batch, or say that it can't be sent."""
        worker = self._workers[number]
        place = self._open_place()
        self._store.fetch_arguments(tasks)
        new: list[tuple[Hashable, Recipe]] = []
        start = perf_counter()
        try:
            with worker.sender.active():
                sent = self._store.items(tasks), self._arguments(tasks)
                parts = dump(sent, shares_files=True)
            pack_s = perf_counter() - start
            new = worker.sender.take_new()
            recipes = [
                (n, [bytes(part) for part in dump(r, shares_files=True)])
                for n, r in new
            ]
        except Exception as error:
            worker.sender.forget(worker.sender.take_new() or new)
            reason = f"{type(error).__name__}: {error}"
            return [Unshippable(number, self._find_unshippable(tasks), "task", reason)]
        self._send_state(worker)
        in_bytes = count_bytes(parts)
        spooled = self._files.write(parts, place) if is_large(parts) else None
        if spooled is not None:
            parts = []
        head = RunHead(
            is_first=number not in self._begun,
            recipes=recipes,
            place=place,
            kept_bytes=self._kept_bytes,
            spooled=spooled,
            keeps_file=spooled is not None and is_kept(spooled),
            tells_loaded=self._deadlines.timeout_s is not None,
        )
        self._begun.add(number)
        worker.channel.send([dump(("run", head))[0], *parts])
        if not worker.batches:
            self._deadlines.begin(number)
        worker.batches.append(SentBatch(tasks, in_bytes, pack_s, spooled))
        self._mind_writing(number, worker)
        return []

    def retire(self, number: int) -> None:
        """End a worker that is idle."""
        worker = self._workers.pop(number)
        self._losses.rss_bytes.pop(number, None)
        self._unwatch(worker)
        self._pool.retire(worker)

    def story_of(self, task: int) -> tuple[str, ...]:
        """Say what became of the workers that were running a task when they died."""
        return self._losses.story_of(task)

    def seconds_left(self) -> float | None:
        """Return the seconds until a task has run for too long, if any can."""
        return self._deadlines.seconds_left()

    def lose_unborn(self) -> list[Event]:
        """Give up workers that don't get up, whatever keeps them."""
        latest = perf_counter() - BOOT_TIMEOUT_S
        events: list[Event] = []
        for number, worker in list(self._workers.items()):
            if worker.pid is None and worker.asked_at < latest:
                self._unwatch(worker)
                del self._workers[number]
                events.append(self._lose(number, worker))
        return events

    def end_late(self) -> None:
        """End workers whose task has run for too long; that they are lost follows."""
        for number in self._deadlines.take_late():
            self._workers[number].end()

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
            try:
                kind, *content = load(message[:1])
            except Exception as error:
                # A task has written into the pipe, by its number.
                worker.channel.give_up(f"{type(error).__name__}: {error}")
                break
            events += self._take_message(tag.worker, worker, kind, content, message)
        if tag.is_sentinel or not worker.channel.is_open:
            self._unwatch(worker)
            del self._workers[tag.worker]
            events.append(self._lose(tag.worker, worker))
        return events

    def _lose(self, number: int, worker: ProcessWorker) -> Event:
        ending = self._pool.ending(worker)
        tasks = worker.batches[0].tasks if worker.batches else []
        for batch in worker.batches:
            if batch.spooled is not None:
                remove(batch.spooled)
        worker.batches.clear()
        self._deadlines.end(number)
        has_answered = worker.pid is not None
        if has_answered and worker.n_imports:
            # If that is what ends them, those to come leave it to the task.
            self._n_lost_importing += 1
        is_memory_likely, grown_bytes = self._losses.note(number, worker, ending, tasks)
        timeout_s = self._deadlines.timeout_s
        if timeout_s is not None and self._deadlines.is_late(number) and tasks:
            key = self._store.key_of(tasks[0])
            error = TaskTimeoutError(key, timeout_s)
            self._fail(tasks[0], error, Lane.PROCESSES)
        return WorkerLost(
            number, ending, is_memory_likely, grown_bytes, has_answered=has_answered
        )

    def release(self) -> None:
        """Give all workers back; those with a batch in flight are killed."""
        for worker in self._workers.values():
            self._unwatch(worker)
            self._pool.give_back(worker)
        self._workers.clear()
        # Nothing comes any more. What is to be told of it refers to the run, which
        # refers to this: a graph would be there until the collector finds it.
        self._receive = self._fail = _ignore

    # -- messages -------------------------------------------------------------------

    def _take_message(
        self,
        number: int,
        worker: ProcessWorker,
        kind: str,
        content: list[Any],
        message: list[bytearray],
    ) -> list[Event]:
        if kind == "ready":
            worker.set_up(*content)
            if worker.sentinel is not None:
                self._selector.register(
                    worker.sentinel, selectors.EVENT_READ, Tag(number, True)
                )
            self._ready(worker)
            return [WorkerReady(number)] if worker.is_ready else []
        if kind == "imported":
            show_warnings(content[0])
            worker.n_imports -= 1
            return [WorkerReady(number)] if worker.is_ready else []
        if kind == "loaded":
            self._deadlines.note_loaded(number)
            return []
        if kind == "log":
            handle_record(content[0])
            return []
        if kind == "left out":
            text = "%d log records of worker process %s were left out: too many at once"
            logger.warning(text, content[0], worker.pid)
            return []
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
        tasks, in_bytes, pack_s, spooled = worker.batches.popleft()
        if spooled is not None:
            self._files.take_back(spooled)
        if worker.batches:
            self._deadlines.begin(number)
        else:
            self._deadlines.end(number)
        self._losses.rss_bytes[number] = report.rss_bytes
        self.peak_rss_bytes[number] = max(
            self.peak_rss_bytes.get(number, 0), report.peak_rss_bytes
        )
        show_warnings(report.warnings)
        events: list[Event] = []
        if report.unloadable is not None:
            events.append(Unshippable(number, tasks, "result", report.unloadable))
        answer = read_answer(report, message[1:], tasks)
        for task, reason in answer.unshippable:
            events.append(Unshippable(number, [task], "result", reason))
        self._receive(answer.outcomes, answer.values, f"process {worker.pid}")
        if answer.failure is not None:
            task, failure = answer.failure
            parts = [bytearray(part) for part in failure]
            self._fail(
                task, load_failure(self._store.key_of(task), parts), Lane.PROCESSES
            )
        loading_s = sum(
            count_loading_s(value.sizes[0], self._load_bytes_per_s)
            for value in answer.values
            if isinstance(value, Spooled)
        )
        # What is in files the worker has let go of already.
        made_bytes = sum(
            outcome.out_bytes or 0
            for outcome, value in zip(answer.outcomes, answer.values, strict=True)
            if not isinstance(value, Spooled)
        )
        grown_bytes = report.rss_bytes - made_bytes - worker.rss_bytes
        events.append(
            BatchDone(
                number,
                answer.outcomes,
                is_partial=answer.failure is not None,
                in_bytes=in_bytes,
                pack_s=pack_s + (report.pack_s or 0.0) + loading_s,
                grown_bytes=max(0, grown_bytes),
            )
        )
        return events

    def _arguments(self, tasks: list[int]) -> dict[Key, Any]:
        """Return what tasks need, and of what is large where it is."""
        place = self._open_place()
        return {
            key: self._store.share(key, place) or value
            for key, value in self._store.arguments(tasks).items()
        }

    def _open_place(self) -> SpoolPlace:
        """Return where files are; workers' files outlive a killed caller."""
        if self._place is None:
            self._place = self._store.open_place()
            self._pool.note_folders(self._place.folders)
        return self._place

    def _find_unshippable(self, tasks: list[int]) -> list[int]:
        for task in tasks:
            try:
                sent = self._store.items([task]), self._store.arguments([task])
                dump(sent, shares_files=True)
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


def _ignore(*_: object) -> None:
    """Take something that no one waits for."""
