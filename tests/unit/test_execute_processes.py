"""The processes lane: batches go out, and what comes back or doesn't is an event."""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
from worker_calls import PATIENCE_S, is_gone, wait_until
from worker_tasks import SlowToPickle, touch_and_loop

from amorsize_dask.core.events import (
    BatchDone,
    Event,
    StartFailed,
    Unshippable,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Lane
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute import calibration, launch
from amorsize_dask.execute.calibration import echo_through
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.pool import ProcessWorker, WorkerPool
from amorsize_dask.execute.processes import ProcessLane
from amorsize_dask.execute.store import Store

Node = Callable[[Any], Any]


class FailedError(Exception):
    """Says which task has failed, since the lane's own run ends with it."""


class Harness:
    """A lane with what the loop would give it, and a loop that only listens."""

    def __init__(self, pool: WorkerPool, *nodes: Node) -> None:
        n = len(nodes)
        self.store = Store(
            TaskGraph(
                graph=Graph(
                    dependencies=[()] * n,
                    stage_of=[0] * n,
                    n_stages=1,
                    wanted=frozenset(range(n)),
                ),
                keys=[f"task-{i}" for i in range(n)],
                nodes=list(nodes),
                arguments=[("x",)] * n,
                constants={"x": 3},
                aliases={},
                stages=["task"],
            )
        )
        self.pool = pool
        self.received: dict[int, Any] = {}
        self.when_ready: Callable[[ProcessWorker], None] = lambda worker: None
        self._selector = selectors.DefaultSelector()
        self.lane = ProcessLane(
            pool,
            self.store,
            self._selector,
            self._receive,
            self._fail,
            lambda worker: self.when_ready(worker),
        )

    def _receive(
        self, outcomes: list[Outcome], values: list[Any], worker_id: str
    ) -> None:
        assert worker_id.startswith("process ")
        for outcome, value in zip(outcomes, values, strict=True):
            self.store.put(outcome.task, value)
            self.received[outcome.task] = self.store.read(outcome.task)

    def _fail(self, task: int, error: BaseException, lane: Lane) -> NoReturn:
        assert lane is Lane.PROCESSES
        raise FailedError(task) from error

    def start(self, *numbers: int) -> None:
        """Start workers and wait until they are up."""
        events = self.lane.start(numbers)
        while len(events) < len(numbers):
            events += self.wait()
        assert {event.worker for event in events} == set(numbers)
        assert all(isinstance(event, WorkerReady) for event in events)

    def wait(self) -> list[Event]:
        """Wait until something happens; return it."""
        events: list[Event] = []
        while not events:
            ready = self._selector.select(PATIENCE_S)
            assert ready, "nothing happens"
            for key, mask in ready:
                events += self.lane.handle(key.data, mask)
        return events

    def run(self, number: int, *tasks: int) -> list[Event]:
        """Give a worker a batch; return what comes of it."""
        return self.lane.give(number, list(tasks)) or self.wait()

    def close(self) -> None:
        self.lane.release()
        self.store.close()
        self._selector.close()


@pytest.fixture(scope="module")
def pool(_module_leaves_nothing: None) -> Iterator[WorkerPool]:
    pool = WorkerPool("forkserver", None)
    yield pool
    pool.close()


@pytest.fixture
def make(pool: WorkerPool) -> Iterator[Callable[..., Harness]]:
    """Return what makes a lane, whose workers are given back with the test."""
    made = []

    def make_one(*nodes: Node) -> Harness:
        harness = Harness(pool, *nodes)
        made.append(harness)
        return harness

    yield make_one
    for harness in made:
        harness.close()


Make = Callable[..., Harness]


def test_batch(make: Make) -> None:
    """Values are received, and the event has outcomes and bytes."""
    harness = make(lambda values: values["x"] + 1, lambda values: values["x"] + 2)
    harness.start(7)
    [done] = harness.run(7, 1, 0)
    assert isinstance(done, BatchDone)
    assert done.worker == 7
    assert [outcome.task for outcome in done.outcomes] == [1, 0]
    assert all(outcome.out_bytes for outcome in done.outcomes)
    assert done.in_bytes > 0
    assert done.pack_s is not None
    assert done.pack_s > 0
    assert harness.received == {1: 5, 0: 4}
    assert harness.lane.peak_rss_bytes[7] > 0


def test_pickling_is_timed(make: Make) -> None:
    """What goes there is pickled here, what comes back in the worker."""
    harness = make(lambda values: None, lambda values: values["x"])
    harness.start(7)
    harness.store.values["x"] = SlowToPickle()
    [there] = harness.run(7, 0)
    [back] = harness.run(7, 1)
    assert isinstance(there, BatchDone)
    assert isinstance(back, BatchDone)
    assert there.pack_s is not None
    assert back.pack_s is not None
    assert there.pack_s >= 0.02
    assert back.pack_s >= 0.04


def test_batches_wait_for_each_other(make: Make) -> None:
    """A worker may be given several batches, and answers them in order."""
    harness = make(*[lambda values, i=i: i for i in range(6)])
    harness.start(7, 8)
    assert harness.lane.n_busy == 0
    for task in range(0, 6, 2):
        assert harness.lane.give(7, [task]) == []
        assert harness.lane.give(8, [task + 1]) == []
    assert harness.lane.n_busy == 2
    events: list[Event] = []
    while len(events) < 6:
        events += harness.wait()
    for number, tasks in ((7, [0, 2, 4]), (8, [1, 3, 5])):
        done = [event for event in events if event.worker == number]
        assert [event.outcomes[0].task for event in done] == tasks
    assert harness.received == {i: i for i in range(6)}
    assert harness.lane.n_busy == 0


def test_workers_are_kept_for_the_next_run(make: Make, pool: WorkerPool) -> None:
    """What one run gives back the next one takes, without a boot."""
    harness = make(lambda values: os.getpid())
    harness.start(7)
    harness.run(7, 0)
    harness.close()
    n_idle = pool.n_idle
    assert n_idle >= 1
    other = make(lambda values: os.getpid())
    assert other.lane.start((3,)) == [WorkerReady(3)]
    assert pool.n_idle == n_idle - 1
    other.run(3, 0)
    assert other.received[0] in pool.pids()


def test_failure(make: Make) -> None:
    """A task's exception is handed over, after the values of the tasks before it."""
    harness = make(lambda values: 1, lambda values: 1 / 0)
    harness.start(7)
    with pytest.raises(FailedError, match="1") as info:
        harness.run(7, 0, 1)
    assert isinstance(info.value.__cause__, ZeroDivisionError)
    assert harness.received == {0: 1}


def test_what_cannot_be_sent(make: Make) -> None:
    """The task is named, nothing of the batch is sent, and the worker is idle."""
    lock = threading.Lock()
    harness = make(lambda values: 1, lambda values: lock)
    harness.start(7)
    [event] = harness.lane.give(7, [0, 1])
    assert isinstance(event, Unshippable)
    assert (event.worker, event.tasks, event.what) == (7, [1], "task")
    assert "lock" in event.reason
    assert harness.lane.n_busy == 0
    [done] = harness.run(7, 0)
    assert isinstance(done, BatchDone)


def test_result_that_cannot_be_sent_back(make: Make) -> None:
    """The task is named, and the others' values come."""
    harness = make(lambda values: 1, lambda values: threading.Lock())
    harness.start(7)
    event, done = harness.run(7, 0, 1)
    assert isinstance(event, Unshippable)
    assert (event.tasks, event.what) == ([1], "result")
    assert isinstance(done, BatchDone)
    assert [outcome.task for outcome in done.outcomes] == [0]
    assert harness.received == {0: 1}


def refuse(pid: int) -> int:
    if os.getpid() == pid:
        raise RuntimeError("not in this process")
    return pid


class NotHere:
    """A value that can be rebuilt in all processes but one."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __reduce__(self) -> Any:
        return refuse, (self._pid,)


def test_result_that_cannot_be_rebuilt(make: Make) -> None:
    """It counts as one that can't be sent back."""
    pid = os.getpid()
    harness = make(lambda values: 1, lambda values: NotHere(pid))
    harness.start(7)
    event, done = harness.run(7, 0, 1)
    assert isinstance(event, Unshippable)
    assert (event.tasks, event.what) == ([1], "result")
    assert "RuntimeError: not in this process" in event.reason
    assert isinstance(done, BatchDone)
    assert harness.received == {0: 1}


def test_batch_that_cannot_be_rebuilt(make: Make) -> None:
    """All its tasks are named, for none was run."""

    class OnlyHere:
        def __reduce__(self) -> Any:
            return refuse_elsewhere, (os.getpid(),)

    only_here = OnlyHere()
    harness = make(lambda values: 1, lambda values: only_here)
    harness.start(7)
    event, done = harness.run(7, 0, 1)
    assert isinstance(event, Unshippable)
    assert event.tasks == [0, 1]
    assert "RuntimeError: only in the caller" in event.reason
    assert isinstance(done, BatchDone)
    assert done.outcomes == []


def refuse_elsewhere(pid: int) -> int:
    if os.getpid() != pid:
        raise RuntimeError("only in the caller")
    return pid


def expect_lost(events: list[Event], ending: str) -> WorkerLost:
    """Expect that worker 7 is lost, and that memory had no part in it."""
    [lost] = events
    assert isinstance(lost, WorkerLost)
    assert (lost.worker, lost.ending, lost.is_memory_likely) == (7, ending, False)
    return lost


def test_worker_that_dies(make: Make) -> None:
    """It is lost with what it had in hand, and how it ended is told."""
    harness = make(lambda values: os._exit(3))
    harness.start(7)
    expect_lost(harness.run(7, 0), "exit code 3")
    assert harness.lane.n_busy == 0


def test_worker_that_dies_while_idle(make: Make) -> None:
    """That is noticed as well."""
    harness = make(lambda values: os.getpid())
    harness.start(7)
    harness.run(7, 0)
    os.kill(harness.received[0], signal.SIGTERM)
    expect_lost(harness.wait(), "SIGTERM")


def test_worker_that_dies_after_a_large_answer(make: Make) -> None:
    """What it has sent by then counts."""
    harness = make(lambda values: bytes(3_000_000), lambda values: os._exit(3))
    harness.start(7)
    harness.lane.give(7, [0])
    harness.lane.give(7, [1])
    events: list[Event] = []
    while len(events) < 2:
        events += harness.wait()
    assert isinstance(events[0], BatchDone)
    expect_lost(events[1:], "exit code 3")
    assert harness.received == {0: bytes(3_000_000)}


def test_worker_whose_pipe_another_process_holds(make: Make, tmp_path: Path) -> None:
    """The end of the process counts, not that of its pipe, where one can tell."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no process descriptors")

    def leave_a_child(values: Any) -> None:
        child = os.fork()
        if not child:
            os.setsid()  # or it is asked to end with the worker
            (tmp_path / "is out").touch()
            while True:
                signal.pause()
        while not (tmp_path / "is out").exists():
            time.sleep(0.001)
        (tmp_path / "child").write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)

    harness = make(leave_a_child)
    harness.start(7)
    try:
        expect_lost(harness.run(7, 0), "SIGKILL")
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_busy_worker_is_not_kept(make: Make, pool: WorkerPool, tmp_path: Path) -> None:
    """A run that ends early kills the workers that are still at work."""
    harness = make(lambda values: touch_and_loop(tmp_path / "busy"))
    harness.start(7)
    harness.lane.give(7, [0])
    wait_until((tmp_path / "busy").exists)
    pids, n_idle = pool.pids(), pool.n_idle
    harness.close()
    assert pool.n_idle == n_idle
    [pid] = pids - pool.pids()
    wait_until(lambda: is_gone(pid))


def test_pool_that_another_thread_closes(make: Make, tmp_path: Path) -> None:
    """A run whose workers are taken from it loses them, and may start others."""
    harness = make(
        lambda values: touch_and_loop(tmp_path / "busy"), lambda values: values["x"]
    )
    harness.start(7, 8)
    harness.lane.give(7, [0])
    wait_until((tmp_path / "busy").exists)
    with ThreadPoolExecutor(1) as executor:
        executor.submit(harness.pool.close).result()
    events: list[Event] = []
    while len(events) < 2:
        events += harness.wait()
    assert {event.worker for event in events} == {7, 8}
    assert all(isinstance(event, WorkerLost) for event in events)
    harness.start(9)
    harness.run(9, 1)
    assert harness.received == {1: 3}


def test_workers_that_cannot_be_started(
    make: Make, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is an event, and the workers that were warm are idle again."""
    harness = make(lambda values: 1)
    harness.start(7)
    harness.close()
    n_idle = pool.n_idle

    def refuse_to_ask(*_: object) -> None:
        raise OSError(11, "no more processes")

    monkeypatch.setattr(launch, "_ask_to_fork", refuse_to_ask)
    other = make(lambda values: 1)
    numbers = tuple(range(n_idle + 1))
    [failed] = other.lane.start(numbers)
    assert isinstance(failed, StartFailed)
    assert (failed.lane, failed.workers) == (Lane.PROCESSES, numbers)
    assert "no more processes" in failed.reason
    assert other.lane.n_busy == 0


def test_warning_of_many_batches_is_shown_as_often_as_here(make: Make) -> None:
    """The caller's filters say how often; by default once for a place in the code."""

    def warn(values: Any) -> None:
        warnings.warn("mind the gap", RuntimeWarning, stacklevel=1)

    shown = {}
    for action in ("default", "always", "ignore"):
        harness = make(warn, warn, warn)
        harness.start(7)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)  # type: ignore[arg-type]
            for task in range(3):
                harness.run(7, task)
        harness.close()
        shown[action] = [str(warning.message) for warning in caught]
        for warning in caught:
            assert warning.category is RuntimeWarning
            assert Path(warning.filename).samefile(__file__)
    assert shown == {
        "default": ["mind the gap"],
        "always": ["mind the gap"] * 3,
        "ignore": [],
    }


def test_echo_that_comes_too_late(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was too slow for calibration works as any other does."""
    monkeypatch.setattr(calibration, "ECHO_TIMEOUT_S", 0.001)
    given_up = []

    def give_up(worker: ProcessWorker) -> None:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(ConnectionError):
                echo_through(worker, b"a")
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        given_up.append(worker)

    harness = make(lambda values: values["x"])
    harness.pool.close()
    harness.when_ready = give_up
    harness.start(7)
    assert len(given_up) == 1
    [done] = harness.run(7, 0)
    assert isinstance(done, BatchDone)
    assert harness.received == {0: 3}
