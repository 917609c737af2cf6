"""The values of a run, by key: constants from the graph, and results as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amorsize_dask.execute.batch import Item
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key


class Store:
    """Holds each value until the core says that no one needs it.

    Attributes
    ----------
    values : dict
        Values by key. Threads read it while the loop adds to it.
    """

    def __init__(self, tasks: TaskGraph) -> None:
        self._tasks = tasks
        self.values: dict[Key, Any] = dict(tasks.constants)

    def key_of(self, task: int) -> Key:
        """Return the key of a task."""
        return self._tasks.keys[task]

    def put(self, task: int, value: Any) -> None:
        """Keep the result of a task."""
        self.values[self._tasks.keys[task]] = value

    def put_all(self, tasks: Sequence[int], values: Sequence[Any]) -> None:
        """Keep the results of tasks."""
        keys = self._tasks.keys
        self.values.update(zip([keys[t] for t in tasks], values, strict=True))

    def drop(self, dropped: Sequence[int]) -> None:
        """Let go of results."""
        for task in dropped:
            del self.values[self._tasks.keys[task]]

    def find(self, key: Key) -> Any:
        """Return the value under a key that was asked for.

        Raises
        ------
        KeyError
            If the graph has no such key.
        """
        return self.values[self._tasks.aliases.get(key, key)]

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """Return what is needed to run tasks, their arguments apart."""
        nodes, arguments = self._tasks.nodes, self._tasks.arguments
        return [(task, nodes[task], arguments[task]) for task in numbers]

    def arguments(self, numbers: Sequence[int]) -> dict[Key, Any]:
        """Return the arguments of tasks, each once, by key."""
        return {
            key: self.values[key]
            for task in numbers
            for key in self._tasks.arguments[task]
        }
