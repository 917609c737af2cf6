"""Threads that run batches, and the box where their results are left."""

from __future__ import annotations

import gc
import os
import select
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from worker_calls import PATIENCE_S, wait_until

from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.execute.threads import Mailbox, ThreadWorker

Start = Callable[[int], ThreadWorker]

VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


class Value:
    """Something that a weak reference can watch."""


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    yield box
    box.close()


@pytest.fixture
def values() -> dict[str, Any]:
    return {"x": 4}


@pytest.fixture
def start(mailbox: Mailbox, values: dict[str, Any]) -> Iterator[Start]:
    """Return what starts a thread that is ended with the test."""
    started = []

    def start_one(number: int) -> ThreadWorker:
        thread = ThreadWorker(number, mailbox, values, copy_context())
        started.append(thread)
        return thread

    yield start_one
    for thread in started:
        thread.cancel()
        thread.join()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Have no garbage collected: an interrupt that strikes a callback is lost there."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def take(mailbox: Mailbox, n: int = 1) -> list[tuple[int, BatchResult]]:
    """Wait for `n` messages as the loop does."""
    messages: list[tuple[int, BatchResult]] = []
    while len(messages) < n:
        ready, _, _ = select.select([mailbox], [], [], PATIENCE_S)
        assert ready, "nothing comes"
        messages += mailbox.take()
    return messages


def is_ready(mailbox: Mailbox) -> bool:
    return bool(select.select([mailbox], [], [], 0)[0])


def double(values: Mapping[str, int]) -> int:
    return 2 * values["x"]


# -- the mailbox -----------------------------------------------------------------------


def test_mailbox_wakes_who_waits(mailbox: Mailbox) -> None:
    """Its descriptor is readable as long as there are messages, however many."""
    assert not is_ready(mailbox)
    assert mailbox.take() == []
    results = [BatchResult(values=[i]) for i in range(3)]
    for i, result in enumerate(results):
        mailbox.put(i, result)
    assert is_ready(mailbox)
    assert mailbox.take() == list(enumerate(results))
    assert not is_ready(mailbox)
    mailbox.put(7, results[0])
    assert is_ready(mailbox)


def test_mailbox_takes_more_than_a_pipe_holds(mailbox: Mailbox) -> None:
    """Leaving messages never waits for someone to take them."""
    for i in range(70_000):
        mailbox.put(i, BatchResult())
    assert len(mailbox.take()) == 70_000
    assert not is_ready(mailbox)


def test_mailbox_used_by_many_threads(mailbox: Mailbox) -> None:
    """No message is lost, and each thread's come in their order."""
    with ThreadPoolExecutor(8) as executor:
        for number in range(8):
            executor.submit(
                lambda number: [
                    mailbox.put(number, BatchResult(values=[i])) for i in range(200)
                ],
                number,
            )
        messages = take(mailbox, 1600)
    for number in range(8):
        left = [result.values[0] for sender, result in messages if sender == number]
        assert left == list(range(200))


def test_closed_mailbox() -> None:
    """Its descriptors are closed; a thread that is late does no harm."""
    mailbox = Mailbox()
    descriptor = mailbox.fileno()
    mailbox.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    mailbox.put(0, BatchResult())
    assert mailbox.fileno() == -1


def test_mailbox_closed_with_messages_in_it() -> None:
    """Messages that no one takes don't keep it from being closed."""
    mailbox = Mailbox()
    mailbox.put(0, BatchResult())
    mailbox.close()
    mailbox.put(1, BatchResult())
    assert mailbox.fileno() == -1


# -- threads ---------------------------------------------------------------------------


def test_batches_run_in_order(mailbox: Mailbox, start: Start) -> None:
    """A thread runs batches in the order in which they are given to it."""
    thread = start(3)
    for i in range(20):
        thread.give([(i, double, ["x"]), (i + 100, double, ["x"])])
    messages = take(mailbox, 20)
    for i, (number, result) in enumerate(messages):
        assert number == 3
        assert [outcome.task for outcome in result.outcomes] == [i, i + 100]
        assert result.values == [8, 8]


def test_values_that_are_added_meanwhile(
    mailbox: Mailbox, start: Start, values: dict[str, Any]
) -> None:
    """A thread sees values that came after it was started."""
    thread = start(0)
    values["y"] = 10
    thread.give([(0, lambda found: found["y"], ["y"])])
    [(_, result)] = take(mailbox)
    assert result.values == [10]


def test_failure_is_a_result(mailbox: Mailbox, start: Start) -> None:
    """What a task raises is handed over, and the thread goes on."""
    thread = start(0)
    thread.give([(0, lambda _: 1 / 0, [])])
    thread.give([(1, double, ["x"])])
    (_, failed), (_, done) = take(mailbox, 2)
    assert failed.failure is not None
    assert isinstance(failed.failure[1], ZeroDivisionError)
    assert done.values == [8]


