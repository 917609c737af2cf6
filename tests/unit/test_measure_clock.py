"""The clocks of other threads."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from amorsize_dask.measure.clock import (
    RunDelay,
    count_computing_s,
    read_run_delay_s,
    read_thread_cpu_s,
)

needs_clock = pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"), reason="not on this system"
)
needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells"
)


def spin(cpu_s: float) -> None:
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


@needs_clock
def test_own_clock_is_thread_time() -> None:
    """For the calling thread it is what `time.thread_time` says."""
    before = time.thread_time()
    seen = read_thread_cpu_s(threading.get_ident())
    assert seen is not None
    assert before <= seen <= time.thread_time()


@needs_clock
def test_other_threads_clock_counts_its_computing() -> None:
    """It tells what that thread has computed, and not what this one has."""
    has_spun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        spin(0.01)
        has_spun.set()
        may_end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        has_spun.wait()
        assert thread.ident is not None
        first = read_thread_cpu_s(thread.ident)
        spin(0.02)
        second = read_thread_cpu_s(thread.ident)
    finally:
        may_end.set()
        thread.join()
    assert first is not None
    assert second is not None
    assert 0.01 <= first <= second < first + 0.01


def test_no_clock_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no such clock, nothing is known."""
    monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    assert read_thread_cpu_s(threading.get_ident()) is None


@needs_clock
def test_clock_that_is_gone_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends between two looks at it is no error."""

    def refuse(clock: int) -> float:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(time, "clock_gettime", refuse)
    assert read_thread_cpu_s(threading.get_ident()) is None


class Turn(NamedTuple):
    """What the clocks of a thread say of a while, in seconds."""

    elapsed_s: float
    cpu_s: float
    delay_s: float


def take(work: Callable[[], object], core: int | None = None) -> Turn:
    """Do something in a thread of its own, which may have to stay on a core."""
    turns = []

    def run() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})  # of this thread alone
        with RunDelay(threading.get_native_id()) as delay:
            before = look(delay)
            work()
            after = look(delay)
        turns.append(Turn(*map(operator.sub, after, before)))

    def look(delay: RunDelay) -> Turn:
        cpu_s = read_thread_cpu_s(threading.get_ident())
        assert cpu_s is not None
        return Turn(time.perf_counter(), cpu_s, delay.read_s())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return turns[0]


@pytest.fixture
def busy_core() -> Iterator[int]:
    """Return a core for which two other processes compete."""
    core = min(os.sched_getaffinity(0))
    command = [sys.executable, "-I", "-S", "-c", "print(flush=True)\nwhile True: pass"]
    with ExitStack() as stack:
        for _ in range(2):
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            os.sched_setaffinity(process.pid, {core})
            assert process.stdout is not None
            assert process.stdout.readline()  # it has booted and begins to compute
        yield core


@needs_linux
def test_computing_and_having_no_core_are_all_the_time(busy_core: int) -> None:
    """Of a thread that wants to compute on a busy core, no time is left for waiting."""
    turn = take(lambda: spin(0.05), busy_core)
    assert turn.delay_s > 0.25 * turn.elapsed_s
    assert turn.cpu_s + turn.delay_s == pytest.approx(turn.elapsed_s, rel=0.25)


@needs_linux
def test_sleeping_is_neither() -> None:
    """A thread that sleeps doesn't want a core, so it doesn't go without one."""
    turn = take(lambda: time.sleep(0.1))
    assert turn.cpu_s + turn.delay_s < 0.5 * turn.elapsed_s


@needs_linux
def test_time_without_a_core_only_grows() -> None:
    """The seconds for which a thread had no core are a count."""
    with RunDelay(threading.get_native_id()) as delay:
        first = delay.read_s()
        assert 0 <= first <= delay.read_s()


@needs_linux
def test_time_without_a_core_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the second number of what the kernel writes, in nanoseconds."""
    monkeypatch.setattr(os, "pread", lambda *_: b"123000000 4500000000 67\n")
    assert read_run_delay_s(threading.get_native_id()) == 4.5


@needs_linux
@pytest.mark.parametrize("text", [b"", b"1", b"some text"])
def test_form_that_is_not_known_is_zero(
    monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    """A kernel that writes something else is no error."""
    monkeypatch.setattr(os, "pread", lambda *_: text)
    assert read_run_delay_s(threading.get_native_id()) == 0


def test_thread_that_is_not_there_is_zero() -> None:
    """What can't be opened is no error."""
    assert read_run_delay_s(0) == 0


@needs_linux
def test_closed_is_zero() -> None:
    """After closing, also a second time, nothing is read of what took its place."""
    delay = RunDelay(threading.get_native_id())
    delay.close()
    delay.close()
    assert delay.read_s() == 0


@needs_linux
def test_thread_that_has_ended_is_zero() -> None:
    """A thread that ends while its file is open is no error."""
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait)
    thread.start()
    assert thread.native_id is not None
    with RunDelay(thread.native_id) as delay:
        may_end.set()
        thread.join()
        while os.path.exists(f"/proc/self/task/{thread.native_id}"):
            pass  # joined is a moment before the system has forgotten it
        assert delay.read_s() == 0


@pytest.mark.parametrize(
    ("seconds", "cpu_s", "delay_s", "expected_s"),
    [
        (10.0, 4.0, 0.0, 4.0),
        # It computes all the time when it may.
        (10.0, 4.0, 6.0, 10.0),
        # It sleeps, and waits for a core when it wakes.
        (10.0, 0.01, 5.0, 0.02),
        # It does both for as long.
        (10.0, 3.0, 4.0, 5.0),
        # Clocks that don't quite agree.
        (10.0, 4.0, 12.0, 10.0),
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_computing_of_a_thread_that_never_waits_for_a_core(
    seconds: float, cpu_s: float, delay_s: float, expected_s: float
) -> None:
    """The time without a core is shared out as the rest is."""
    found_s = count_computing_s(seconds, cpu_s, delay_s)
    assert found_s == pytest.approx(expected_s)
