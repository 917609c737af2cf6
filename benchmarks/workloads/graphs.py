"""Graphs of delayed tasks that do next to nothing: a tree, a wide one, a chain."""

from __future__ import annotations

from typing import Any

from by_hand import loop
from limits import NOT_SLOWER_THAN_STOCK, ratio
from workload import Job, Setting, Workload

#: Why joblib has no part in a graph whose tasks depend on each other.
NO_GRAPHS = "it has no graphs"


def increase(number: int) -> int:
    """Return the number and one."""
    return number + 1


def add(left: int, right: int) -> int:
    """Return the sum."""
    return left + right


def add_pairwise(data: range, increase: Any = increase, add: Any = add) -> Any:
    """Increase each number, and add them in pairs until one is left."""
    level = [increase(number) for number in data]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = level[len(level) // 2 * 2 :]
        level = [add(left, right) for left, right in pairs] + odd
    return level[0]


def increase_often(data: range, increase: Any = increase) -> Any:
    """Increase the first of the numbers as often as there are numbers."""
    number = data.start
    for _ in data:
        number = increase(number)
    return number


def make_leaves(setting: Setting, variant: int) -> range:
    """Return the 2,000 leaves of a tree, or of as many independent tasks."""
    return range(variant, variant + setting.size(2_000, 50))


def make_links(setting: Setting, variant: int) -> range:
    """Return the 1,000 links of a chain."""
    return range(variant, variant + setting.size(1_000, 50))


def tree(data: range) -> Any:
    """Return the delayed root of a tree."""
    from dask import delayed

    return add_pairwise(data, delayed(increase), delayed(add))


def wide(data: range) -> Any:
    """Return independent delayed results."""
    from dask import delayed

    do = delayed(increase)
    return [do(number) for number in data]


def chain(data: range) -> Any:
    """Return the delayed end of a chain."""
    from dask import delayed

    return increase_often(data, delayed(increase))


WORKLOADS = (
    Workload(
        name="tree",
        title="4,000 trivial tasks: 2,000 leaves added pairwise, delayed",
        make=make_leaves,
        collection=tree,
        job=lambda data: Job(add_pairwise, [data], next),
        by_hand={"loop": loop},
        limits=(ratio(0.4, "sync"),),
        left_out={"joblib": NO_GRAPHS},
        n_repeats=3,
    ),
    Workload(
        name="wide",
        title="2,000 independent delayed tasks that do nothing",
        make=make_leaves,
        collection=wide,
        job=lambda data: Job(increase, data),
        by_hand={"loop": loop},
        limits=(NOT_SLOWER_THAN_STOCK,),
        n_repeats=3,
    ),
    Workload(
        name="chain",
        title="a chain of 1,000 delayed tasks that do nothing",
        make=make_links,
        collection=chain,
        job=lambda data: Job(increase_often, [data], next),
        by_hand={"loop": loop},
        limits=(NOT_SLOWER_THAN_STOCK,),
        left_out={"joblib": NO_GRAPHS},
        n_repeats=5,
    ),
)
