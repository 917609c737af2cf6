"""A simulated worker: runs batches of simulated tasks, one task after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from amorsize_dask.core.model import CALLER_LANES, Lane
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.simulate.processor import Clock, Job, Processor
from amorsize_dask.simulate.work import AnyTask

#: Seconds after which a task that does several things (waits, computes, holds the GIL)
#: turns from one to the next. Smaller: more events to simulate; larger: a first look at
#: a task sees only how it begins.
ROUND_S = 0.01

#: Bytes of a result from which on it stays on the cluster where it was made, as
#: `execute.far_worker` has it.
AWAY_BYTES = 100_000

#: Most rounds of a task. Smaller: a first look at a long task sees only how it begins;
#: larger: long tasks take longer to simulate.
MAX_ROUNDS = 50


@dataclass(slots=True)
class Meter:
    """What all tasks of a run take together, by lane."""

    n_tasks: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    seconds: dict[Lane, float] = field(default_factory=lambda: dict.fromkeys(Lane, 0.0))
    #: Bytes that the running tasks and results hold, and their largest value so far.
    held_bytes: int = 0
    peak_bytes: int = 0
    #: The results that are in memory.
    results: dict[int, int] = field(default_factory=dict)

    def hold(self, n_bytes: int) -> None:
        """Count the memory of a task that starts."""
        self.held_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)

    def keep(self, task: int, n_bytes: int) -> None:
        """Count the result of a task."""
        self.results[task] = n_bytes
        self.hold(n_bytes)

    def drop(self, tasks: Iterable[int]) -> None:
        """Forget results that aren't in memory any more."""
        for task in tasks:
            self.hold(-self.results.pop(task, 0))


