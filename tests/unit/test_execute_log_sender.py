"""When a worker's records are sent, and which are not."""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from amorsize_dask.execute import log_sender
from amorsize_dask.execute.channel import CallerChannel, WorkerChannel
from amorsize_dask.execute.log_sender import LogSender

NAME = "sent.of.tests"


class Ends:
    """A sender, and the other end of its pipe."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.caller = CallerChannel(ours)
        self.worker = WorkerChannel(theirs)
        self.socket = theirs
        self.sender = LogSender()

    def read(self) -> list[Any]:
        """Return what has come: messages of records, and counts."""
        found = []
        for parts in self.caller.receive():
            kind, content = pickle.loads(parts[0])
            found.append(content[0]["msg"] if kind == "log" else (kind, content))
        return found


@contextmanager
def opened() -> Iterator[Ends]:
    # pytest has put some there, after it has made what fixtures are for.
    root_handlers, logging.root.handlers = logging.root.handlers, []
    made = Ends()
    try:
        yield made
    finally:
        logging.root.handlers = root_handlers
        made.caller.close()
        made.socket.close()
        made.sender.close()


def say(ends: Ends, text: str) -> None:
    record = logging.makeLogRecord({"name": NAME, "msg": text, "levelno": 30})
    ends.sender.handle(record)


def test_only_while_a_batch_runs() -> None:
    """At once then; what was said before, and what is after, goes with a later one."""
    with opened() as ends:
        say(ends, "before")
        assert ends.read() == []
        ends.sender.open(ends.worker)
        assert ends.read() == ["before"]
        say(ends, "meanwhile")
        assert ends.read() == ["meanwhile"]
        ends.sender.close_batch(ends.worker)
        say(ends, "after")
        assert ends.read() == []
        ends.sender.open(ends.worker)
        assert ends.read() == ["after"]


def test_who_says_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst is heard, then what the rate allows; the rest is counted."""
    with opened() as ends:
        monkeypatch.setattr(log_sender, "BURST_BYTES", 2_000)
        now = 0.0
        monkeypatch.setattr(log_sender, "perf_counter", lambda: now)
        sender = ends.sender = LogSender()
        sender.open(ends.worker)
        for i in range(30):
            say(ends, f"{i}")
        heard = ends.read()
        assert 0 < len(heard) < 20
        now += 10
        say(ends, "later")
        assert ends.read() == ["later"]
        sender.close_batch(ends.worker)
        assert ends.read() == [("left out", 30 - len(heard))]
        sender.close_batch(ends.worker)
        assert ends.read() == []


def test_a_pipe_without_room() -> None:
    """Records wait, in order, and no one waits for them but the end of the batch."""
    with opened() as ends:
        ends.sender.open(ends.worker)
        n = 0
        while ends.worker.has_room():
            say(ends, f"{n}")
            n += 1
        for i in range(n, n + 5):
            say(ends, f"{i}")
        assert ends.read() == [f"{i}" for i in range(n)]
        ends.sender.close_batch(ends.worker)
        assert ends.read() == [f"{i}" for i in range(n, n + 5)]


def test_a_caller_that_has_gone() -> None:
    """Nothing is raised where something is said."""
    with opened() as ends:
        ends.sender.open(ends.worker)
        ends.caller.close()
        say(ends, "x")
        say(ends, "y")


def test_what_others_take_is_not_sent() -> None:
    """Handlers that do nothing don't count."""
    with opened() as ends:
        ends.sender.open(ends.worker)
        named = logging.getLogger(NAME)
        nothing, other = logging.NullHandler(), logging.StreamHandler()
        named.addHandler(nothing)
        say(ends, "sent")
        logging.root.addHandler(other)
        say(ends, "taken")
        named.removeHandler(nothing)
        assert ends.read() == ["sent"]


def test_basic_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in this one's place, if it has anything to set up."""
    with opened() as ends:
        monkeypatch.setattr(logging, "basicConfig", logging.basicConfig)
        ends.sender.install()
        assert logging.root.handlers == [ends.sender]
        # As `logging.warning` and others do where there is no handler.
        ends.sender.addFilter(lambda record: False)
        logging.warning("x")
        assert logging.root.handlers == [ends.sender]
        with pytest.raises(ValueError, match="handlers"):
            logging.basicConfig(handlers=[], filename="x")
        assert logging.root.handlers == [ends.sender]
        logging.basicConfig()
        assert ends.sender not in logging.root.handlers
        assert len(logging.root.handlers) == 1
