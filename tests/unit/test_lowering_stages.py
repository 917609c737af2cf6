from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from operator import add
from typing import Any

import dask.bag as db
import numpy as np
import pytest
from dask._task_spec import List, Task, TaskRef
from dask.utils import apply
from dask.utils_test import dec, inc
from test_lowering_graph import lower_collection

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.lowering import lower
from amorsize_dask.lowering.stages import MAX_NAME, MAX_STAGES


def stages_of(tasks: TaskGraph) -> list[str]:
    """Return the names of the tasks' stages."""
    return [tasks.stage_name(task) for task in range(len(tasks.graph))]


def lower_all(dsk: dict[Any, Any]) -> TaskGraph:
    """Lower a graph all of whose keys are wanted, so that nothing is fused."""
    return lower(dsk, list(dsk))


def test_a_layers_tasks_are_one_stage() -> None:
    """They share the first part of their keys and the function."""
    tasks = lower_all({("load-0b", i): (inc, i) for i in range(3)})
    assert stages_of(tasks) == ["load"] * 3
    assert tasks.graph.n_stages == 1


def test_tasks_of_a_name_with_other_functions_are_other_stages() -> None:
    """A shared name alone says little."""
    tasks = lower_all({("x", 0): (inc, 1), ("x", 1): (dec, 1), ("y", 0): (inc, 1)})
    assert list(tasks.graph.stage_of) == [0, 1, 2]
    assert list(tasks.stages) == ["x", "x", "y"]


def test_numbers_at_the_end_of_names_do_not_count() -> None:
    """Unless a stage has one of them only: it may well be a function's name."""
    dsk = {
        "x1": (inc, 1),
        "x2": (inc, 2),
        "x_3": (inc, 2),
        "md5-0": (dec, 1),
        7: (add, 1, 1),
    }
    tasks = lower_all(dsk)
    assert stages_of(tasks) == ["x", "x", "x", "md5", "Other"]


def test_a_chain_is_named_after_its_links() -> None:
    """Each name once, in the order in which they run."""
    dsk: dict[Any, Any] = {}
    for i in range(2):
        dsk["load-0", i] = (inc, i)
        dsk["parse-0", i] = (dec, ("load-0", i))
        dsk["load-1", i] = (inc, ("parse-0", i))
    tasks = lower(dsk, [("load-1", 0), ("load-1", 1)])
    assert stages_of(tasks) == ["load-parse"] * 2


def test_the_name_of_a_long_chain_is_cut() -> None:
    """It is for people, who don't read a thousand names."""
    dsk: dict[str, Any] = {
        f"{'abcdefgh'[i % 8] * (1 + i // 8)}-{i}": i for i in range(80)
    }
    keys = list(dsk)
    dsk = {key: (inc, before) for before, key in pairwise(keys)}
    dsk[keys[0]] = (inc, 1)
    (name,) = lower(dsk, keys[-1]).stages
    assert len(name) == MAX_NAME
    assert name.startswith("a-b-c-")


def make_lambda(n: int) -> Callable[[int], int]:
    return lambda x: x + n


class Callable_:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, x: int) -> int:
        return x + self.n

    __hash__ = None  # type: ignore[assignment]


class Method:
    def run(self, x: int) -> int:
        return x


@pytest.mark.parametrize(
    "functions",
    [
        [make_lambda(1), make_lambda(2)],
        [partial(add, 1), partial(add, 2)],
        [Callable_(1), Callable_(2)],
        [Method().run, Method().run],
        [np.negative, np.negative],
    ],
)
def test_functions_that_do_the_same_make_one_stage(functions: list[Any]) -> None:
    """Whatever kind of object they are: closures of one code, partials, instances."""
    tasks = lower_all({("f", i): (f, 1) for i, f in enumerate(functions)})
    assert list(tasks.graph.stage_of) == [0, 0]


@pytest.mark.parametrize(
    "functions",
    [
        [make_lambda(1), lambda x: x],
        [partial(add, 1), partial(max, 2)],
        [Callable_(1), Method().run],
        [np.negative, np.positive],
    ],
)
def test_functions_that_do_not_make_two(functions: list[Any]) -> None:
    """Also under the same name."""
    tasks = lower_all({("f", i): (f, 1) for i, f in enumerate(functions)})
    assert list(tasks.graph.stage_of) == [0, 1]


def test_what_is_applied_counts_not_apply() -> None:
    """Tasks as tuples pass named arguments through `dask.utils.apply`."""
    tasks = lower_all(
        {f"f-{i}": (apply, f, [1]) for i, f in enumerate([inc, dec, inc])}
    )
    assert list(tasks.graph.stage_of) == [0, 1, 0]


def test_names_that_are_the_tasks_own_make_no_stages() -> None:
    """Where there are too many of them, functions alone tell stages apart."""
    letters = [chr(ord("a") + i) for i in range(26)]
    names = [a + b for a in letters for b in letters][: MAX_STAGES + 1]
    dsk = {name: (inc if i % 2 else dec, i) for i, name in enumerate(names)}
    few = lower_all(dict(list(dsk.items())[:MAX_STAGES]))
    assert few.graph.n_stages == MAX_STAGES
    many = lower_all(dsk)
    assert list(many.stages) == ["dec", "inc"]


def test_bookkeeping_is_a_stage_of_its_own() -> None:
    """A task of the same name and function that works is in another one."""
    dsk = {
        ("x", 0): List(Task(None, inc, 1)),
        ("x", 1): List(TaskRef(("x", 0))),
    }
    tasks = lower_all(dsk)
    assert list(tasks.graph.stage_of) == [0, 1]
    assert tasks.graph.caller_stages == {1}


def test_a_bags_stages_are_its_steps() -> None:
    """As many as a person would count."""
    tasks = lower_collection(db.from_sequence(range(20), npartitions=20).map(inc).sum())
    assert stages_of(tasks)[0] == "from_sequence-inc-sum-part"
    assert len(set(tasks.graph.stage_of)) <= 3
