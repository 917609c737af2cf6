"""The lane cluster of one run: batches to a Dask cluster, answers back.

A batch is one task of Dask's. Which worker has it, and what becomes of it if that
worker dies, is Dask's business: the core is told of as many threads as the workers
have, each of which has a batch or two. ::

    give -> [client's loop: submit, wait, gather] -> mailbox -> take
               on the cluster: run_far_batch -> small results, in the answer
                                             -> large ones stay, see `remote`

All that is done with futures is done in the thread of the client's event loop, but for
reading results that stayed; the run's own loop never waits for the cluster.
"""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any
from uuid import uuid4

from amorsize_dask.core.events import (
    BatchDone,
    ClusterGrown,
    Event,
    StartFailed,
    Unshippable,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.model import Lane, Machine
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.errors import ClusterError
from amorsize_dask.execute.answer import Left, read_answer, show_warnings
from amorsize_dask.execute.connection import Connection, is_closed, is_usable
from amorsize_dask.execute.failure import load_failure
from amorsize_dask.execute.far_worker import (
    AWAY_BYTES,
    Sent,
    first,
    keep,
    pick,
    run_far_batch,
)
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.processes import Fail, Receive
from amorsize_dask.execute.recipe import Recipe, Sender
from amorsize_dask.execute.remote import RemoteBatch
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.threads import Mailbox
from amorsize_dask.execute.wire import count_bytes, dump
from amorsize_dask.measure.size import measure_held

logger = logging.getLogger(__name__)

#: Bytes of results that are asked for at once. Smaller: a round trip for each few;
#: larger: they are in memory twice while they are read.
GATHER_BYTES = 64_000_000

#: Bytes of a message up to which it goes through the scheduler, with the task. Smaller:
#: each batch costs a round trip more; larger: the scheduler, which keeps it until the
#: task is done, has it in memory.
INLINE_BYTES = 1_000_000

#: Bytes of a pickled recipe up to which it goes with each batch that needs it. Smaller:
#: it is a task of its own, and Dask gives the batches that need it to the worker that
#: has it, until it has seen that others are idle; larger: the scheduler passes it on
#: again and again.
ALONG_BYTES = 10_000


@dataclass(slots=True, eq=False)
class _Batch:
    """A batch under way."""

    worker: int
    tasks: list[int]
    #: What is sent.
    parts: list[bytes]
    recipes: list[Hashable]
    far: list[Any]
    in_bytes: int
    #: Those whose values were sent before, in the place of futures of their own.
    shared: list[Key] = field(default_factory=list)
    future: Any = None
    #: Whether no one waits for it any more.
    is_void: bool = False


#: What has come: that the cluster is ready or why not, or of a batch its answer or what
#: has gone wrong.
_Mail = tuple[_Batch | None, bytes | None, BaseException | None]


class ClusterLane:
    """The threads of a cluster that a run has, as far as it sees them.

    Parameters
    ----------
    connection : Connection
        To the cluster.
    machine : Machine
        With the cluster as it was when the run began.
    store : Store
        The values.
    open_mailbox : callable
        Returns what wakes the run's loop.
    receive : callable
        Called with outcomes, the values or where they are, and what names the worker.
    fail : callable
        Called with the number and the exception of a task that raised.
    """

    def __init__(
        self,
        connection: Connection,
        machine: Machine,
        store: Store,
        open_mailbox: Callable[[], Mailbox],
        receive: Receive,
        fail: Fail,
    ) -> None:
        self._connection = connection
        self._client = connection.client
        self._machine = machine
        self._store = store
        self._open_mailbox = open_mailbox
        self._receive = receive
        self._fail = fail
        self._name = uuid4().hex[:12]
        self._n_sent = 0
        self._sender = Sender(self._name)
        self._mail: deque[_Mail] = deque()
        self._mailbox: Mailbox | None = None
        #: For each thread its batches, in the order in which they were given.
        self._threads: dict[int, list[_Batch]] = {}
        self._starting: list[int] = []
        self._stories: dict[int, list[str]] = {}
        self._is_closed = False
        # In the thread of the client's loop alone:
        self._futures: dict[Any, Any] = {}
        self._scattered: dict[Key, Any] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._threads

    @property
    def n_threads(self) -> int:
        """How many threads of the cluster have been asked for."""
        return len(self._threads) + len(self._starting)

    def start(self, numbers: tuple[int, ...]) -> list[Event]:
        """Use so many threads; they are up as soon as the cluster is known to work."""
        if self._mailbox is None:
            self._mailbox = self._open_mailbox()
        if self._is_closed:
            return [StartFailed(Lane.CLUSTER, numbers, "the cluster is closed")]
        if self._connection.is_prepared:
            return self._set_up(numbers)
        if not self._starting:
            self._spawn(self._prepare)
        self._starting += numbers
        return []

    def _set_up(self, numbers: Sequence[int]) -> list[Event]:
        self._threads.update((number, []) for number in numbers)
        return [WorkerReady(number) for number in numbers]

    async def _prepare(self) -> None:
        error: BaseException | None = None
        try:
            await self._connection.prepare()
        except Exception as failure:
            error = failure
        self._post(None, None, error)

    # -- sending --------------------------------------------------------------------

    def give(self, number: int, tasks: list[int]) -> list[Event]:
        """Send a batch, or say that it can't be sent."""
        new: list[tuple[Hashable, Recipe]] = []
        sender = self._sender
        sender.used.clear()
        try:
            near, keys, shared = self._sort_arguments(tasks)
            far = [*keys, *shared]
            with sender.active():
                parts = dump(Sent(self._store.items(tasks), near, far))
            new = sender.take_new()
            recipes = [(n, [bytes(part) for part in dump(recipe)]) for n, recipe in new]
        except Exception as error:
            sender.forget(sender.take_new() or new)
            reason = f"{type(error).__name__}: {error}"
            return [Unshippable(number, self._find_unshippable(tasks), "task", reason)]
        batch = _Batch(
            number,
            tasks,
            [bytes(part) for part in parts],
            list(sender.used),
            [self._future_of(key) for key in keys],
            count_bytes(parts),
            shared,
        )
        self._threads[number].append(batch)
        self._n_sent += 1
        values = [self._store.values[key] for key in shared]
        name = f"{self._name}-{self._n_sent}"
        self._spawn(partial(self._follow, batch, name, recipes, values))
        return []

    def _sort_arguments(
        self, tasks: list[int]
    ) -> tuple[dict[Key, Any], list[Key], list[Key]]:
        """Return values that go along, and keys: of those there, of those to send."""
        near: dict[Key, Any] = {}
        there: list[Key] = []
        shared: list[Key] = []
        for key, value in self._store.arguments(tasks).items():
            if self._store.remote(key) is not None:
                there.append(key)
                continue
            value = self._store.read_key(key)
            if measure_held(value) >= AWAY_BYTES:
                shared.append(key)
            else:
                near[key] = value
        return near, there, shared

    def _future_of(self, key: Key) -> Any:
        remote = self._store.remote(key)
        assert remote is not None
        return remote.future

    def _find_unshippable(self, tasks: list[int]) -> list[int]:
        for task in tasks:
            try:
                dump((self._store.items([task]), self._store.arguments([task])))
            except Exception:
                return [task]
        return tasks

    def _spawn(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let the client's loop run what a coroutine function does."""
        try:
            self._client.loop.add_callback(call)
        except RuntimeError:
            # The loop is closed, with the client.
            self._post(None, None, ClusterError("its client is closed"))

    def _post(
        self, batch: _Batch | None, answer: bytes | None, error: BaseException | None
    ) -> None:
        self._mail.append((batch, answer, error))
        if self._mailbox is not None:
            self._mailbox.wake()

    # -- in the client's loop -------------------------------------------------------

    async def _follow(
        self,
        batch: _Batch,
        name: str,
        recipes: list[tuple[Hashable, list[bytes]]],
        values: list[Any],
    ) -> None:
        """See a batch through: send it, and post what comes of it."""
        answer, error = None, None
        try:
            for number, parts in recipes:
                self._futures[number] = (number, parts)
            values = [
                await self._share(key, value)
                for key, value in zip(batch.shared, values, strict=True)
            ]
            answer, error = await self._run(batch, name, values)
        except BaseException as failure:
            # Also the end of the loop, of which whoever waits for this must know.
            error = failure
        if self._is_closed or batch.is_void:
            self._let_go(batch)
        else:
            self._post(batch, answer, error)

    async def _run(
        self, batch: _Batch, name: str, values: list[Any]
    ) -> tuple[bytes | None, BaseException | None]:
        client = self._client
        parts: Any = batch.parts
        if batch.in_bytes >= INLINE_BYTES:
            (parts,) = await client.scatter([parts], hash=False, asynchronous=True)
        recipes = [await self._send_recipe(number) for number in batch.recipes]
        if self._is_closed or batch.is_void:
            return None, None
        future = batch.future = client.submit(
            run_far_batch,
            parts,
            recipes,
            [*batch.far, *values],
            key=f"amorsize-batch-{name}",
            pure=False,
        )
        error = await future.exception()
        if error is not None:
            return None, error
        if future.type is bytes:
            answer = await future
            future.release()
            return answer, None
        # Large results stay, and what is said of them comes by itself.
        head = client.submit(first, future, key=f"amorsize-answer-{name}", pure=False)
        return await head, None

    async def _send_recipe(self, number: Hashable) -> Any:
        """Return what a batch gets in the place of a recipe: a small one as it is.

        Of others a future; they are sent if that was not done yet.
        """
        found = self._futures[number]
        if not isinstance(found, tuple):
            return found
        n_bytes = sum(map(len, found[1]))
        if n_bytes < ALONG_BYTES:
            return found
        key = f"amorsize-recipe-{self._name}-{number[1]}"  # type: ignore[index]
        if n_bytes >= INLINE_BYTES:
            # The scheduler needn't have it.
            return await self._share(number, found)
        future = self._client.submit(keep, found, key=key, pure=False)
        self._futures[number] = future
        return future

    async def _share(self, key: Any, value: Any) -> Any:
        """Return a future of a value, and send it if it isn't there (any more)."""
        found = self._scattered.get(key)
        if found is None or found.cancelled():
            sending = self._client.scatter([value], hash=False, asynchronous=True)
            (found,) = await sending
            self._scattered[key] = found
        return found

    def _let_go(self, batch: _Batch) -> None:
        batch.is_void = True
        if batch.future is not None:
            batch.future.release()

    async def _let_go_of_all(self, batches: list[_Batch]) -> None:
        for batch in batches:
            self._let_go(batch)
        for future in (*self._futures.values(), *self._scattered.values()):
            if not isinstance(future, tuple):
                future.release()
        self._futures.clear()
        self._scattered.clear()

    async def _forget(self, keys: list[Key]) -> None:
        for key in self._scattered.keys() & keys:
            self._scattered.pop(key).release()

    # -- receiving ------------------------------------------------------------------

    def take(self) -> list[Event]:
        """Return what has happened."""
        events: list[Event] = []
        while self._mail:
            batch, answer, error = self._mail.popleft()
            if batch is None:
                events += self._begin(error)
            elif batch.is_void or batch.worker not in self._threads:
                continue
            elif answer is not None:
                events += self._take_answer(batch, answer)
            else:
                assert error is not None
                events += self._take_error(batch, error)
        return events + self.look()

    def look(self) -> list[Event]:
        """Say so if there are more threads than at any time so far, or none any more.

        A client that is closed needn't say what becomes of its futures. Where some of
        the threads have gone Dask waits for others, or gives what they had to those
        that are left.
        """
        if (self._threads or self._starting) and is_closed(self._client):
            return self._close("its client was closed")
        known = self._machine.cluster
        if known is None or not self._threads or not is_usable(self._client):
            return []
        cluster = self._connection.look(self._machine, waits=False)
        if cluster is None or cluster.n_threads <= known.n_threads:
            return []
        self._machine = replace(self._machine, cluster=cluster)
        return [ClusterGrown(cluster)]

    def _begin(self, error: BaseException | None) -> list[Event]:
        numbers, self._starting = tuple(self._starting), []
        if error is None:
            return self._set_up(numbers)
        reason = getattr(error, "reason", f"{type(error).__name__}: {error}")
        return [StartFailed(Lane.CLUSTER, numbers, reason), *self._close(reason)]

    def _take_answer(self, batch: _Batch, data: bytes) -> list[Event]:
        number, tasks = batch.worker, batch.tasks
        position = self._threads[number].index(batch)
        del self._threads[number][position]
        report, (joined, *others) = pickle.loads(data)
        show_warnings(report.warnings)
        events: list[Event] = []
        if report.unloadable is not None:
            events.append(Unshippable(number, tasks, "result", report.unloadable))
        # Arrays are writable if what they are made of is.
        following = [joined, *map(bytearray, others)]
        answer = read_answer(report, following, tasks)
        for task, reason in answer.unshippable:
            events.append(Unshippable(number, [task], "result", reason))
        self._place(batch, answer.outcomes, answer.values)
        self._receive(answer.outcomes, answer.values, f"cluster thread {number}")
        if answer.failure is not None:
            task, failure = answer.failure
            parts = [bytearray(part) for part in failure]
            error = load_failure(self._store.key_of(task), parts)
            self._fail(task, error, Lane.CLUSTER)
        events.append(
            BatchDone(
                number,
                answer.outcomes,
                is_partial=answer.failure is not None,
                in_bytes=batch.in_bytes,
                position=position,
            )
        )
        return events

    def _place(self, batch: _Batch, outcomes: list[Outcome], values: list[Any]) -> None:
        """Put what tells where it is in the place of what has stayed."""
        left = [i for i, value in enumerate(values) if isinstance(value, Left)]
        if not left:
            return
        there = RemoteBatch(batch.future, self._pick, self._gather)
        for i in left:
            values[i] = there.add(values[i].position, values[i].n_bytes)
            outcomes[i] = outcomes[i]._replace(is_away=True)

    def _pick(self, future: Any, position: int) -> Any:
        key = f"amorsize-pick-{future.key}-{position}"
        return self._client.submit(pick, future, position, key=key, pure=False)

    def _gather(self, futures: list[Any], n_bytes: int) -> list[Any]:
        """Return the values of futures; wait for them.

        Raises
        ------
        ClusterError
            If they are lost.
        """
        values: list[Any] = []
        step = max(1, int(len(futures) * GATHER_BYTES / max(1, n_bytes)))
        start = perf_counter()
        try:
            for i in range(0, len(futures), step):
                values += self._client.gather(
                    futures[i : i + step], direct=self._connection.is_direct
                )
        except Exception as error:
            raise ClusterError(
                "results that were left on it are lost, and can't be made again: "
                f"{type(error).__name__}: {error}"
            ) from error
        self._connection.note_transfer(n_bytes, perf_counter() - start)
        return values

    # -- losing ---------------------------------------------------------------------

    def _take_error(self, batch: _Batch, error: BaseException) -> list[Event]:
        """Say what it means that Dask couldn't run a batch."""
        number = batch.worker
        kind = type(error).__name__
        if not is_usable(self._client):
            return self._close("the cluster was closed, or can't be reached any more")
        if kind == "KilledWorker":
            n_lost = getattr(error, "allowed_failures", 0) + 1
            return self._lose(batch, f"{kind}, {n_lost} times", n_lost)
        if kind in ("CancelledError", "FutureCancelledError", "FuturesCancelledError"):
            # A value that was sent there is lost, with the worker that had it; or
            # someone has restarted the cluster.
            if any(future.cancelled() for future in batch.far):
                raise ClusterError(
                    "results that were left on it are lost, and can't be made again"
                )
            return self._lose(batch, "a worker was lost that had what it needs", 1)
        position = self._threads[number].index(batch)
        del self._threads[number][position]
        reason = f"{kind}: {error}"
        return [
            Unshippable(number, batch.tasks, "result", reason),
            BatchDone(number, [], position=position),
        ]

    def _lose(self, batch: _Batch, ending: str, n_lost: int) -> list[Event]:
        batches = self._threads.pop(batch.worker)
        position = batches.index(batch)
        line = f"{ending}, running {len(batch.tasks)} tasks on the cluster"
        for task in batch.tasks:
            self._stories.setdefault(task, []).append(line)
        self._spawn(partial(self._void, batches))
        return [WorkerLost(batch.worker, ending, position=position, n_lost=n_lost)]

    async def _void(self, batches: list[_Batch]) -> None:
        for batch in batches:
            self._let_go(batch)

    def _close(self, reason: str) -> list[Event]:
        """Give up the cluster; what it had in flight is to be run elsewhere."""
        if self._is_closed:
            return []
        self._is_closed = True
        threads, self._threads = self._threads, {}
        events: list[Event] = [
            WorkerLost(number, reason, position=-1) for number in threads
        ]
        numbers, self._starting = tuple(self._starting), []
        return [*events, StartFailed(Lane.CLUSTER, numbers, reason)]

    def story_of(self, task: int) -> tuple[str, ...]:
        """Say what became of the workers that were running a task when they died."""
        return tuple(self._stories.get(task, ()))

    # -- letting go -----------------------------------------------------------------

    def forget(self, tasks: Sequence[int]) -> None:
        """Take note that no one needs these tasks' values any more."""
        if self._scattered:
            keys = [self._store.key_of(task) for task in tasks]
            if not self._scattered.keys().isdisjoint(keys):
                self._spawn(partial(self._forget, keys))

    def release(self) -> None:
        """Leave nothing on the cluster; what is running there ends by itself."""
        self._is_closed = True
        batches = [batch for given in self._threads.values() for batch in given]
        batches += [batch for batch, _, _ in self._mail if batch is not None]
        self._threads.clear()
        self._mail.clear()
        with suppress(RuntimeError):  # the loop is closed, and all with it
            self._client.loop.add_callback(partial(self._let_go_of_all, batches))
