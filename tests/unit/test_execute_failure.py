"""Exceptions on their way from a worker: what arrives is what was raised."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amorsize_dask.errors import SerializationError, WorkerLostError
from amorsize_dask.execute.failure import MAX_CHAIN, dump_failure, load_failure


def travel(error: BaseException) -> BaseException:
    """Send an exception as a worker and the caller do."""
    return load_failure("the-key", [bytearray(part) for part in dump_failure(error)])


def catch(function: Callable[[], Any]) -> BaseException:
    """Return what a function raises."""
    with pytest.raises(BaseException) as info:  # noqa: PT011 - whatever it is
        function()
    return info.value


def print_chain(error: BaseException) -> list[str]:
    """Return what is printed of an exception, without marks below the code."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return [line for line in lines if line.strip(" ^~")]


class PlainError(Exception):
    pass


class TwoArgumentsError(Exception):
    """Its ``__init__`` takes other arguments than ``args`` has."""

    def __init__(self, path: str, line: int) -> None:
        super().__init__(f"{path}:{line}")
        self.path = path
        self.line = line


class KeywordsError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class MessageError(Exception):
    """Its ``__init__`` makes the message, and would do so again."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no {name}")


class StrError(Exception):
    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"number {self.number}"


class NoArgumentsError(Exception):
    def __init__(self) -> None:
        super().__init__("always the same")


@dataclass(frozen=True)
class FrozenError(Exception):
    """An exception whose attributes can't be set."""

    number: int


def explode_if_told() -> PlainError:
    if ExplodingError.explodes:
        raise RuntimeError("not here")
    return ExplodingError("as it was")


class ExplodingError(Exception):
    """Can't be unpickled once it is told so."""

    explodes = False

    def __reduce__(self) -> Any:
        return explode_if_told, ()


class NeverPickledError(Exception):
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("never")


class StubbornError(Exception):
    """Can't be made without knowing how."""

    def __new__(cls, *, code: int) -> StubbornError:
        return super().__new__(cls, f"code {code}")

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


BUILTIN: list[BaseException] = [
    ValueError("text", 3),
    ValueError(),
    KeyError("a"),
    KeyError(("a", 1)),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("ascii", "\xff", 0, 1, "not in range"),
    OSError(2, "No such file", "a.txt"),
    FileNotFoundError(2, "No such file", "a.txt"),
    OSError(18, "Cross-device", "a.txt", None, "b.txt"),
    ZeroDivisionError("division by zero"),
    StopIteration(3),
    SystemExit(4),
    KeyboardInterrupt(),
    AssertionError(("a", "tuple")),
    ImportError("no module", name="a", path="b"),
    SyntaxError("invalid", ("a.py", 1, 2, "x = = 3")),
    asyncio.CancelledError("cancelled"),
    json.JSONDecodeError("bad", "{", 1),
    subprocess.CalledProcessError(3, ["ls"], b"out", b"err"),
    WorkerLostError("key", "SIGKILL", 3),
]


@pytest.mark.parametrize("error", BUILTIN, ids=lambda error: type(error).__name__)
def test_exceptions_of_libraries(error: BaseException) -> None:
    """They arrive with type, arguments, text and attributes."""
    other = travel(error)
    assert type(other) is type(error)
    assert other.args == error.args
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    for name in ("errno", "filename", "filename2", "start", "code", "value", "name"):
        assert getattr(other, name, None) == getattr(error, name, None)


def test_missing_file() -> None:
    """An error of the system has its number and its file."""
    other = travel(catch(Path("/no/such/file").read_text))
    assert isinstance(other, FileNotFoundError)
    assert (other.errno, other.filename) == (2, "/no/such/file")


