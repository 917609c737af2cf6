"""Which records the caller wants, and workers that make no others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from amorsize_dask.execute import log_levels
from amorsize_dask.execute.log_levels import NEVER, find_levels, follow_levels

DEBUG, INFO, WARNING = logging.DEBUG, logging.INFO, logging.WARNING


@contextmanager
def bare() -> Iterator[logging.Logger]:
    """Put a logging without any loggers in the place of this process's."""
    root = logging.RootLogger(WARNING)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(logging, "root", root)
        monkeypatch.setattr(logging.Logger, "root", root)
        monkeypatch.setattr(logging.Logger, "manager", logging.Manager(root))
        monkeypatch.setattr(log_levels, "_followed", set())
        yield root


def handler(level: int) -> logging.Handler:
    made = logging.StreamHandler()
    made.setLevel(level)
    return made


def test_without_any_handler() -> None:
    """Warnings go to stderr, whatever loggers are set to."""
    with bare():
        assert find_levels() == {"": WARNING}
        logging.getLogger("a").setLevel(DEBUG)
        logging.getLogger("a.b")
        logging.getLogger("c").setLevel(logging.ERROR)
        assert find_levels() == {"": WARNING, "a": WARNING, "c": logging.ERROR}


def test_handlers_have_levels_too() -> None:
    """What none of a logger's own and those above takes isn't wanted."""
    with bare() as root:
        root.addHandler(handler(INFO))
        root.setLevel(DEBUG)
        logging.getLogger("a").addHandler(handler(DEBUG))
        apart = logging.getLogger("a.apart")
        apart.propagate = False
        logging.getLogger("a.apart.silent").addHandler(logging.NullHandler())
        assert find_levels() == {
            "": INFO,
            "a": DEBUG,
            "a.apart": WARNING,
            "a.apart.silent": NEVER,
        }
        apart.addHandler(handler(0))
        assert find_levels()["a.apart.silent"] == DEBUG


def test_what_is_disabled() -> None:
    """A logger, or all up to a level."""
    with bare():
        logging.getLogger("a").disabled = True
        logging.disable(logging.ERROR)
        assert find_levels() == {"": logging.ERROR + 1, "a": NEVER}


def test_everything_is_wanted() -> None:
    """A level of 0 would mean something else below the root."""
    with bare() as root:
        root.addHandler(handler(0))
        root.setLevel(0)
        logging.getLogger("a").propagate = False
        logging.getLogger("a").addHandler(handler(0))
        assert find_levels() == {"": 1, "a": 1}


def test_followed_until_told_otherwise() -> None:
    """Levels of before are taken back; those of this process's own stay."""
    with bare():
        logging.getLogger("own").setLevel(INFO)
        follow_levels({"": logging.ERROR, "a": DEBUG})
        assert logging.getLogger("a.b").getEffectiveLevel() == DEBUG
        assert logging.getLogger("c").getEffectiveLevel() == logging.ERROR
        follow_levels({"": WARNING})
        assert logging.getLogger("a.b").getEffectiveLevel() == WARNING
        assert logging.getLogger("own").getEffectiveLevel() == INFO
