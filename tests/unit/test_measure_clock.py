"""The clocks of other threads."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from amorsize_dask.measure.clock import (
    RunDelay,
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
