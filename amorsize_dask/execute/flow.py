"""What a run that is streamed asks, and tells: see `loop.Execution.stream`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.events import Event
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.threads import Mailbox


class Flow(Protocol):
    """What is handed over of a run's results, and what is added to an open graph."""

    @property
    def has_result(self) -> bool:
        """Whether a result can be handed over now."""

    @property
    def has_more(self) -> bool:
        """Whether `grow` has more to add at once, before anything else happens."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be handed over."""

    def begin(self, open_mailbox: Callable[[], Mailbox]) -> None:
        """Wake the loop through its mailbox, from now on, when there is news."""

    def note(self, tasks: Sequence[int]) -> None:
        """Take note of tasks that have finished."""

    def take(self, store: Store) -> Any:
        """Return the next result."""

    def grow(self, store: Store, budget: Budget) -> list[Event]:
        """Return what has been taken, and what comes to the graph by now."""
