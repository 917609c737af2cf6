"""The one loop: does what the core says, waits once for all that can happen.

::

    core.handle(events) -> actions          decides
         ^                   |
         |                   v
    events <---- caller (this thread), side thread, threads, worker processes
         `---- one wait: the threads' mailbox, each worker's pipe, each worker's end

Covers the run of one graph. Does not cover what comes before and after: lowering,
callbacks, nesting of results, the record; see `scheduler`.
"""

from __future__ import annotations

import logging
import select
import selectors
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from threading import get_native_id
from time import perf_counter, sleep
from typing import Any, NoReturn, assert_never

from amorsize_dask.core.events import (
    CALLER,
    SIDE,
    Action,
    Away,
    BatchDone,
    Cut,
    Drop,
    Event,
    GiveUp,
    Retire,
    Run,
    Spill,
    SpillFailed,
    Split,
    StartFailed,
    StartWorkers,
    Weigh,
    Weighed,
    WorkerReady,
)
from amorsize_dask.core.model import Lane
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.errors import (
    LaneError,
    MemoryBudgetError,
    SerializationError,
    WorkerLostError,
)
from amorsize_dask.execute.batch import BatchResult, run_batch
from amorsize_dask.execute.cluster import ClusterLane
from amorsize_dask.execute.connection import Connection
from amorsize_dask.execute.flow import Flow
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.inner_threads import limit_inner_threads
from amorsize_dask.execute.memory_watch import MemoryWatch
from amorsize_dask.execute.observer import TaskObserver
from amorsize_dask.execute.pool import ProcessWorker, WorkerPool
from amorsize_dask.execute.processes import ProcessLane, Tag
from amorsize_dask.execute.side import SideWatch
from amorsize_dask.execute.sizing import Sizing
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.threads import Mailbox, ThreadWorker
from amorsize_dask.execute.weighing import weigh
from amorsize_dask.measure.clock import RunDelay
from amorsize_dask.measure.gil import WATCH_INTERVAL_S

logger = logging.getLogger(__name__)

#: Seconds that the loop waits at most before it comes to itself. A Ctrl-C that strikes
#: while the calling thread has let go of the GIL and isn't waiting yet doesn't end the
#: wait, and it takes milliseconds to get there while threads compete. Smaller: needless
#: wake-ups; larger: such a Ctrl-C is noticed that much later.
MAX_WAIT_S = 0.5

#: Seconds for which results are handed over one after the other before the loop looks
#: what has come meanwhile. Smaller: small results that are there at once take a turn
#: each; larger: workers wait, and large results that were taken stay for longer.
HAND_OVER_S = 0.5e-3


