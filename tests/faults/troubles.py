"""Tasks, arguments and results that go wrong at one place, in one way."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any


class TroubleError(Exception):
    """What is raised where something raises."""


def act(how: str) -> None:
    """Go wrong."""
    if how == "raises":
        raise TroubleError(how)
    if how == "exits":
        os._exit(3)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs":
        time.sleep(60)


class Elsewhere:
    """Goes wrong where it is unpickled, if that is in another process."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.home = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_elsewhere, (self.how, self.home)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Elsewhere)

    def __hash__(self) -> int:
        return 1


def _rebuild_elsewhere(how: str, home: int) -> Elsewhere:
    if os.getpid() != home:
        act(how)
    return Elsewhere(how)


class Departing:
    """Goes wrong where it is pickled, in a process that isn't `home`."""

    def __init__(self, how: str, home: int) -> None:
        self.how = how
        self.home = home

    def __reduce__(self) -> tuple[Any, ...]:
        if os.getpid() != self.home:
            act(self.how)
        return Departing, (self.how, self.home)


class Stubborn:
    """Can't be pickled anywhere."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise TroubleError("it stays")


class Arriving:
    """Goes wrong where it is unpickled, if that is `home`."""

    def __init__(self, how: str, home: int) -> None:
        self.how = how
        self.home = home

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_arriving, (self.how, self.home)


def _rebuild_arriving(how: str, home: int) -> Arriving:
    if os.getpid() == home:
        act(how)
    return Arriving(how, home)


def take(i: int, value: Any) -> int:
    """Take an argument and return a number."""
    return i


def run(i: int, how: str) -> int:
    """Go wrong while running, if it is the third task."""
    if i == 3:
        act(how)
    return i


def make(i: int, kind: Callable[..., Any], how: str, home: int) -> Any:
    """Return what goes wrong on its way, if it is the third task."""
    return kind(how, home) if i == 3 else i


def go_wrong_later(i: int, how: str, home: int) -> int:
    """Return, and let the worker go wrong a moment afterwards."""
    if i == 3 and os.getpid() != home:
        threading.Timer(0.01, act, (how,)).start()
    time.sleep(0.005)
    return i


def square_slowly(i: int) -> int:
    """Compute for two milliseconds."""
    end = time.perf_counter() + 0.002
    while time.perf_counter() < end:
        pass
    return i * i


def fail_on_thirteen(i: int) -> int:
    """Raise for one number of a hundred."""
    if i % 100 == 13:
        raise TroubleError(i)
    return i


def copy(values: list[Any]) -> list[Any]:
    """Return a batch as it came."""
    return list(values)


def fill_up(i: int) -> bytes:
    """Return what goes into a file."""
    return bytes([i]) * 300_000


def go_wrong_in_writing(i: int, how: str, home: int) -> bytes:
    """Return what is large; writing it goes wrong if it is the third one."""
    if i == 3 and os.getpid() != home:
        write = os.write

        def go_wrong(fd: int, data: Any) -> int:
            write(fd, data[:1000])
            act(how)
            return write(fd, data[1000:])

        os.write = go_wrong  # type: ignore[assignment]
    return bytes([i]) * 300_000


def write_too_much(i: int, home: int) -> None:
    """Write more than a file may have."""
    if os.getpid() != home:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with tempfile.TemporaryFile() as file:
            file.write(bytes(10_000))
