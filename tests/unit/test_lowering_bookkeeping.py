from __future__ import annotations

import sys
from operator import add, getitem
from typing import Any

import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import pandas as pd
import pytest
from dask._task_spec import Dict, List, Task, TaskRef
from dask.delayed import delayed
from dask.graph_manipulation import bind, checkpoint
from dask.utils_test import inc
from test_lowering_graph import lower_collection

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.lowering import lower


def bookkeeping(tasks: TaskGraph) -> list[str]:
    """Return the names of the stages that belong into the caller, by task."""
    return [
        tasks.stage_name(task)
        for task, stage in enumerate(tasks.graph.stage_of)
        if stage in tasks.graph.caller_stages
    ]


def work(tasks: TaskGraph) -> list[str]:
    """Return the names of the stages that don't, by task."""
    return [
        tasks.stage_name(task)
        for task, stage in enumerate(tasks.graph.stage_of)
        if stage not in tasks.graph.caller_stages
    ]


BAG = db.from_sequence(range(12), npartitions=4).map(inc)


@pytest.mark.parametrize(
    ("collection", "names"),
    [
        (BAG, ["finalize"]),
        (BAG.repartition(2), ["repartition", "repartition", "finalize"]),
        (BAG.repartition(1), ["repartition-finalize"]),
        (BAG.repartition(8), ["repartition"] * 8 + ["finalize"]),
        (BAG.sum(), []),
        (BAG.map(add, BAG.sum()), ["finalize"]),
        (da.ones((4, 4), chunks=2) + 1, ["finalize"]),
        ((da.ones((4, 4), chunks=2) + 1).sum(), []),
        (
            dd.from_pandas(pd.DataFrame({"a": range(9)}), npartitions=3) + 1,
            ["repartitiontofewer"],
        ),
        (delayed([delayed(inc)(1), {"a": delayed(inc)(2)}]), ["list"]),
        (delayed(len)(BAG), []),
        (delayed(sum)([delayed(inc)(i) for i in range(3)]), []),
        (checkpoint(BAG), ["checkpoint"]),
    ],
)
def test_what_only_passes_values_on_belongs_into_the_caller(
    collection: Any, names: list[str]
) -> None:
    """The ends of collections, pieces that are cut off, containers; never work."""
    found = bookkeeping(lower_collection(collection))
    assert len(found) == len(names)
    for stage, name in zip(sorted(found), sorted(names), strict=True):
        assert stage.startswith(name.split("-")[0])


def test_a_shuffle_on_disk_makes_its_folder_in_the_caller() -> None:
    """A worker would keep it for as long as it lives, or be gone before it is used."""
    tasks = lower_collection(BAG.groupby(lambda x: x % 3, shuffle="disk"))
    assert set(bookkeeping(tasks)) == {
        "partd",
        "groupby-barrier",
        "finalize-hlgfinalizecompute",
    }
    assert work(tasks).count("groupby-collect") == 4


def test_a_shuffle_by_tasks_hands_out_pieces_in_the_caller() -> None:
    """A worker would get all groups for each piece."""
    tasks = lower_collection(BAG.groupby(lambda x: x % 3, shuffle="tasks"))
    assert bookkeeping(tasks).count("shuffle-split") == 16
    assert "shuffle-split" not in work(tasks)


def test_a_container_with_work_inside_is_work() -> None:
    """However deep: nothing of the user's runs by mistake."""
    dsk: dict[str, Any] = {
        "a": Task("a", inc, 1),
        "list": List(TaskRef("a"), Dict({"b": List(Task(None, inc, 1))})),
        "cast": Task("cast", tuple, TaskRef("a")),
    }
    assert bookkeeping(lower(dsk, ["list", "cast"])) == []


def test_a_container_joins_the_task_that_needs_it() -> None:
    """So that its values go to where the task runs, and nowhere else."""
    dsk = {
        "a": Task("a", inc, 1),
        "b": Task("b", inc, 2),
        "list": List(TaskRef("a"), TaskRef("b")),
        "sum": Task("sum", sum, TaskRef("list")),
    }
    tasks = lower(dsk, "sum")
    assert list(tasks.keys) == ["a", "b", "sum"]
    assert bookkeeping(tasks) == []


def test_a_container_that_several_need_is_made_once() -> None:
    """In the caller, where it costs no copy."""
    dsk = {
        "a": Task("a", inc, 1),
        "b": Task("b", inc, 2),
        "list": List(TaskRef("a"), TaskRef("b")),
        "sum": Task("sum", sum, TaskRef("list")),
        "len": Task("len", len, TaskRef("list")),
    }
    assert bookkeeping(lower(dsk, ["sum", "len"])) == ["list"]


def test_a_concatenation_that_work_needs_is_work() -> None:
    """Its values would come into the caller only to leave it again."""
    tasks = lower_collection(BAG.repartition(2).map(inc))
    assert bookkeeping(tasks) == ["finalize-hlgfinalizecompute"]


def test_items_of_unknown_values_are_work() -> None:
    """What is taken from may be a class whose items take long to make."""
    pair = delayed(divmod, nout=2)(7, 2)
    dsk = {"x": (inc, 1), "y": (getitem, "x", 0), "z": (getitem, "x", 1)}
    assert bookkeeping(lower(dsk, ["y", "z"])) == []
    assert bookkeeping(lower_collection(*pair)) == []


@pytest.mark.parametrize(
    "task", [(list,), (tuple, [1, 2]), (getitem, [1, 2], 0), (getitem, [1, 2])]
)
def test_tasks_without_inputs_are_work(task: tuple[Any, ...]) -> None:
    """There is nothing to pass on."""
    assert bookkeeping(lower({"x": task}, "x")) == []


def test_bags_need_not_have_been_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then no task is one of theirs."""
    monkeypatch.delitem(sys.modules, "dask.bag.core")
    dsk = {"x": [1, 2], "y": (getitem, "x", 0), "z": (inc, "y")}
    assert bookkeeping(lower(dsk, ["y", "z"])) == []


def test_waiting_for_others_is_no_work() -> None:
    """A bind passes one value on when others are there as well."""
    end = bind(delayed(inc)(1), delayed(inc)(2))
    assert all("inc" not in name for name in bookkeeping(lower_collection(end)))
