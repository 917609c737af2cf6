"""Dask's callbacks around a run: who is told what, and the state that they see.

Covers `dask.diagnostics`, `dask.cache` and subclasses of `dask.callbacks.Callback`.
They are told what Dask's own schedulers tell: an alias is a task to them, data isn't.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from dask.callbacks import (
    Callback,
    local_callbacks,
    normalize_callback,
    unpack_callbacks,
)

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key
from amorsize_dask.lowering import quote_values

#: Dask's form of a callback: start, start_state, pretask, posttask and finish, each of
#: them possibly ``None``.
Functions = tuple[Callable[..., None] | None, ...]


@contextmanager
def observe(
    callbacks: Callback | Iterable[Callback | Functions] | None = None,
) -> Iterator[Observers]:
    """Gather callbacks for one run; at its end, tell those that were told of its start.

    Parameters
    ----------
    callbacks : Callback or iterable of Callback or tuple, optional
        By default those that are active: registered, or in a ``with`` around this run.
        These are hidden from runs that tasks of this one start.

    Yields
    ------
    Observers
        Nothing else is to be done at the end: a run that leaves by an exception has
        failed.
    """
    with _take(callbacks) as taken:
        observers = Observers(taken)
        has_failed = True
        try:
            yield observers
            has_failed = False
        finally:
            observers.finish(has_failed)


@contextmanager
def _take(
    callbacks: Callback | Iterable[Callback | Functions] | None,
) -> Iterator[list[Functions]]:
    if callbacks is not None:
        if isinstance(callbacks, Callback):
            callbacks = [callbacks]
        yield [normalize_callback(callback) for callback in callbacks]
    elif Callback.active:
        with local_callbacks() as active:
            yield list(active)
    else:
        # There is nothing to hide. Hiding it all the same would, at the end, undo what
        # another thread's run has put back in the meantime.
        yield []


class Observers:
    """The callbacks of one run.

    Parameters
    ----------
    callbacks : list of tuple
        In Dask's form. With none of them all methods do nothing.
    """

    def __init__(self, callbacks: list[Functions]) -> None:
        self._callbacks = callbacks
        _, self._start_state, self._pretask, self._posttask, _ = unpack_callbacks(
            callbacks
        )
        self._started: list[Functions] = []
        self._dsk: dict[Key, Any] = {}
        self._state: _State | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no one to tell."""
        return not self._callbacks

    @property
    def wants_tasks(self) -> bool:
        """Whether someone looks at single tasks, or at the state while they run."""
        return bool(self._start_state or self._pretask or self._posttask)

    @property
    def has_posttask(self) -> bool:
        """Whether someone is told of each task that has finished, with its value."""
        return bool(self._posttask)

    def start(self, dsk: dict[Key, Any]) -> None:
        """Show the graph before it is lowered; callbacks may put values into it."""
        if self.is_empty:
            return
        self._dsk = dsk
        for callback in self._callbacks:
            if callback[0]:
                callback[0](dsk)
            self._started.append(callback)
        quote_values(dsk)

    def start_state(self, tasks: TaskGraph) -> None:
        """Show the state before the first task."""
        if self.is_empty:
            return
        state = self._state = _State(tasks)
        for function in self._start_state:
            function(self._dsk, state.mapping)
        if self.wants_tasks:
            for key, value in tasks.constants.items():
                self._pass_on(state, key, value, None)

    def pretask(self, task: int) -> None:
        """Tell that a task is about to run. A second time does no harm."""
        if self._state is not None:
            self._begin(self._state, self._state.keys[task])

    def posttask(self, task: int, value: Any, worker_id: Any) -> None:
        """Tell that a task has run.

        Parameters
        ----------
        task : int
            Its number.
        value
            Its result.
        worker_id
            What names the thread or process that it ran in.
        """
        if self._state is not None:
            key = self._state.keys[task]
            self._end(self._state, key, value, worker_id)
            self._pass_on(self._state, key, value, worker_id)

    def finish(self, has_failed: bool) -> None:
        """Tell that the run is over. All are told, even if one of them raises."""
        if self.is_empty:
            return
        if self._state is not None and not has_failed and not self.wants_tasks:
            self._state.finish_all()
        state = {} if self._state is None else self._state.mapping
        with ExitStack() as stack:
            # A stack calls the last one first.
            for callback in reversed(self._started):
                if callback[4]:
                    stack.callback(callback[4], self._dsk, state, has_failed)

    def _pass_on(self, state: _State, key: Key, value: Any, worker_id: Any) -> None:
        """Tell of the aliases of a key whose value is there."""
        for alias in state.aliases_of.get(key, ()):
            self._begin(state, alias)
            self._end(state, alias, value, worker_id)

    def _begin(self, state: _State, key: Key) -> None:
        state.begin(key)
        for function in self._pretask:
            function(key, self._dsk, state.mapping)

    def _end(self, state: _State, key: Key, value: Any, worker_id: Any) -> None:
        state.end(key, value)
        for function in self._posttask:
            function(key, value, self._dsk, state.mapping, worker_id)