class Execution:
    """The run of one graph.

    Parameters
    ----------
    tasks : TaskGraph
        What to run.
    scheduling : Scheduling
        The core, at its start.
    pool : WorkerPool
        Where worker processes come from and go back to.
    observer : TaskObserver, optional
        Is told of each task.
    on_worker_ready : callable, optional
        Called with each worker process that has booted.
    rerun_failed : bool, optional
        Run a task that failed again in the calling thread, for a debugger.
    retries : int, optional
        How often a task that has raised is run again, if nothing was said of it.
    timeout_s : float, optional
        Seconds after which a task is ended that runs in a worker process.
    modules : sequence of str, optional
        What worker processes that are booted should import.
    margin_bytes : int, optional
        Look now and then what the machine has left, and tell the core, less so many
        bytes. By default no one looks.
    connection : Connection, optional
        To the cluster that the core knows of.
    start_bytes : int, optional
        What this process had in the beginning; by default what it has now.

    Attributes
    ----------
    store : Store
        The values.
    scheduling : Scheduling
        The core.
    decision_times : list of float
        For each of the core's decisions the seconds since the start of the run.
    outlook_s : float or None
        The same for the core's outlook, once it has one.
    n_workers : dict of Lane to int
        Most workers that each lane had.
    """

    def __init__(
        self,
        tasks: TaskGraph,
        scheduling: Scheduling,
        pool: WorkerPool,
        *,
        observer: TaskObserver | None = None,
        on_worker_ready: Callable[[ProcessWorker], None] = lambda worker: None,
        rerun_failed: bool = False,
        retries: int = 0,
        timeout_s: float | None = None,
        modules: Sequence[str] = (),
        margin_bytes: int | None = None,
        connection: Connection | None = None,
        start_bytes: int | None = None,
    ) -> None:
        self.store = Store(tasks)
        load_bytes_per_s = scheduling.machine.costs.load_bytes_per_s
        self._sizing = Sizing(
            tasks, self.store, scheduling.budget, start_bytes, load_bytes_per_s
        )
        self.decision_times: list[float] = []
        self.outlook_s: float | None = None
        self.n_workers: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._tasks = tasks
        self._core = self.scheduling = scheduling
        self._pool = pool
        self._observer = observer
        self._start = perf_counter()
        self._selector = selectors.DefaultSelector()
        self._resources = ExitStack()
        self._mailbox: Mailbox | None = None
        self._threads: dict[int, ThreadWorker] = {}
        self._rerun_failed = rerun_failed
        self._retries = retries
        self._n_failed: Counter[int] = Counter()
        self._delay = RunDelay(get_native_id())
        self._resources.callback(self._delay.close)
        self._side = SideWatch()
        self._flow: Flow | None = None
        self._memory = MemoryWatch(
            scheduling.budget,
            margin_bytes=margin_bytes,
            measure_growth=self._sizing.measure_growth,
        )
        self.processes = ProcessLane(
            pool,
            self.store,
            self._selector,
            self._receive,
            self._fail,
            on_worker_ready,
            modules,
            int(scheduling.budget.limit_bytes),
            timeout_s,
            load_bytes_per_s,
        )
        self.cluster: ClusterLane | None = None
        if connection is not None:
            self.cluster = ClusterLane(
                connection,
                scheduling.machine,
                self.store,
                self._open_mailbox,
                self._receive,
                self._fail,
            )

    def run(self) -> None:
        """Run all tasks; afterwards `store` has the wanted values.

        Raises
        ------
        BaseException
            What a task raised, as itself, with a note that names key and lane.
        WorkerLostError
            If a task's workers died too often.
        LaneError, SerializationError
            If no lane is left for a stage.
        KeyboardInterrupt
            On Ctrl-C. After any of these no task is left running, except in threads,
            which end after their present task.
        """
        with self._cleaned_up():
            actions = self._core.handle()
            # Before the calling thread may be busy with a first slice of tasks.
            self._stamp_decisions()
            while not self._core.is_finished:
                events = self._perform(actions)
                events = events or self._wait()
                actions = self._core.handle(*events, *self._memory.take())
                self._stamp_decisions()
            self._perform(actions)
            self.store.read_wanted()

    def stream(self, flow: Flow) -> Generator[Any, None, None]:
        """Run all tasks, and hand over each wanted value as soon as it is there.

        While the caller has a value, and is doing something else, workers go on with
        what they were given, but nothing is handed out. If that takes long they get
        more ahead.

        Parameters
        ----------
        flow : Flow
            What is handed over, and if the graph is open, what is added to it.

        Yields
        ------
        value
            It is dropped when the next one is asked for.

        Raises
        ------
        BaseException
            As `run`; an `Exception` once all has been handed over that was there.
        """
        self._flow = flow
        flow.begin(self._open_mailbox)
        failure: Exception | None = None
        with self._cleaned_up():
            events: list[Event] = []
            while not flow.is_done:
                try:
                    if failure is None:
                        events = self._turn(flow, events)
                except Exception as error:
                    failure = error
                    # Nothing else is going to be made.
                    self._release()
                    flow.grow(self.store, self._core.budget)
                if not flow.has_result and failure is not None:
                    raise failure
                start, away_s = perf_counter(), 0.0
                while flow.has_result:
                    value = flow.take(self.store)
                    taken = perf_counter()
                    yield value
                    del value
                    back = perf_counter()
                    away_s += back - taken
                    if back - start > HAND_OVER_S:
                        break
                if away_s:
                    events.append(Away(away_s))
            # For the record.
            self._core.handle(*events)

    def _turn(self, flow: Flow, events: list[Event]) -> list[Event]:
        """Do what events call for; return what has happened meanwhile."""
        events += flow.grow(self.store, self._core.budget)
        actions = self._core.handle(*events, *self._memory.take())
        self._stamp_decisions()
        events = self._perform(actions)
        # What is busy would seem to be the task that is watched.
        has_more = flow.has_more and not self._side.is_watching
        if flow.has_result or has_more:
            if self._selector.get_map():
                events += self._poll(0)
        elif not (events or flow.is_done):
            events = self._wait()
        return events

    @contextmanager
    def _cleaned_up(self) -> Iterator[None]:
        """End what is left of the run, however it ends."""
        is_interrupted = False
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            for thread in self._threads.values():
                thread.interrupt()
            is_interrupted = True
            raise
        except BaseException:
            for thread in self._threads.values():
                thread.cancel()
            raise
        else:
            # They have nothing to do, so there is nothing to wait for: a hundred
            # threads take some milliseconds to end.
            for thread in self._threads.values():
                thread.stop()
        finally:
            # Last in, first out; all of it, though a second Ctrl-C interrupts one.
            with ExitStack() as rest:
                rest.callback(self._selector.close)
                rest.callback(self._resources.close)
                rest.callback(self.store.close)
                if is_interrupted:
                    rest.callback(self._pool.close)
                self._release()

    def _release(self) -> None:
        """Let go of all that works elsewhere."""
        self.processes.release()
        if self.cluster is not None:
            self.cluster.release()

    # -- doing ----------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> list[Event]:
        """Carry out actions; return what has happened at once."""
        events: list[Event] = []
        for action in actions:
            match action:
                case Run():
                    events += self._give(action)
                case Cut():
                    self._tasks.cut(action.task, action.part, action.n_items)
                case Split():
                    self._tasks.split(action.task, action.part, action.n_links)
                case StartWorkers():
                    events += self._start_workers(action)
                case Retire():
                    self.processes.retire(action.worker)
                case Drop():
                    if self.cluster is not None:
                        self.cluster.forget(action.tasks)
                    self.store.drop(action.tasks)
                case Spill():
                    failed = self.store.spill(action.tasks)
                    if failed:
                        events.append(SpillFailed(failed))
                case Weigh():
                    sizes = weigh(self._tasks, action.stage)
                    events.append(Weighed(action.stage, sizes))
                case GiveUp():
                    self._give_up(action)
                case _:
                    assert_never(action)
        if events and self._selector.get_map():
            # The calling thread may have been busy; see what came meanwhile.
            events += self._poll(0)
        return events

    def _give(self, action: Run) -> list[Event]:
        number, tasks = action.worker, action.tasks
        if self._observer is not None:
            for task in tasks:
                self._observer.pretask(task)
        if number <= SIDE or number in self._threads:
            self.store.read_arguments(tasks)
        if number == CALLER:
            return [self._run_here(CALLER, tasks, action.most_s)]
        if number == SIDE:
            try:
                side = self._threads.get(SIDE) or self._start_thread(SIDE)
            except (RuntimeError, OSError) as error:
                logger.debug("no thread can be started: %r", error)
                return [self._run_here(SIDE, tasks)]
            self._side.begin(side, watched=action.watched)
            side.give(self.store.items(tasks), measures_links=action.watched)
            return []
        if number in self._threads:
            self._threads[number].give(self.store.items(tasks))
            return []
        if self.cluster is not None and number in self.cluster:
            return self.cluster.give(number, tasks)
        return self.processes.give(number, tasks)

    def _run_here(
        self, number: int, tasks: list[int], most_s: float | None = None
    ) -> Event:
        """Run a batch in the calling thread, for whoever it was given to."""
        is_over = None
        if most_s is not None:
            end = perf_counter() + most_s

            def is_over() -> bool:
                return perf_counter() > end

        items = self.store.items(tasks)
        result = run_batch(items, self.store.values, self._delay, is_over)
        self._take_result(result, Lane.INLINE, "caller")
        return self._report(number, result, len(tasks))

    def _start_workers(self, action: StartWorkers) -> list[Event]:
        events: list[Event] = []
        if action.lane is Lane.PROCESSES:
            events += self.processes.start(action.workers)
        elif action.lane is Lane.CLUSTER:
            assert self.cluster is not None
            events += self.cluster.start(action.workers)
            n_threads = self.cluster.n_threads
            self.n_workers[Lane.CLUSTER] = max(self.n_workers[Lane.CLUSTER], n_threads)
            return events
        else:
            events += self._start_threads(action.workers)
        n_workers = self.processes.n_workers
        if action.lane is Lane.THREADS:
            n_workers = len(self._threads.keys() - {SIDE})
        self.n_workers[action.lane] = max(self.n_workers[action.lane], n_workers)
        return events

    def _start_threads(self, numbers: tuple[int, ...]) -> list[Event]:
        if not self.n_workers[Lane.THREADS]:
            with suppress(OSError):  # no descriptor is left to look for libraries
                self._resources.enter_context(limit_inner_threads(len(numbers)))
        events: list[Event] = []
        for i, number in enumerate(numbers):
            try:
                self._start_thread(number)
            except (RuntimeError, OSError) as error:
                return [*events, StartFailed(Lane.THREADS, numbers[i:], str(error))]
            events.append(WorkerReady(number))
        return events

    def _start_thread(self, number: int) -> ThreadWorker:
        mailbox = self._open_mailbox()
        thread = self._threads[number] = ThreadWorker(
            number, mailbox, self.store.values, copy_context()
        )
        return thread

    def _open_mailbox(self) -> Mailbox:
        if self._mailbox is None:
            self._mailbox = Mailbox()
            self._resources.callback(self._mailbox.close)
            self._selector.register(self._mailbox, selectors.EVENT_READ)
        return self._mailbox

    # -- waiting --------------------------------------------------------------------

    def _wait(self) -> list[Event]:
        """Wait until something has happened, or until there is other news."""
        while True:
            self.processes.end_late()
            unborn = self.processes.lose_unborn()
            if unborn:
                return unborn
            timeout_s = _least(
                self._side.timeout_s(),
                self.processes.seconds_left(),
                self._memory.seconds_left(),
                MAX_WAIT_S,
            )
            if self._side.is_watching:
                start = perf_counter()
                _sleep_until(self._selector, WATCH_INTERVAL_S)
                self._side.note_sleep(perf_counter() - start)
                timeout_s = 0
            events = self._poll(timeout_s)
            if not events:
                events = self._memory.take()
                if self.cluster is not None:
                    events += self.cluster.look()
            if events or self._take_wake():
                return events
            glimpse = self._side.glimpse()
            if glimpse is not None:
                return [glimpse]

    def _take_wake(self) -> bool:
        """Whether someone has woken the loop."""
        return self._mailbox is not None and self._mailbox.take_wake()

    def _poll(self, timeout_s: float | None) -> list[Event]:
        events: list[Event] = []
        for key, mask in self._selector.select(timeout_s):
            if isinstance(key.data, Tag):
                events += self.processes.handle(key.data, mask)
            else:
                events += self._take_mail()
                if self.cluster is not None:
                    events += self.cluster.take()
        return events

    def _take_mail(self) -> list[Event]:
        assert self._mailbox is not None
        events: list[Event] = []
        for number, result in self._mailbox.take():
            lane = Lane.INLINE if number == SIDE else Lane.THREADS
            self._take_result(result, lane, f"thread {self._threads[number].ident}")
            done = self._report(number, result, len(result.outcomes))
            if number == SIDE:
                done.gil_fraction = self._side.end(result.outcomes)
                done.links = _average(result.links)
                events += self._sizing.measure_sample(done, result)
            events.append(done)
        return events

    # -- results --------------------------------------------------------------------

    def _take_result(self, result: BatchResult, lane: Lane, worker_id: str) -> None:
        self._sizing.measure_results(result)
        numbers = [outcome.task for outcome in result.outcomes]
        self.store.put_all(numbers, result.values)
        if self._flow is not None:
            self._flow.note(numbers)
        if self._observer is not None:
            for task, value in zip(numbers, result.values, strict=True):
                self._observer.posttask(task, value, worker_id)
        if result.failure is not None:
            self._fail(*result.failure, lane)

    def _report(self, number: int, result: BatchResult, n_tasks: int) -> BatchDone:
        """Say that a batch is done whose result has been taken."""
        return BatchDone(
            number,
            result.outcomes,
            is_partial=result.failure is not None or len(result.outcomes) < n_tasks,
            grown_bytes=self._sizing.measure_growth(),
        )

    def _receive(
        self, outcomes: list[Outcome], values: list[Any], worker_id: str
    ) -> None:
        """Keep what a worker process has made, or where it is."""
        self._sizing.measure_received(outcomes, values)
        if self._flow is not None:
            self._flow.note([outcome.task for outcome in outcomes])
        for outcome, value in zip(outcomes, values, strict=True):
            self.store.put(outcome.task, value)
            if self._observer is not None:
                value = self.store.read(outcome.task)
                self._observer.posttask(outcome.task, value, worker_id)

    def _fail(self, task: int, error: BaseException, lane: Lane) -> None:
        """Raise what a task has raised, unless it may be tried again."""
        self._n_failed[task] += 1
        n_allowed = self._tasks.retries.get(task, self._retries)
        if self._n_failed[task] <= n_allowed and isinstance(error, Exception):
            key = self._tasks.keys[task]
            logger.info("task %r is run again after %r", key, error)
            return
        if self._rerun_failed:
            self._tasks.nodes[task](self.store.arguments([task]))
        key = self._tasks.keys[task]
        # An exception may take no notes, a frozen dataclass for one.
        with suppress(AttributeError, TypeError):
            error.add_note(
                f"amorsize: raised by task {key!r} of stage "
                f"{self._tasks.stage_name(task)!r} in lane {lane}"
            )
        raise error

    def _give_up(self, action: GiveUp) -> NoReturn:
        key = self._tasks.keys[action.task]
        if action.kind == "lost":
            story = self.processes.story_of(action.task)
            if self.cluster is not None:
                story += self.cluster.story_of(action.task)
            raise WorkerLostError(key, action.reason, action.n_attempts, story)
        if action.kind == "memory":
            raise MemoryBudgetError(key, action.reason)
        if action.kind == "immovable":
            raise SerializationError(key, "task or its result", action.reason)
        raise LaneError(self._tasks.stage_name(action.task), action.reason)

    def _stamp_decisions(self) -> None:
        n_new = len(self._core.decisions) - len(self.decision_times)
        if n_new:
            self.decision_times += [perf_counter() - self._start] * n_new
        if self.outlook_s is None and self._core.outlook is not None:
            self.outlook_s = perf_counter() - self._start


def _least(*seconds: float | None) -> float | None:
    return min((s for s in seconds if s is not None), default=None)


def _average(
    chains: list[list[tuple[float, float]]],
) -> list[tuple[float, float]]:
    """Return what each link took in the mean, if all chains have as many."""
    if not chains or len(set(map(len, chains))) > 1:
        return []
    n = len(chains)
    return [
        (sum(s for s, _ in link) / n, sum(cpu_s for _, cpu_s in link) / n)
        for link in zip(*chains, strict=True)
    ]


def _sleep_until(selector: selectors.BaseSelector, timeout_s: float) -> None:
    """Wait for anything in the selector, for a time below its own resolution."""
    try:
        fileno = selector.fileno()  # type: ignore[attr-defined]
        select.select([fileno], [], [], timeout_s)
    except (AttributeError, ValueError):
        # No descriptor of its own, or one too large for select.
        sleep(timeout_s)
