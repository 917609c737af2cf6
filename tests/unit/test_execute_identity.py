"""Stages are known by what their functions do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import dask.bag as db
from dask import delayed

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.identity import (
    MAX_STAGES,
    find_firsts,
    fingerprint_items,
    fingerprint_stages,
)
from amorsize_dask.lowering import read


def lowered(*collections: Any) -> TaskGraph:
    """Lower collections as a compute does."""
    found: list[TaskGraph] = []

    def get(dsk: Any, keys: Any, **_: Any) -> Any:
        found.append(read(dsk, keys))
        return dask.get(dsk, keys)

    dask.compute(*collections, scheduler=get)
    return found[0]


def fingerprints(tasks: TaskGraph) -> dict[int, str]:
    return fingerprint_stages(tasks, find_firsts(tasks))


def known(*collections: Any) -> set[str]:
    return set(fingerprints(lowered(*collections)).values())


def one(x: int) -> int:
    return x + 1


def same(x: int) -> int:
    return x + 1


def other(x: int) -> int:
    return x + 2


def bag(function: Callable[[int], int], n: int = 10) -> db.Bag:
    return db.from_sequence(range(n), npartitions=2).map(function)


def test_bags_are_known_by_their_functions():
    assert known(bag(one)) == known(bag(same)) == known(bag(one, 1000))
    assert not known(bag(one)) & known(bag(other))


def test_what_follows_depends_on_what_it_follows():
    after_one, after_other = (known(bag(f).sum()) for f in (one, other))
    assert len(after_one) >= 2
    assert after_one == known(bag(same).sum())
    assert not after_one & after_other


def test_delayed_calls():
    calls = [delayed(one)(i) for i in range(3)]
    assert known(*calls) == known(*(delayed(same)(i) for i in range(5)))
    assert not known(*calls) & known(delayed(other)(0))


def test_bookkeeping_is_no_stage_to_know():
    tasks = lowered(bag(one))
    assert not tasks.graph.caller_stages & fingerprints(tasks).keys()


def test_many_stages_are_too_many():
    names = [
        delayed(one)(i, dask_key_name=f"{chr(97 + i // 26)}{chr(97 + i % 26)}-{i}")
        for i in range(MAX_STAGES + 20)
    ]
    tasks = lowered(*names)
    assert tasks.graph.n_stages > MAX_STAGES
    assert fingerprints(tasks) == {}


def follow(*stages: Callable[..., Any] | tuple[Any, ...]) -> list[str]:
    """Return the fingerprints of a pipeline of functions."""
    calls = [stage if isinstance(stage, tuple) else (stage,) for stage in stages]
    return fingerprint_items([(functions, "one 0") for functions in calls])


class Adder:
    """Adds a number, which isn't a part of what it is known by."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, x: int) -> int:
        return x + self._number


def test_stages_of_pipelines_are_known_by_their_functions():
    """And by those of the stages before, for what they make is what it gets."""
    assert follow(one, other) == follow(same, other)
    assert len(set(follow(one, one, one))) == 3
    (first, second), (alone,) = follow(one, other), follow(other)
    assert alone not in (first, second)
    assert follow(other, other)[1] != second


def test_what_is_called_needs_no_name():
    """Lambdas, partials and callable objects: by their code and plain arguments."""
    assert follow(lambda x: x + 1) == follow(one)
    assert follow(partial(pow, 2)) == follow(partial(pow, 2))
    assert follow(partial(pow, 2)) != follow(partial(pow, 3))
    assert follow(Adder(1)) == follow(Adder(2)) != follow(one)


def test_the_way_in_which_it_is_called_counts():
    """A batch takes longer than an item, and what is set up may be anything."""
    ways = [[((one,), way)] for way in ("one 0", "filter 0", "batch 8", "batch 9")]
    assert len({*map(tuple, map(fingerprint_items, ways))}) == 4
    assert follow((one, same)) != follow(one)


def test_pipelines_of_many_stages_are_measured_anew():
    assert len(follow(*[one] * MAX_STAGES)) == MAX_STAGES
    assert not follow(*[one] * (MAX_STAGES + 1))
