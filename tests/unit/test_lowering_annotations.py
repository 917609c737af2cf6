"""What users say of tasks is read by key, and keeps different tasks apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import pytest
from dask import delayed
from dask.utils_test import inc

from amorsize_dask.core.model import Lane
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.lowering import find_annotations, read
from amorsize_dask.lowering.annotations import NOTHING, Annotation, Annotations
from amorsize_dask.lowering.priority import prefer


class Lowered:
    """A scheduler that only lowers."""

    annotations: Annotations
    tasks: TaskGraph

    def __init__(self, retries: Any = None) -> None:
        self._retries = retries

    def __call__(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        self.annotations = find_annotations(dsk, self._retries)
        self.tasks = read(dsk, keys, self.annotations)
        raise StopAsyncIteration

    @property
    def stages(self) -> dict[str, tuple[Lane, ...] | None]:
        """The lanes of each stage that isn't bookkeeping."""
        graph = self.tasks.graph
        return {
            self.tasks.stages[stage]: graph.stage_lanes.get(stage)
            for stage in dict.fromkeys(graph.stage_of)
            if stage not in graph.caller_stages
        }


def lower(*collections: Any, retries: Any = None) -> Lowered:
    made = Lowered(retries)
    with pytest.raises(StopAsyncIteration):
        dask.compute(*collections, scheduler=made)
    return made


def make_delayed(annotate: Callable[[], Any]) -> Any:
    first = delayed(inc)(1, dask_key_name="first")
    with annotate():
        second = delayed(str)(first, dask_key_name="second")
    return delayed(len)(second, dask_key_name="third")


def make_bag(annotate: Callable[[], Any]) -> Any:
    bag = db.from_sequence(range(6), npartitions=3).map(inc)
    with annotate():
        bag = bag.map(str)
    return bag.map(len)


def make_array(annotate: Callable[[], Any]) -> Any:
    array = da.ones(6, chunks=2).map_blocks(inc)
    with annotate():
        array = array.map_blocks(abs)
    return array.map_blocks(inc)


MAKERS = [make_delayed, make_bag, make_array]


@pytest.mark.parametrize("make", MAKERS)
def test_what_was_said_differently_stays_apart(make: Callable[..., Any]) -> None:
    """Before, with and after an annotation there are three stages."""
    made = lower(make(lambda: dask.annotate(lane="processes", retries=2)))
    lanes = list(made.stages.values())
    assert lanes.count((Lane.PROCESSES,)) == 1
    n_tasks = len(made.tasks.keys)
    assert list(made.tasks.retries.values()) == [2] * (1 if make is make_delayed else 3)
    assert n_tasks >= 3 * len(made.tasks.retries)


@pytest.mark.parametrize("make", MAKERS)
def test_what_means_nothing_here_parts_nothing(make: Callable[..., Any]) -> None:
    """Workers and resources are for clusters."""
    said = {"workers": ["a"], "resources": {"GPU": 1}, "allow_other_workers": True}
    made = lower(make(lambda: dask.annotate(**said)))
    plain = lower(make(dask.annotate))
    assert not made.annotations
    assert len(made.tasks.keys) == len(plain.tasks.keys)
    assert not made.tasks.retries
    assert not made.tasks.graph.stage_lanes


def test_what_was_said_alike_stays_together() -> None:
    """A chain under one annotation is one task."""
    with dask.annotate(retries=1):
        bag = db.from_sequence(range(6), npartitions=3).map(inc).map(str)
    made = lower(bag)
    assert len(made.tasks.retries) == 3
    assert len(made.stages) == 1


def test_functions_of_keys() -> None:
    """As Dask has it, an annotation may be asked for each key."""
    with dask.annotate(retries=lambda key: key[1]):
        bag = db.from_sequence(range(6), npartitions=3).map(inc)
    made = lower(bag)
    found = {made.tasks.keys[t][1]: n for t, n in made.tasks.retries.items()}
    assert found == {0: 0, 1: 1, 2: 2}


def test_what_is_in_force_while_computing() -> None:
    """It holds for all that have no annotation of their own."""
    with dask.annotate(retries=5):
        one = delayed(inc)(1, dask_key_name="one")
    two = delayed(inc)(2, dask_key_name="two")
    with dask.annotate(retries=1, lane="threads"):
        made = lower(one, two)
    keys = made.tasks.keys
    assert {keys[t]: n for t, n in made.tasks.retries.items()} == {"one": 5, "two": 1}
    assert set(made.stages.values()) == {(Lane.THREADS,)}


def test_retries_of_single_keys_and_of_collections() -> None:
    """They go before annotations, and part chains as these do."""
    with dask.annotate(retries=5):
        one = delayed(inc)(1, dask_key_name="one")
    two = delayed(inc)(one, dask_key_name="two")
    bag = db.from_sequence(range(4), npartitions=2).map(inc)
    made = lower(two, bag, retries={"one": 2, bag: 3})
    keys = made.tasks.keys
    retries = {keys[t]: n for t, n in made.tasks.retries.items()}
    assert retries.pop("one") == 2
    assert list(retries.values()) == [3, 3]
    assert "two" in keys


def test_a_plain_graph() -> None:
    """It has no annotations but those in force."""
    dsk = {"x": (inc, 1), "y": (inc, "x")}
    assert not find_annotations(dsk)
    assert find_annotations(dsk, {"y": 2}).of("y") == Annotation(retries=2)
    with dask.annotate(lane=("threads", "processes")):
        found = find_annotations(dsk)
    assert found.of("x").lanes == (Lane.THREADS, Lane.PROCESSES)
    assert find_annotations(dsk).of("x") is NOTHING


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"retries": -1}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"retries": lambda key: "many"}, "retries"),
        ({"lane": "thread"}, "lane"),
        ({"lane": ()}, "lane"),
        ({"lane": 3}, "lane"),
        ({"priority": float("nan")}, "priority"),
        ({"priority": lambda key: "high"}, "priority"),
    ],
)
def test_values_that_make_no_sense(said: dict[str, Any], name: str) -> None:
    """They are refused with their name."""
    with dask.annotate(**said):
        value = delayed(inc)(1)
    with pytest.raises(ArgumentError, match=f"annotation {name}"):
        dask.compute(value, scheduler=Lowered())


def test_a_function_that_raises() -> None:
    """Its exception arrives as itself, and Dask isn't blamed for it."""

    def refuse(key: Any) -> int:
        raise TypeError("not mine")

    with dask.annotate(retries=refuse):
        value = delayed(inc)(1)
    with pytest.raises(TypeError, match="not mine"):
        dask.compute(value, scheduler=Lowered())


def test_who_goes_first() -> None:
    """Higher priorities, and what they need; then as it was."""
    #    0 -> 1, 2, 3 -> 4
    dependencies: list[list[int]] = [[], [0], [], [], [3]]
    assert prefer(dependencies, [0, 0, 0, 0, 0]) is None
    assert prefer(dependencies, [0, 0, 1, 0, 2]) == [3, 4, 2, 0, 1]
    assert prefer(dependencies, [0, -1, 0, 0, 0]) == [0, 2, 3, 4, 1]


def test_priorities_order_tasks() -> None:
    """Whatever the order in which they were asked for."""
    values = []
    for i in range(4):
        with dask.annotate(priority=i % 2):
            values.append(delayed(inc)(i, dask_key_name=f"v{i}"))
    made = lower(*values)
    assert made.tasks.keys == ["v1", "v3", "v0", "v2"]
