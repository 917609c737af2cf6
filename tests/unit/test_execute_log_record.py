"""Records of `logging` as they come back."""

from __future__ import annotations

import logging
import pickle
import sys
from typing import Any

import pytest

from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute import log_record
from amorsize_dask.execute.log_record import MAX_TEXT, dump_record, load_record


def record(msg: object, *args: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("a.b").makeRecord(
        "a.b", logging.WARNING, __file__, 12, msg, args, None, "here", extra
    )


def send(sent: logging.LogRecord) -> logging.LogRecord:
    """Return a record as it is at the other end."""
    return load_record(pickle.loads(pickle.dumps(dump_record(sent))))


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("never")

    def __repr__(self) -> str:
        return "a text"


def test_all_that_a_record_says_comes_back() -> None:
    """Message and arguments apart, where they are plain."""
    sent = record("%s has %d", "a", 3, user="me")
    found = send(sent)
    left_out = {"relativeCreated"}
    assert {k: v for k, v in vars(found).items() if k not in left_out} == {
        k: v for k, v in vars(sent).items() if k not in left_out
    }
    assert abs(found.relativeCreated - sent.relativeCreated) < 1


@pytest.mark.parametrize(
    ("msg", "args"),
    [
        ("%s and %s", (Unpicklable(), [1, 2])),
        (Unpicklable(), ()),
        ("%(a)s", ({"a": Unpicklable()},)),
        ("%s", ("x" * (MAX_TEXT + 1),)),
    ],
    ids=["arguments", "message", "mapping", "long argument"],
)
def test_others_come_as_a_text(msg: object, args: tuple[object, ...]) -> None:
    """It is made where what it is made of is."""
    sent = record(msg, *args)
    found = send(sent)
    assert found.args is None
    assert found.getMessage()[:MAX_TEXT] == sent.getMessage()[:MAX_TEXT]
    assert len(found.getMessage()) <= MAX_TEXT + 1


def test_a_mapping_of_plain_arguments() -> None:
    """It stays one."""
    found = send(record("%(a)s of %(b)d", {"a": "x", "b": 3}))
    assert found.args == {"a": "x", "b": 3}
    assert found.getMessage() == "x of 3"


def test_a_message_that_cannot_be_made() -> None:
    """It fails where it was said, as it does for any handler."""
    with pytest.raises(TypeError, match="not all arguments"):
        dump_record(record("none", 3))


def test_what_a_user_adds() -> None:
    """As itself if that can be sent and isn't large, else as its text."""
    found = vars(send(record("x", some={1, 2}, other=Unpicklable())))
    assert found["some"] == {1, 2}
    assert found["other"] == "a text"
    found = vars(send(record("x", large=bytes(log_record.MAX_BYTES))))
    assert type(found["large"]) is str


def test_an_exception_is_itself_with_its_frames() -> None:
    """Or a text, where it can't be made again."""
    try:
        raise ArgumentError("n", 3, "less")
    except ArgumentError:
        sent = record("failed")
        sent.exc_info = sys.exc_info()
    found = send(sent)
    assert found.exc_info
    assert type(found.exc_info[1]) is ArgumentError
    assert show(found) == show(sent)
    plain, _ = dump_record(sent)
    assert show(load_record((plain, None))) == show(sent)


def show(shown: logging.LogRecord) -> list[str]:
    """Return the lines of a record, without what points at a place in the one above."""
    lines = logging.Formatter().format(shown).splitlines()
    return [line for line in lines if line.strip(" ^~")]
