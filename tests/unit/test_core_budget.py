"""What is held is counted, and what is needed last goes to disk first."""

from __future__ import annotations

import pytest
from simulated import staged

from amorsize_dask.core.budget import HIGH_WATER, LARGE_BYTES, LOW_WATER, Budget
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.outcome import Outcome

MB = 10**6
LIMIT = 100 * MB


def make(
    n_producers: int = 4, *, may_spill_wanted: bool = True, n_finished: int = 4
) -> tuple[GraphState, Budget]:
    """Return producers 0, 1, ..., and a consumer of each in reverse order."""
    dependencies: list[list[int]] = [[] for _ in range(n_producers)]
    dependencies += [[task] for task in reversed(range(n_producers))]
    stages = [0] * n_producers + [1] * n_producers
    state = GraphState(staged(stages, dependencies))
    state.finish(state.take(0, n_finished))
    return state, Budget(state, LIMIT, may_spill_wanted=may_spill_wanted)


def outcomes(*sizes: int | None) -> list[Outcome]:
    return [Outcome(task, 0.1, 0.1, size) for task, size in enumerate(sizes)]


def test_results_count_until_they_are_dropped() -> None:
    """Large ones as they are, others by what the stage's take in the mean."""
    _, budget = make()
    budget.hold(0, outcomes(20 * MB, 10 * MB, 400, None), 500)
    assert budget.held_bytes == 30 * MB + 900
    budget.drop([0])
    assert budget.held_bytes == 10 * MB + 900
    budget.drop([2, 3])
    assert budget.held_bytes == 10 * MB
    budget.drop([1])
    assert budget.held_bytes == 0
    assert budget.peak_bytes == 30 * MB + 900
    budget.validate()


def test_what_a_result_takes_as_an_object_counts() -> None:
    """Where that was measured; its pickle may be much smaller."""
    _, budget = make()
    budget.hold(0, [Outcome(0, 0.1, 0.1, 1 * MB, None, 5 * MB)], 0)
    assert budget.held_bytes == 5 * MB


def test_running_tasks_count_until_they_end() -> None:
    """Each worker's batches in order, or all at once when it is lost."""
    _, budget = make()
    budget.begin(2, 10.0)
    budget.begin(2, 20.0)
    budget.begin(3, 5.0)
    budget.end(2)
    assert budget.running_bytes == 25
    budget.begin(2, 40.0)
    budget.end(2, -1)
    assert budget.running_bytes == 25
    budget.lose(2)
    budget.lose(7)
    assert budget.running_bytes == 5
    assert budget.room_bytes == HIGH_WATER * LIMIT - 5


def test_what_others_take_lowers_the_limit() -> None:
    """Only what is missing beyond all that is counted here, and until it is back."""
    _, budget = make()
    budget.hold(0, outcomes(20 * MB), 0)
    budget.begin(2, 30 * MB)
    budget.note_growth(2, 10 * MB)
    budget.note_left(40 * MB)
    assert not budget.is_lowered
    assert budget.limit_bytes == LIMIT
    budget.note_left(10 * MB)
    assert budget.is_lowered
    assert budget.limit_bytes == 70 * MB
    assert budget.room_bytes == HIGH_WATER * 70 * MB - 60 * MB
    assert budget.spill(1 * MB) == [0]  # down to the low water, were there enough
    budget.note_left(500 * MB)
    assert not budget.is_lowered
    assert budget.limit_bytes == LIMIT
    assert budget.least_limit_bytes == 70 * MB
    budget.validate()


def test_what_is_needed_last_goes_first() -> None:
    """Down to the low water, so that it isn't a few for each batch."""
    _, budget = make()
    budget.hold(0, outcomes(*[25 * MB] * 4), 0)
    spilled = budget.spill(1 * MB)
    # The first consumer, task 4, needs task 3.
    assert spilled == [0, 1]
    assert budget.held_bytes == 50 * MB <= LOW_WATER * LIMIT
    assert budget.bytes_to_load([0, 1, 2]) == 50 * MB
    assert budget.spill(1 * MB) == []
    budget.validate()