def test_threads_are_daemons_with_names(mailbox: Mailbox, start: Start) -> None:
    """They don't keep a program alive, and are known by their number."""
    thread = start(5)
    thread.give([(0, lambda _: threading.current_thread(), [])])
    [(_, result)] = take(mailbox)
    assert result.values[0].daemon
    assert result.values[0].name == "amorsize-5"
    assert result.values[0].ident == thread.ident


def test_context_variables(mailbox: Mailbox, start: Start) -> None:
    """Tasks see the caller's context variables, and change their thread's alone."""

    def look(_: object) -> str:
        seen = VARIABLE.get()
        VARIABLE.set("changed by a task")
        return seen

    token = VARIABLE.set("the caller's")
    for thread in (start(0), start(1)):
        thread.give([(0, look, []), (1, look, [])])
    for _, result in take(mailbox, 2):
        assert result.values == ["the caller's", "changed by a task"]
    assert VARIABLE.get() == "the caller's"
    VARIABLE.reset(token)


def test_stopped_thread_ends_its_work_first(mailbox: Mailbox, start: Start) -> None:
    """What was given before the stop is run."""
    thread = start(0)
    for i in range(3):
        thread.give([(i, double, ["x"])])
    thread.stop()
    thread.join()
    assert len(mailbox.take()) == 3


def test_cancelled_thread_ends_after_its_task(mailbox: Mailbox, start: Start) -> None:
    """The present task ends, and no other begins; no one is told of it."""
    has_begun, may_end = threading.Event(), threading.Event()
    ran: list[int] = []

    def wait(_: object) -> None:
        has_begun.set()
        assert may_end.wait(PATIENCE_S)
        ran.append(0)

    thread = start(0)
    thread.give([(0, wait, []), (1, lambda _: ran.append(1), [])])
    thread.give([(2, lambda _: ran.append(2), [])])
    assert has_begun.wait(PATIENCE_S)
    thread.cancel()
    may_end.set()
    thread.join()
    assert ran == [0]
    assert mailbox.take() == []


def test_idle_thread_that_is_cancelled(start: Start) -> None:
    """A thread that waits for work ends at once."""
    thread = start(0)
    thread.cancel()
    thread.join()


@pytest.mark.usefixtures("no_collection")
def test_interrupt_ends_a_loop(mailbox: Mailbox, start: Start) -> None:
    """A task that would run for ever is interrupted between two steps of Python."""
    has_begun = threading.Event()
    seen: list[BaseException] = []

    def loop(_: object) -> None:
        try:
            while True:
                has_begun.set()
        except KeyboardInterrupt as error:
            seen.append(error)
            raise

    thread = start(0)
    thread.give([(0, loop, []), (1, lambda _: seen.append(SystemExit()), [])])
    assert has_begun.wait(PATIENCE_S)
    thread.interrupt()
    thread.join()
    assert [type(error) for error in seen] == [KeyboardInterrupt]
    assert mailbox.take() == []


@pytest.mark.usefixtures("no_collection")
def test_interrupt_of_an_idle_thread(mailbox: Mailbox, start: Start) -> None:
    """A thread that waits for work ends without a word, and so does one that ended."""
    idle, ended = start(0), start(1)
    for thread in (idle, ended):
        thread.give([(0, double, ["x"])])
    take(mailbox, 2)
    ended.cancel()
    ended.join()
    for thread in (idle, ended):
        thread.interrupt()
        thread.join()
    assert mailbox.take() == []


@pytest.mark.usefixtures("no_collection")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nothing to count them")
def test_interrupt_of_a_thread_that_begins(start: Start) -> None:
    """What it has just opened is closed."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(30):
        thread = start(number)
        thread.interrupt()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.usefixtures("no_collection")
# It may also strike while a garbage collection calls back, which no one can raise from.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupt_while_batches_go_by(mailbox: Mailbox, start: Start) -> None:
    """Wherever in its work it strikes a thread, the thread ends, and nothing leaks."""
    for number in range(30):
        thread = start(number)
        for i in range(200):
            thread.give([(i, double, ["x"])])
        while number not in [sender for sender, _ in take(mailbox)]:
            continue  # that was a thread before it
        thread.interrupt()
        thread.join()
    mailbox.put(0, BatchResult())
    assert mailbox.take()


def test_values_do_not_outlive_their_batch(
    mailbox: Mailbox, start: Start, values: dict[str, Any]
) -> None:
    """A thread that waits holds neither arguments nor results of the last batch."""
    thread = start(0)
    values["value"] = Value()
    argument = weakref.ref(values["value"])
    thread.give([(0, lambda found: [found["value"]], ["value"])])
    [(_, result)] = take(mailbox)
    del values["value"], result

    def is_free() -> bool:
        gc.collect()
        return argument() is None

    wait_until(is_free)


def test_use_of_a_thread(mailbox: Mailbox, start: Start) -> None:
    """Its seconds grow with what it computes."""
    thread = start(0)
    before = thread.read_use_s()
    if before is None:
        pytest.skip("this system has no clock for a thread")
    thread.give([(0, lambda _: sum(range(100_000)), [])])
    take(mailbox)
    after = thread.read_use_s()
    assert after is not None
    assert after[0] > before[0]
    assert after[1] >= before[1] >= 0