class SimulatedWorker:
    """One worker of any lane, also the calling thread.

    Parameters
    ----------
    lane : Lane
        Where it runs; in a process of its own it needs no GIL of the caller's.
    processor : Processor
        What it runs on.
    tasks : sequence of SimulatedTask or SimulatedPartition
        All tasks of the run, by number.
    meter : Meter
        Where its tasks are counted.
    latency_s : float
        Seconds that it needs to take a batch in, and again to answer.
    bytes_per_s : float
        Bytes of results that it sends a second.
    answer : callable
        Called with a batch's tasks and outcomes when it is done.
    is_deadly : callable
        Asked after each task whether it ends the worker.
    die : callable
        Called when the worker has been ended by a task.
    begun : callable, optional
        Called when a task has begun; it may end the worker.
    """

    def __init__(
        self,
        lane: Lane,
        processor: Processor,
        tasks: Sequence[AnyTask],
        meter: Meter,
        *,
        latency_s: float,
        bytes_per_s: float,
        answer: Callable[[list[int], list[Outcome]], None],
        is_deadly: Callable[[int], bool],
        die: Callable[[], None],
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.lane = lane
        self._processor = processor
        self._tasks = tasks
        self._meter = meter
        self._latency_s = latency_s
        self._bytes_per_s = bytes_per_s
        self._answer = answer
        self._is_deadly = is_deadly
        self._die = die
        self._begun = begun
        #: What its tasks have left in it.
        self.leaked_bytes = 0
        self._is_dead = False
        self._batches: deque[list[int]] = deque()
        self._outcomes: list[Outcome] = []
        self._job: Job | None = None
        self._phases: Iterator[tuple[Clock, float]] = iter(())
        self._running: AnyTask | None = None
        self._batch_start_s = self._task_start_s = 0.0
        self._most_s = inf
        self._cpu_s = self._gil_start_s = 0.0
        self._shown_fraction = 1.0

    @property
    def is_busy(self) -> bool:
        """Whether it has a batch."""
        return bool(self._batches)

    @property
    def running_bytes(self) -> int:
        """Bytes that its task takes, and those that earlier ones have left."""
        running_bytes = 0 if self._running is None else self._running.peak_bytes
        return running_bytes + self.leaked_bytes

    @property
    def batch_s(self) -> float:
        """Seconds since its batch began."""
        return self._processor.now_s - self._batch_start_s

    def give(self, batch: list[int], most_s: float | None = None) -> None:
        """Run a batch, after those given before.

        After `most_s` seconds of it no more of its tasks are begun.
        """
        self._batches.append(batch)
        self._most_s = inf if most_s is None else most_s
        if self._job is None:
            self._begin_batch(self._latency_s)

    def seen_so_far(self) -> tuple[float, float]:
        """Return two shares of its batch so far: it computed, and the GIL was held.

        As on a real machine, there is no telling by whom it was held.
        """
        seconds = self.batch_s
        if not seconds:
            return 0.0, 0.0
        cpu_s = self._cpu_s + (self._cpu_of(self._job) if self._job else 0.0)
        gil_s = self._processor.gil_held_s - self._gil_start_s
        return cpu_s / seconds, self._shown_fraction * gil_s / seconds

    def kill(self) -> None:
        """End it at once; what it had is lost."""
        if self._job is not None:
            self._job.cancel()
        if self._running is not None:
            self._meter.hold(-self._running.peak_bytes)
            self._running = None
        self._meter.hold(-self.leaked_bytes)
        self.leaked_bytes = 0
        self._batches.clear()
        self._is_dead = True

    def _begin_batch(self, latency_s: float) -> None:
        self._batch_start_s = self._processor.now_s
        self._cpu_s = 0.0
        self._gil_start_s = self._processor.gil_held_s
        self._shown_fraction = self._tasks[self._batches[0][0]].shown_fraction
        self._outcomes = []
        self._start(self._processor.timers, latency_s, self._begin_task)

    def _begin_task(self) -> None:
        task = self._running = self._tasks[self._batches[0][len(self._outcomes)]]
        self._task_start_s = self._processor.now_s
        self._meter.hold(task.peak_bytes)
        self._phases = self._phases_of(task)
        self._begun()
        if self._running is not None:
            self._next_phase()

    def _next_phase(self) -> None:
        phase = next(self._phases, None)
        if phase is None:
            self._end_task()
        else:
            self._start(*phase, self._end_phase)

    def _end_phase(self) -> None:
        assert self._job is not None
        self._cpu_s += self._cpu_of(self._job)
        self._next_phase()

    def _end_task(self) -> None:
        batch, task = self._batches[0], self._running
        assert task is not None
        number = batch[len(self._outcomes)]
        self._running = None
        self._meter.hold(-task.peak_bytes)
        if self.lane is Lane.PROCESSES:
            self.leaked_bytes += task.leaked_bytes
            self._meter.hold(task.leaked_bytes)
        if self._is_deadly(number):
            self._job = None
            self._die()
            return
        seconds = self._processor.now_s - self._task_start_s
        self._meter.n_tasks[self.lane] += 1
        self._meter.seconds[self.lane] += seconds
        is_sent = self.lane not in CALLER_LANES
        is_away = self.lane is Lane.CLUSTER and task.out_bytes >= AWAY_BYTES
        if not is_away:
            self._meter.keep(number, task.out_bytes)
        self._outcomes.append(
            Outcome(
                number,
                seconds,
                task.seconds * task.cpu_fraction,
                task.out_bytes if is_sent else None,
                task.peak_bytes or None,
                is_away=is_away,
            )
        )
        if len(self._outcomes) < len(batch) and self.batch_s <= self._most_s:
            self._begin_task()
        elif self.lane is Lane.CLUSTER:
            self._end_far_batch()
        else:
            self._start(self._processor.timers, self._latency_s, self._pack)

    def _end_far_batch(self) -> None:
        """Go on with the next batch while the answer is on its way."""
        batch, outcomes = self._batches.popleft(), self._outcomes

        def arrive() -> None:
            if not self._is_dead:
                self._answer(batch, outcomes)

        n_bytes = sum(out.out_bytes or 0 for out in outcomes if not out.is_away)
        seconds = self._latency_s + n_bytes / self._bytes_per_s
        self._processor.timers.add(seconds, arrive)
        self._rest()

    def _pack(self) -> None:
        """Pickle the results; that its arguments were unpickled counts here as well."""
        batch = self._batches[0]
        pack_s = 0.0
        if self.lane not in CALLER_LANES:
            pack_s = sum(self._tasks[task].pack_s for task in batch)
        if pack_s:
            self._start(self._processor.cores, pack_s, self._end_batch)
        else:
            self._end_batch()

    def _end_batch(self) -> None:
        batch = self._batches.popleft()
        # The answer is read while it is written.
        self._answer(batch, self._outcomes)
        tasks = [self._tasks[task] for task in batch]
        bytes_s = sum(task.out_bytes for task in tasks) / self._bytes_per_s
        # While they were pickled nothing was on its way.
        bytes_s = max(0.0, bytes_s - sum(task.pack_s for task in tasks) / 2)
        self._start(self._processor.timers, bytes_s, self._rest)

    def _rest(self) -> None:
        self._job = None
        if self._batches:
            # On a cluster it was sent while the one before was running.
            is_there = self.lane is Lane.CLUSTER
            self._begin_batch(0.0 if is_there else self._latency_s)

    def _start(self, clock: Clock, seconds: float, then: Callable[[], None]) -> None:
        self._job = clock.add(seconds, then)

    def _phases_of(self, task: AnyTask) -> Iterator[tuple[Clock, float]]:
        """Yield what the task does one after the other, and for how long."""
        processor, seconds = self._processor, task.seconds
        cpu_s = seconds * task.cpu_fraction
        gil_s = seconds * task.gil_fraction if self.lane in CALLER_LANES else 0.0
        is_far = self.lane is Lane.CLUSTER
        cores = processor.far_cores if is_far else processor.cores
        parts = (
            (processor.timers, seconds - cpu_s),
            (cores, cpu_s - gil_s),
            (processor.gil, gil_s),
        )
        parts_s = [(clock, part_s) for clock, part_s in parts if part_s > 0]
        if not parts_s:
            parts_s = [(processor.timers, 0.0)]
        n = min(MAX_ROUNDS, ceil(seconds / ROUND_S)) if len(parts_s) > 1 else 1
        for _ in range(n):
            for clock, part_s in parts_s:
                yield clock, part_s / n

    def _cpu_of(self, job: Job) -> float:
        return 0.0 if job.clock is self._processor.timers else job.done_s
