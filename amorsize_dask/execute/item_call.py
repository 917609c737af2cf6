"""What a stage of a pipeline does with an item, wherever that is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from enum import Enum
from time import perf_counter, thread_time
from types import CoroutineType
from typing import Any, NamedTuple, Protocol

from amorsize_dask.errors import BatchLengthError, describe_error
from amorsize_dask.execute.batch import leave_out


class Mark(Enum):
    """Stands for an item in the place of a result."""

    #: It doesn't go on.
    DROPPED = "dropped"


class Skipped(NamedTuple):
    """Stands for an item that a stage has failed on, and which doesn't go on."""

    #: The exception's class and text.
    error: str


class Shape(Enum):
    """How many items come of how many."""

    ONE = "one"
    FILTER = "filter"
    FLATTEN = "flatten"
    BATCH = "batch"


class Loop(Protocol):
    """Runs coroutines."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns."""


class ItemCall:
    """A stage's function, and what goes with it.

    Parameters
    ----------
    name : str
        The stage's.
    function : callable
        Called with an item, or with a list of items if the shape is ``BATCH``; and
        with what `set_up` has returned, if there is one. It may be a coroutine
        function, or return a coroutine.
    shape : Shape
        What its result is: the item's, whether the item goes on, items, or as many as
        there were in the list.
    set_up : callable, optional
        Called once in each worker, before the first item.
    n_retries : int, optional
        How often an item is tried again that has raised an exception.
    skips : bool, optional
        Whether an exception is returned as `Skipped` after that instead of raised.

    Attributes
    ----------
    name : str
        As given.
    shape : Shape
        As given.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        shape: Shape = Shape.ONE,
        *,
        set_up: Callable[[], Any] | None = None,
        n_retries: int = 0,
        skips: bool = False,
    ) -> None:
        self.name = name
        self._function = function
        self.shape = shape
        self._set_up = set_up
        self._n_retries = n_retries
        self._skips = skips
        #: Where its coroutines run in this process; elsewhere each has its own.
        self.loop: Loop | None = None
        self._prepared = threading.local()

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """What it calls: its function, and what that gets its second argument from."""
        if self._set_up is None:
            return (self._function,)
        return self._function, self._set_up

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_prepared"]
        return {**state, "loop": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepared = threading.local()

    def __call__(self, value: Any) -> Any:
        """Return what comes of an item, or what stands for it."""
        arguments = () if self._set_up is None else (self._prepare(),)
        for n_left in range(self._n_retries, -1, -1):
            try:
                return self._finish(value, self._run(value, *arguments))
            except Exception as error:
                if not n_left and self._skips:
                    return Skipped(describe_error(error))
                if not n_left:
                    raise
        raise AssertionError("unreachable")

    def _run(self, *arguments: Any) -> Any:
        result = self._function(*arguments)
        # The function needn't tell: it may be a lambda, or an object with `__call__`.
        if not isinstance(result, CoroutineType):
            return result
        if self.loop is not None:
            return self.loop.run(result)
        # It takes workers as long as to boot, and hardly any need it.
        import asyncio

        return asyncio.run(result)

    def _finish(self, value: Any, result: Any) -> Any:
        match self.shape:
            case Shape.FILTER:
                return value if result else Mark.DROPPED
            case Shape.FLATTEN:
                return list(result)
            case Shape.BATCH:
                results = list(result)
                if len(results) != len(value):
                    raise BatchLengthError(self.name, len(value), len(results))
                return results
        return result

    def _prepare(self) -> Any:
        """Return what the set-up has made for this worker."""
        prepared = self._prepared
        if not hasattr(prepared, "value"):
            assert self._set_up is not None
            start, cpu_start = perf_counter(), thread_time()
            prepared.value = self._set_up()
            # It is no item's time, and no later one takes it.
            leave_out(perf_counter() - start, thread_time() - cpu_start)
        return prepared.value
