"""What the user says of a stage of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import isasyncgenfunction
from typing import Any, Literal

from amorsize_dask.arguments import (
    check_count,
    check_flag,
    check_function,
    check_lanes,
    check_max_workers,
    check_retries,
)
from amorsize_dask.core.model import Lane
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.item_call import ItemCall, Shape


@dataclass(frozen=True, slots=True)
class Stage:
    """A function that each item of a pipeline goes through.

    Parameters
    ----------
    function : callable
        Called with an item; its result goes on to the next stage. It may be a
        coroutine function (``async def``), or return a coroutine: then many items wait
        at a time in one event loop.
    name : str, optional
        For reports and errors; by default the function's.
    batch : int, optional
        Call the function with a list of up to so many items instead, >= 1. It returns
        one result for each, in order, and these go on one by one. A batch is smaller
        at the end, and where items come so slowly that nothing else is to be done.
    filter : bool, optional
        The function says whether the item goes on, as it is.
    flatten : bool, optional
        The function returns any number of items, which go on one by one when it has
        returned all of them: there must be an end to what a generator yields.
    set_up : callable, optional
        Called once in each worker before its first item, for what is expensive to
        make: a model, a connection. What it returns is passed to the function as its
        second argument. Workers in threads of one process have one each.
    on_error : {"raise", "skip"}, optional
        What becomes of an exception that the function raises: it ends the run, or the
        item is left out and listed in the report. Of a batch all items are.
    retries : int, optional
        How often an item that has raised is tried again before that, >= 0.
    max_workers : int, optional
        Most workers that may run this stage at once, >= 1; 1 for what must not run
        twice at a time.
    lane : str or sequence of str, optional
        The lanes in which it may run, of those that the scheduler may use.

    Raises
    ------
    ArgumentError
        For an argument that can't be used.

    Examples
    --------
    >>> Stage(str.upper, retries=2).name
    'upper'
    """

    function: Callable[..., Any]
    name: str = ""
    batch: int | None = None
    filter: bool = False
    flatten: bool = False
    set_up: Callable[[], Any] | None = None
    on_error: Literal["raise", "skip"] = "raise"
    retries: int = 0
    max_workers: int | None = None
    lane: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ArgumentError("function", self.function, "expected a callable")
        if isasyncgenfunction(self.function):
            expected = "an asynchronous generator can't be iterated; return a list"
            raise ArgumentError("function", self.function, expected)
        if self.set_up is not None:
            check_function("set_up", self.set_up)
        if not isinstance(self.name, str):
            raise ArgumentError("name", self.name, "expected text")
        if self.batch is not None:
            check_count("batch", self.batch, 1)
        check_max_workers("max_workers", self.max_workers)
        check_retries(self.retries)
        if self.lane is not None:
            check_lanes(self.lane, "lane")
        for name in ("filter", "flatten"):
            check_flag(name, getattr(self, name))
        if self.on_error not in ("raise", "skip"):
            raise ArgumentError("on_error", self.on_error, "expected 'raise' or 'skip'")
        if (self.batch is not None) + self.filter + self.flatten > 1:
            expected = "expected one of batch, filter and flatten at most"
            raise ArgumentError("batch", self.batch, expected)
        if not self.name:
            found = getattr(self.function, "__name__", None)
            name = found if isinstance(found, str) else type(self.function).__name__
            object.__setattr__(self, "name", name)

    @property
    def lanes(self) -> tuple[Lane, ...] | None:
        """The lanes in which it may run; ``None``: any."""
        return None if self.lane is None else check_lanes(self.lane)

    @property
    def shape(self) -> Shape:
        """How many items come of how many."""
        if self.batch is not None:
            return Shape.BATCH
        if self.filter:
            return Shape.FILTER
        return Shape.FLATTEN if self.flatten else Shape.ONE

    def make_call(self) -> ItemCall:
        """Return what workers call."""
        return ItemCall(
            self.name,
            self.function,
            self.shape,
            set_up=self.set_up,
            n_retries=self.retries,
            skips=self.on_error == "skip",
        )