def test_what_is_in_use_stays() -> None:
    """What a task in flight needs, and what the caller of `spill` is about to."""
    state, budget = make()
    budget.hold(0, outcomes(*[25 * MB] * 4), 0)
    state.take(1, 1)  # task 4, on task 3
    assert budget.spill(LIMIT, kept=[0]) == [1, 2]


def test_small_results_stay() -> None:
    """A file for each would cost more than it gives."""
    _, budget = make()
    budget.hold(0, outcomes(*[LARGE_BYTES - 1] * 4), 0)
    assert budget.spill(LIMIT) == []


@pytest.mark.parametrize("may_spill", [True, False])
def test_what_the_user_wants(may_spill: bool) -> None:
    """It is needed last; where the user takes it as it comes it doesn't go at all."""
    state = GraphState(staged([0, 0]))
    state.finish(state.take(0, 2))
    budget = Budget(state, LIMIT, may_spill_wanted=may_spill)
    budget.hold(0, outcomes(60 * MB, 60 * MB), 0)
    assert budget.spill(1 * MB) == ([1] if may_spill else [])


def test_what_is_read_back_is_held_again() -> None:
    """A task of the caller needs it in memory; one of a worker process does not."""
    _, budget = make()
    budget.hold(0, outcomes(*[25 * MB] * 4), 0)
    budget.spill(1 * MB)
    budget.begin(2, 0.0)
    assert budget.held_bytes == 50 * MB
    budget.begin(1, 0.0, read=[0, 3])
    assert budget.held_bytes == 75 * MB
    assert budget.bytes_to_load([0, 1]) == 25 * MB
    budget.drop([0, 1])
    assert budget.held_bytes == 50 * MB
    assert not budget.has_unread


def test_what_cannot_be_written_stays_and_is_not_asked_for_again() -> None:
    """A full disk doesn't make every batch try."""
    _, budget = make()
    budget.hold(0, outcomes(*[25 * MB] * 4), 0)
    spilled = budget.spill(1 * MB)
    budget.keep(spilled)
    assert budget.held_bytes == 100 * MB
    assert not set(spilled) & set(budget.spill(1 * MB))
    budget.validate()


def filed(task: int, file_bytes: int, loaded_bytes: int) -> Outcome:
    """Return what came of a task whose result is in a file."""
    return Outcome(task, 0.1, 0.1, file_bytes, loaded_bytes=loaded_bytes)


def test_results_in_files_take_more_once_they_are_loaded() -> None:
    """Here beside the file, which others may need; in another process by themselves."""
    _, budget = make()
    budget.hold(0, [filed(0, 5 * MB, 20 * MB), filed(1, 30 * MB, 100)], 0)
    assert budget.held_bytes == 35 * MB
    assert budget.here_bytes == 0
    assert budget.bytes_of_large([0]) == 20 * MB
    assert budget.bytes_of_large([1]) == 30 * MB
    assert budget.bytes_to_load([0, 1]) == 20 * MB
    budget.begin(1, 2 * MB, read=[0, 1], is_here=True)
    assert budget.held_bytes == 55 * MB
    assert budget.here_bytes == 22 * MB
    assert budget.bytes_to_load([0, 1]) == 0
    budget.end(1)
    budget.validate()
    # On disk is the file; it is the object that is read again.
    assert budget.spill(LIMIT) == [0, 1]
    assert budget.held_bytes == budget.here_bytes == 0
    assert budget.bytes_to_load([0, 1]) == 50 * MB
    budget.validate()


def test_results_in_files_are_loaded_with_care_where_memory_is_short() -> None:
    """It matters to no one where there is enough."""
    _, budget = make()
    budget.hold(0, [filed(0, 5 * MB, 20 * MB)], 0)
    assert not budget.has_unread
    budget.begin(2, LOW_WATER * LIMIT)
    assert budget.has_unread


def test_what_the_caller_keeps_is_beside_what_it_is_known_to_have() -> None:
    """Files, and what workers take, are not in it."""
    _, budget = make()
    budget.hold(0, [filed(0, 30 * MB, 0), Outcome(1, 0.1, 0.1, 10 * MB)], 0)
    budget.begin(2, 20 * MB)
    budget.begin(1, 5 * MB, is_here=True)
    budget.note_caller_growth(25 * MB)
    assert budget.caller_grown_bytes == 10 * MB