@pytest.mark.parametrize(
    "error",
    [
        PlainError("text", 3, [4]),
        TwoArgumentsError("a.py", 3),
        KeywordsError(code=3),
        MessageError("thing"),
        StrError(3),
        NoArgumentsError(),
        FrozenError(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_own_exceptions(error: BaseException) -> None:
    """They arrive as they were, whatever their ``__init__`` takes or makes."""
    other = travel(error)
    assert type(other) is type(error)
    assert other.args == error.args
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_attributes_and_notes() -> None:
    """Attributes that were set afterwards arrive, and notes in their order."""
    for error in (PlainError("text"), TwoArgumentsError("a.py", 3)):
        error.extra = {"a": [1, 2]}  # type: ignore[attr-defined]
        error.add_note("first")
        error.add_note("second")
        other = travel(error)
        assert vars(other)["extra"] == {"a": [1, 2]}
        assert other.__notes__ == ["first", "second"]


def test_local_class() -> None:
    """An exception of a class that no import finds is still one of that class."""

    class LocalError(Exception):
        def __init__(self, number: int) -> None:
            super().__init__(f"number {number}")
            self.number = number

    other = travel(LocalError(3))
    assert isinstance(other, LocalError)
    assert (str(other), other.number) == ("number 3", 3)


def test_attribute_that_cannot_be_pickled() -> None:
    """It is left out; arguments, other attributes and notes arrive."""
    error = TwoArgumentsError("a.py", 3)
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    error.add_note("a note")
    other = travel(error)
    assert isinstance(other, TwoArgumentsError)
    assert str(other) == "a.py:3"
    assert vars(other) == {"path": "a.py", "line": 3, "__notes__": ["a note"]}


def test_argument_that_cannot_be_pickled() -> None:
    """It arrives as text, the others as themselves."""
    lock = threading.Lock()
    other = travel(PlainError("text", lock, 3))
    assert isinstance(other, PlainError)
    assert other.args == ("text", str(lock), 3)


def test_cause_and_context() -> None:
    """A chain arrives whole, and prints as it would have where it was raised."""

    def fail() -> None:
        try:
            try:
                raise KeyError("a")
            except KeyError as error:
                raise TwoArgumentsError("a.py", 3) from error
        except TwoArgumentsError:
            raise ValueError("b")  # noqa: B904 - the context is meant

    error = catch(fail)
    other = travel(error)
    assert print_chain(other) == print_chain(error)
    context = other.__context__
    assert isinstance(context, TwoArgumentsError)
    assert other.__cause__ is None
    assert isinstance(context.__cause__, KeyError)
    assert context.__context__ is context.__cause__


def test_suppressed_context() -> None:
    """``raise ... from None`` stays so."""

    def fail() -> None:
        try:
            raise KeyError("a")
        except KeyError:
            raise ValueError("b") from None

    other = travel(catch(fail))
    assert other.__suppress_context__
    assert other.__cause__ is None
    assert isinstance(other.__context__, KeyError)


def test_chain_that_goes_in_a_circle() -> None:
    """An exception may be its own cause, directly or by way of another."""
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__context__ = second, first
    second.__cause__ = second
    other = travel(first)
    assert isinstance(other.__cause__, KeyError)
    assert other.__cause__.__context__ is other
    assert other.__cause__.__cause__ is other.__cause__


def test_long_chain_is_cut() -> None:
    """Of a long chain the latest exceptions arrive."""
    error = ValueError(0)
    for i in range(1, 3 * MAX_CHAIN):
        following = ValueError(i)
        following.__cause__ = error
        error = following
    link: BaseException | None = travel(error)
    n = 0
    while link is not None:
        assert link.args == (3 * MAX_CHAIN - 1 - n,)
        link = link.__cause__
        n += 1
    assert n == MAX_CHAIN


def test_link_that_cannot_be_rebuilt() -> None:
    """A cause that can't be sent is missing; the exception itself arrives."""
    error = ValueError("a")
    error.__cause__ = StubbornError(code=3)
    other = travel(error)
    assert isinstance(other, ValueError)
    assert other.__cause__ is None


def test_exception_group() -> None:
    """A group arrives with what is in it."""
    group = ExceptionGroup("all", [ValueError(1), ExceptionGroup("in", [KeyError(2)])])
    other = travel(catch(lambda: _raise(group)))
    assert type(other) is ExceptionGroup
    assert other.message == "all"
    assert repr(other.exceptions) == repr(group.exceptions)
    matching, rest = other.split(KeyError)
    assert matching is not None
    assert rest is not None


def _raise(error: BaseException) -> None:
    raise error


def _fail_deep_inside(x: int) -> int:
    return _fail_deep_inside(x - 1) if x else 1 // x


def test_frames_are_those_of_the_worker() -> None:
    """The traceback names the functions and lines where it was raised."""
    error = catch(lambda: _fail_deep_inside(2))
    other = travel(error)
    expected = traceback.extract_tb(error.__traceback__)
    frames = traceback.extract_tb(other.__traceback__)
    assert [frame.name for frame in frames[-3:]] == ["_fail_deep_inside"] * 3
    assert [(f.filename, f.lineno) for f in frames] == [
        (f.filename, f.lineno) for f in expected
    ]


def test_exception_that_was_not_raised() -> None:
    """Without a traceback there is none afterwards."""
    assert travel(ValueError(1)).__traceback__ is None


def test_endless_recursion() -> None:
    """A traceback as deep as Python allows arrives."""

    def recurse() -> None:
        recurse()

    error = catch(recurse)
    other = travel(error)
    assert isinstance(other, RecursionError)
    frames = traceback.extract_tb(other.__traceback__)
    assert len(frames) == len(traceback.extract_tb(error.__traceback__))
    assert frames[-1].name == "recurse"


def test_exception_travels_twice() -> None:
    """What has come from another process can be sent on, frames included."""
    other = travel(travel(catch(lambda: _fail_deep_inside(1))))
    assert isinstance(other, ZeroDivisionError)
    names = [frame.name for frame in traceback.extract_tb(other.__traceback__)]
    assert names[-2:] == ["_fail_deep_inside"] * 2


def test_exception_that_the_caller_cannot_rebuild(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In its place comes an error with its name, the key and the worker's traceback."""
    parts = [bytearray(part) for part in dump_failure(catch(_raise_exploding))]
    monkeypatch.setattr(ExplodingError, "explodes", True)
    other = load_failure("the-key", parts)
    assert isinstance(other, SerializationError)
    assert (other.key, other.what) == ("the-key", "exception")
    assert "ExplodingError: as it was" in str(other)
    assert "in _raise_exploding" in str(other)


def _raise_exploding() -> None:
    raise ExplodingError("as it was")


def test_exception_that_nothing_can_rebuild() -> None:
    """If a worker sees that an exception would not come back it says so."""
    other = travel(StubbornError(code=3))
    assert isinstance(other, SerializationError)
    assert "StubbornError: code 3" in str(other)


def test_exception_that_refuses_to_be_pickled() -> None:
    """It is rebuilt from its parts; what stands in the way is not asked."""
    other = travel(NeverPickledError("a", 3))
    assert isinstance(other, NeverPickledError)
    assert other.args == ("a", 3)


@pytest.mark.parametrize(
    "error",
    [
        UnprintableError("a"),
        ValueError(Unprintable()),
        ExceptionGroup("a", [OSError()]),
    ],
)
def test_dumping_never_fails(error: BaseException) -> None:
    """Something arrives, even of exceptions that refuse all that can be asked."""
    other = travel(catch(lambda: _raise(error)))
    assert type(other) in (type(error), SerializationError)
