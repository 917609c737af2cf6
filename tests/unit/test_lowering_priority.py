from __future__ import annotations

from collections.abc import Sequence

import pytest
from dask._task_spec import Task, TaskRef
from dask.order import order
from dask.utils_test import inc
from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask.lowering.priority import bring_forward, prioritize


@pytest.mark.parametrize(
    "dependencies",
    [
        [],
        [[], [], []],
        # Shallow, with shared inputs.
        [[], [], [0, 1], [0], [1]],
        # Deep, but each value has one user.
        [[], [0], [], [2], [1, 3], [], [4, 5]],
    ],
)
def test_the_walk_down_from_the_results_is_good_enough(
    dependencies: list[list[int]],
) -> None:
    """Flat graphs and trees are left as they are, at no cost."""
    assert prioritize(dependencies) is None


def count_held(dependencies: Sequence[Sequence[int]], sequence: Sequence[int]) -> int:
    """Return the most values that are held at once."""
    left = [0] * len(dependencies)
    for needed in dependencies:
        for task in needed:
            left[task] += 1
    held = most = 0
    for task in sequence:
        held += 1
        most = max(most, held)
        for needed in dependencies[task]:
            left[needed] -= 1
            held -= not left[needed]
    return most


def test_deep_graphs_with_shared_values_go_by_dasks_order() -> None:
    """All tasks once, each after those that it needs, as few values held as there."""
    n = 12
    # A grid: each needs those to its left and above, as in a table of partial sums.
    dependencies = [
        [i * n + j - 1] * (j > 0) + [(i - 1) * n + j] * (i > 0)
        for i in range(n)
        for j in range(n)
    ]
    sequence = prioritize(dependencies)
    assert sequence is not None
    assert sorted(sequence) == list(range(n * n))
    rank = {task: i for i, task in enumerate(sequence)}
    assert all(
        rank[d] < rank[task] for task, needed in enumerate(dependencies) for d in needed
    )
    dsk = {
        str(task): Task(str(task), inc, *(TaskRef(str(d)) for d in needed))
        for task, needed in enumerate(dependencies)
    }
    priorities = order(dsk)
    theirs = sorted(range(n * n), key=lambda task: priorities[str(task)])
    assert count_held(dependencies, sequence) == count_held(dependencies, theirs)


def test_parts_follow_what_they_are_taken_from() -> None:
    """Also parts of parts, whatever the order of the others, which stays as it was."""
    # 0 and 1 make values, 2 to 5 take their parts, 6 a part of 2, 7 and 8 join parts.
    dependencies = [[], [], [0], [0], [1], [1], [2], [6, 4], [3, 5]]
    parts = [2, 3, 4, 5, 6]
    expected = [1, 4, 5, 0, 2, 6, 3, 8, 7]
    assert bring_forward(dependencies, parts, [1, 0, 3, 5, 8, 2, 4, 6, 7]) == expected
    expected = [0, 2, 6, 3, 1, 4, 5, 7, 8]
    assert bring_forward(dependencies, parts, None) == expected


@given(st.data())
def test_bringing_parts_forward_keeps_the_order_valid(data: st.DataObject) -> None:
    """All tasks once, each after those that it needs."""
    n = data.draw(st.integers(0, 12))
    dependencies = [
        sorted(data.draw(st.sets(st.integers(0, task - 1), max_size=3))) if task else []
        for task in range(n)
    ]
    single = [task for task, needed in enumerate(dependencies) if len(needed) == 1]
    parts = [task for task in single if data.draw(st.booleans())]
    found = bring_forward(dependencies, parts, None)
    assert sorted(found) == list(range(n))
    rank = {task: i for i, task in enumerate(found)}
    assert all(
        rank[d] < rank[task] for task, needed in enumerate(dependencies) for d in needed
    )
    others = [task for task in found if task not in parts]
    assert others == sorted(others)
