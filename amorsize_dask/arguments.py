"""Arguments of the scheduler, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import iscoroutinefunction
from math import isfinite
from numbers import Real
from operator import index
from typing import Any

from dask.utils import parse_bytes, parse_timedelta

from amorsize_dask.core.model import Lane
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.start_method import has_processes


def check_lanes(lanes: Iterable[str], name: str = "lanes") -> tuple[Lane, ...]:
    """Return lanes, without taking a text for its letters."""
    if isinstance(lanes, str):
        lanes = (lanes,)
    expected = f"expected one or more of {', '.join(repr(str(lane)) for lane in Lane)}"
    try:
        checked = tuple(Lane(lane) for lane in lanes)
    except (ValueError, TypeError) as error:
        raise ArgumentError(name, lanes, expected) from error
    if not checked:
        raise ArgumentError(name, lanes, expected)
    return checked


def check_client(client: Any, lanes: Iterable[str]) -> Any:
    """Return a client of `distributed`, or ``None`` for the one that is active."""
    if client is None:
        return None
    if not (hasattr(client, "scheduler_info") and hasattr(client, "submit")):
        raise ArgumentError("client", client, "expected a distributed.Client")
    if client.asynchronous:
        expected = "an asynchronous client can't be waited for"
        raise ArgumentError("client", client, expected)
    if Lane.CLUSTER not in check_lanes(lanes):
        expected = "lanes leave out 'cluster', for which it is"
        raise ArgumentError("client", client, expected)
    return client


def check_max_workers(name: str, value: Any) -> int | None:
    """Return a number of workers, or ``None`` for as many as pay."""
    return None if value is None else check_count(name, value, 1)


def check_retries(value: Any, name: str = "retries") -> int:
    """Return how often a task is run again."""
    return check_count(name, value, 0)


def check_retries_of(value: Any) -> tuple[int, dict[Any, int]]:
    """Return how often any task is run again, and what was said of single ones."""
    if not isinstance(value, Mapping):
        return check_retries(value), {}
    return 0, {key: check_retries(n) for key, n in value.items()}


def check_priority(value: Any) -> float:
    """Return a task's priority."""
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        raise ArgumentError("annotation priority", value, "expected a finite number")
    return float(value)


def check_function(name: str, value: Any) -> None:
    """Make sure that something can be called, and does its work when it is."""
    if not callable(value):
        raise ArgumentError(name, value, "expected a function")
    if iscoroutinefunction(value) or iscoroutinefunction(type(value).__call__):
        expected = (
            "expected a function that does its work when it is called; this one only "
            "returns a coroutine. Many of these wait at once under asyncio.gather"
        )
        raise ArgumentError(name, value, expected)


def check_count(name: str, value: Any, least: int) -> int:
    """Return a whole number that is `least` or more."""
    expected = f"expected a whole number, {least} or more"
    try:
        n = index(value)
    except TypeError as error:
        raise ArgumentError(name, value, expected) from error
    if n < least or isinstance(value, bool):
        raise ArgumentError(name, value, expected)
    return n


def check_timeout(value: Any, lanes: Iterable[str]) -> float | None:
    """Return the seconds that a task may take, or ``None`` for any."""
    if value is None:
        return None
    seconds = check_seconds("task_timeout", value)
    if Lane.PROCESSES not in check_lanes(lanes) or not has_processes():
        expected = "only worker processes can be ended, and they aren't to be had"
        raise ArgumentError("task_timeout", value, expected)
    return seconds


#: Bytes below which a memory limit is none. Smaller: 1.5, or 80 for a percentage, is
#: taken for so many bytes; larger: limits that next to nothing should fit into, to try
#: that, are refused.
LEAST_BYTES = 1000


def check_memory_limit(value: Any) -> int | float | None:
    """Return bytes, a fraction of the available memory, or ``None`` for "auto"."""
    expected = (
        "expected 'auto', bytes such as 4_000_000_000 or '4 GB', or a fraction of the "
        "available memory above 0 and up to 1.0"
    )
    if value == "auto":
        return None
    if isinstance(value, float) and 0 < value <= 1:
        return value
    if isinstance(value, str):
        try:
            value = parse_bytes(value)
        except ValueError as error:
            raise ArgumentError("memory_limit", value, expected) from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError("memory_limit", value, expected)
    if not (isfinite(value) and value >= LEAST_BYTES):
        raise ArgumentError("memory_limit", value, expected)
    return int(value)


def check_idle_timeout(value: Any) -> float | None:
    """Return seconds, or ``None`` for never."""
    if value is None:
        return None
    expected = "expected a time above 0 such as '5 minutes', or null"
    try:
        seconds = parse_timedelta(value) if isinstance(value, str | int | float) else 0
    except (ValueError, KeyError):
        seconds = 0  # a negative number, or a text that isn't a time
    if not seconds > 0:
        raise ArgumentError("amorsize.idle-timeout", value, expected)
    return float(seconds)


def check_flag(name: str, value: Any) -> bool:
    """Return a yes or no, without taking the text "no" for a yes."""
    if not isinstance(value, bool):
        raise ArgumentError(name, value, "expected True or False")
    return value


def check_seconds(name: str, value: Any) -> float:
    """Return a time above 0."""
    expected = "expected seconds above 0"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(name, value, expected)
    try:
        seconds = float(value)
    except OverflowError as error:
        raise ArgumentError(name, value, expected) from error
    if not seconds > 0:
        raise ArgumentError(name, value, expected)
    return seconds