class _State:
    """The state that Dask's schedulers keep and show, by key.

    It differs in one type: what is ready is a set, so that nothing here takes longer
    the more tasks there are.

    Parameters
    ----------
    tasks : TaskGraph
        What is about to run.

    Attributes
    ----------
    mapping : dict
        What callbacks get. See `dask.local`.
    keys : sequence of key
        By task.
    aliases_of : dict of key to list of key
        For tasks and constants those keys that stand for theirs.
    """

    def __init__(self, tasks: TaskGraph) -> None:
        self.keys = tasks.keys
        self.aliases_of: dict[Key, list[Key]] = {}
        self._wanted = {tasks.keys[task] for task in tasks.graph.wanted}
        dependencies: dict[Key, set[Key]] = {key: set() for key in tasks.constants}
        for key, arguments in zip(tasks.keys, tasks.arguments, strict=True):
            dependencies[key] = set(arguments)
        for alias, target in tasks.aliases.items():
            dependencies[alias] = {target}
            self.aliases_of.setdefault(target, []).append(alias)
        self._dependencies = dependencies
        self._dependents: dict[Key, set[Key]] = {key: set() for key in dependencies}
        for key, needed in dependencies.items():
            for dependency in needed:
                self._dependents[dependency].add(key)
        self._waiting_data = {k: set(users) for k, users in self._dependents.items()}
        self._cache = dict(tasks.constants)
        self._waiting: dict[Key, set[Key]] = {}
        self._ready: set[Key] = set()
        for key in (*tasks.keys, *tasks.aliases):
            missing = dependencies[key] - self._cache.keys()
            if missing:
                self._waiting[key] = missing
            else:
                self._ready.add(key)
        self._running: set[Key] = set()
        self._finished: set[Key] = set()
        self._released: set[Key] = set()
        self.mapping: dict[str, Any] = {
            "dependencies": self._dependencies,
            "dependents": self._dependents,
            "waiting": self._waiting,
            "waiting_data": self._waiting_data,
            "cache": self._cache,
            "ready": self._ready,
            "running": self._running,
            "finished": self._finished,
            "released": self._released,
        }

    def begin(self, key: Key) -> None:
        """Note that a task is about to run."""
        self._ready.discard(key)
        self._running.add(key)

    def end(self, key: Key, value: Any) -> None:
        """Note that a task has run."""
        self._cache[key] = value
        self._running.discard(key)
        self._finished.add(key)
        for dependent in self._dependents[key]:
            missing = self._waiting[dependent]
            missing.discard(key)
            if not missing:
                del self._waiting[dependent]
                self._ready.add(dependent)
        for dependency in self._dependencies[key]:
            users = self._waiting_data[dependency]
            users.discard(key)
            if not users and dependency not in self._wanted:
                self._release(dependency)

    def finish_all(self) -> None:
        """Note that all tasks have run, without their values."""
        self._finished |= self._ready | self._running | self._waiting.keys()
        for left in (self._ready, self._running, self._waiting, self._waiting_data):
            left.clear()

    def _release(self, key: Key) -> None:
        for name in (key, *self.aliases_of.get(key, ())):
            del self._waiting_data[name]
            del self._cache[name]
            self._released.add(name)
