"""Which modules of Dask workers will need."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import Any

import dask.bag as db
import pytest
from dask import delayed
from dask._task_spec import Task
from worker_tasks import recurse

from amorsize_dask.execute.preload import N_LOOKED, find_modules, of_dask
from amorsize_dask.lowering import lower, read


def find_in(collection: Any) -> list[str]:
    graph = collection.__dask_graph__()
    return of_dask(find_modules(read(graph, collection.__dask_keys__())))


def use_dask(x: int) -> Any:
    return db.range(x, npartitions=1)


def test_most_bags_need_none() -> None:
    """Functions of the user's and of Python, over data of the user's."""
    assert find_in(db.from_sequence([1, 2, 3], npartitions=2).map(str)) == []
    assert find_in(db.from_sequence([1, 2, 3], npartitions=2).map(str).sum()) == []


def test_nodes_of_dasks_own() -> None:
    """They are unpickled into its classes, fused or not."""
    graph = {
        "a": Task("a", use_dask, 1),
        **{("b", i): Task(("b", i), recurse, Task(None, recurse, 2)) for i in range(9)},
    }
    assert "dask._task_spec" in find_modules(lower(graph, ["a", ("b", 1)]))


@pytest.mark.parametrize("wrap", [lambda f: f, partial, lambda f: partial(partial(f))])
def test_functions_that_use_dask(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their module, which imports it, or by the names that they use."""
    import worker_tasks

    function = wrap(use_dask)
    assert find_in(db.from_sequence([1], npartitions=1).map(function)) == ["dask.bag"]
    assert find_in(delayed(function)(1)) == ["dask.bag"]
    monkeypatch.setattr(worker_tasks, "dask", ModuleType("dask"), raising=False)
    assert find_in(db.from_sequence([1], npartitions=1).map(recurse)) == ["dask"]


@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_functions_of_a_script(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """They travel with what they use, and not with all that the script has."""
    script = ModuleType(name)
    exec(
        "import dask.bag\n"
        "def uses(x): return dask.bag.range(x, 1)\n"
        "def does_not(x): return x\n",
        script.__dict__,
    )
    monkeypatch.setitem(sys.modules, name, script)
    bag = db.from_sequence([1], npartitions=1)
    assert find_in(bag.map(script.uses)) == ["dask"]
    assert find_in(bag.map(script.does_not)) == []


def test_it_looks_at_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a million tasks don't take longer to look at than to run."""
    from amorsize_dask.execute import preload

    seen = []
    monkeypatch.setattr(preload, "_parts", lambda node: seen.append(node) or ())
    find_in(db.from_sequence(range(5000), npartitions=5000).map(recurse))
    assert N_LOOKED <= len(seen) < 2 * N_LOOKED
