"""How many workers a task may lose."""

from __future__ import annotations

import pytest

from amorsize_dask.core.losses import (
    ALLOWED_FAILURES,
    LOST_FRACTION,
    MISTAKE_FRACTION,
    N_WITNESSES,
    Losses,
)


def test_where_nothing_else_is_known() -> None:
    """A task that has lost three workers in a row is taken for the cause."""
    assert Losses().count_allowed(1_000_000) == ALLOWED_FAILURES == 3


def test_those_that_died_with_a_task_that_kills_say_nothing() -> None:
    """They were in its batch, lost its worker, and did well when they were alone."""
    losses = Losses()
    for _ in range(100):
        losses.note_survivor(0)
    assert losses.count_allowed(1000) == ALLOWED_FAILURES


@pytest.mark.parametrize("n_tasks", [1, 10, 2000, 10**7])
def test_where_workers_are_killed_all_the_time(n_tasks: int) -> None:
    """As many are allowed as bad luck alone hardly brings upon any of the tasks."""
    losses = Losses()
    for _ in range(N_WITNESSES):
        assert losses.count_allowed(n_tasks) == ALLOWED_FAILURES
        losses.note_survivor(1)
    n = losses.count_allowed(n_tasks)
    assert n_tasks * LOST_FRACTION**n <= MISTAKE_FRACTION
    assert n_tasks * LOST_FRACTION ** (n - 1) > MISTAKE_FRACTION
