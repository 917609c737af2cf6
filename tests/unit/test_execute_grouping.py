"""Stand-ins for what Dask's bags group with do what Dask's own functions do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import dask
import numpy as np
import pytest
from dask import bag
from dask.bag import chunk, core

from amorsize_dask.execute import grouping
from amorsize_dask.execute.fused import find_leaves
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.lowering import read

#: Some of them are equal and yet go to other partitions.
GROUPS: list[Any] = [
    0,
    1,
    True,
    1.0,
    False,
    0.0,
    -0.0,
    np.int64(1),
    2**70,
    "1",
    b"1",
    "",
    "ä" * (grouping.MAX_LENGTH + 1),
    None,
    (1, 2),
    (1.0, 2),
    (True, 2),
    frozenset({1}),
]


class Disk:
    """Keeps what is appended as partd would."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[int, list[Any]], Mapping[str, Any]]] = []

    def append(self, parts: Mapping[int, list[Any]], **options: Any) -> None:
        self.calls.append((dict(parts), options))

    def get(self, group: int, **options: Any) -> list[Any]:
        assert options == {"lock": False}
        return [item for parts, _ in self.calls for item in parts.get(group, ())]


def half(item: Any) -> Any:
    return item // 2


@pytest.mark.parametrize("_", [1, 2])
def test_hashes_are_those_of_dask(_: int) -> None:
    """Also those that are known from before, and of groups that equal another one."""
    dasks = core.groupby_tasks.__defaults__[0]
    for group in GROUPS:
        assert grouping.hash_group(group) == dasks(group), group


def test_pair_with_hash() -> None:
    """An item comes with the hash of its group."""
    dasks = core.groupby_tasks.__defaults__[0]
    expected = chunk.groupby_tasks_group_hash(7, dasks, half)
    assert grouping.pair_with_hash(7, half) == expected


@pytest.mark.parametrize("n_items", [0, 1, 4, 5, 12])
def test_partition_and_collect(n_items: int) -> None:
    """Blocks, parts and groups are the same, and in the same order."""
    ours, dasks = Disk(), Disk()
    assert grouping.partition(half, iter(range(n_items)), 3, ours, 4) is ours
    core.partition(half, iter(range(n_items)), 3, dasks, 4)
    assert ours.calls == dasks.calls
    for group in range(3):
        assert grouping.collect(half, group, ours, None) == core.collect(
            half, group, dasks, None
        )


@pytest.mark.parametrize("shuffle", ["disk", "tasks"])
def test_bags_are_grouped_with_them(shuffle: str) -> None:
    """A groupby uses them, and groups as Dask does."""
    grouped = bag.from_sequence(range(20), npartitions=3).groupby(half, shuffle=shuffle)
    expr = dask.base.collections_to_expr([grouped]).optimize()
    tasks = read(expr, list(dask.core.flatten(expr.__dask_keys__())))
    called = {
        constant.func if isinstance(constant, partial) else constant
        for node in tasks.nodes
        for leaf in find_leaves(node)
        if isinstance(leaf, Piece)
        for constant in leaf.recipe.constants
        if callable(constant)
    }
    wanted = {
        "disk": {grouping.partition, grouping.collect},
        "tasks": {grouping.pair_with_hash},
    }
    assert wanted[shuffle] <= called
    assert not {core.partition, core.collect} & called
    groups = grouped.compute(scheduler="amorsize")
    found = {number: sorted(members) for number, members in groups}
    assert found == {number: [2 * number, 2 * number + 1] for number in range(10)}
