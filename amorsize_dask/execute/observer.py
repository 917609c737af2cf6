"""Who watches a run, task by task."""

from __future__ import annotations

from typing import Any, Protocol


class TaskObserver(Protocol):
    """Is told of each task that starts and that has finished."""

    def pretask(self, task: int) -> None:
        """Note a task that is about to start or to be sent."""

    def posttask(self, task: int, value: Any, worker_id: str) -> None:
        """Note a task whose result has come."""
