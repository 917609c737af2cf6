"""The fast way to lower bags: what it makes of them, and when it isn't taken."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path
from typing import Any

import dask
import dask.bag as db
import pytest
from dask import delayed
from dask.utils_test import inc
from reference import run, validate

from amorsize_dask.execute import stand_ins
from amorsize_dask.execute.fused import Chain
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.parts import Rest
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.lowering import layers, read, read_fast
from amorsize_dask.lowering.collector import (
    MANY_OBJECTS,
    MANY_TASKS,
    PausedCollector,
    SparedGraph,
)


class Lowered:
    """Computes by lowering, and keeps what was made of it."""

    def __init__(self) -> None:
        self.tasks: TaskGraph | None = None
        self.was_fast = False

    def __call__(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        self.was_fast = layers.try_fast(lambda: read_fast(dsk, keys)) is not None
        self.tasks = read(dsk, keys)
        validate(self.tasks)
        return run(self.tasks, keys)

    @property
    def pieces(self) -> list[Piece]:
        """The pieces in order, those in chains included."""
        assert self.tasks is not None
        found: list[Any] = []
        for node in self.tasks.nodes:
            found += node.nodes if isinstance(node, Chain) else [node]
        return [node for node in found if isinstance(node, Piece)]


@pytest.fixture
def lowered() -> Lowered:
    return Lowered()


def numbers(n: int, n_partitions: int) -> db.Bag:
    return db.from_sequence(range(n), npartitions=n_partitions)


# -- what is made ----------------------------------------------------------------------


def test_partitions_share_a_recipe(lowered: Lowered) -> None:
    """What differs is their slice alone."""
    bag = numbers(1000, 100).map(inc).filter(lambda x: x % 2).map(inc)
    bag.compute(scheduler=lowered)
    assert lowered.was_fast
    recipes = {id(piece.recipe) for piece in lowered.pieces[:100]}
    assert len(recipes) == 1
    assert lowered.tasks is not None
    assert lowered.tasks.stages[0] == "inc-filter-lambda"
    assert lowered.pieces[3].arguments == (list(range(30, 40)),)


def test_map_over_one_bag_is_the_builtin(lowered: Lowered) -> None:
    """Whatever is repeated beside it; over several bags lengths are compared."""
    one, other = numbers(10, 2), db.from_sequence(range(11), npartitions=2)
    for bag in (one.map(inc), one.map(add, 1), one.map(lambda x, y: x, y=2)):
        bag.compute(scheduler=lowered)
        assert map in lowered.pieces[0].recipe.functions
    two = db.map(add, one, one.map(inc))
    assert two.compute(scheduler=lowered) == [2 * x + 1 for x in range(10)]
    adding = [piece.recipe for piece in lowered.pieces if add in piece.recipe.constants]
    assert adding
    assert all(map not in recipe.functions for recipe in adding)
    with pytest.raises(ValueError, match="identically partitioned"):
        db.map(add, one, other).compute(scheduler=lowered)


def test_a_shuffle_takes_its_parts_at_once(lowered: Lowered) -> None:
    """They don't wait, nor does what they are taken from, until they are joined."""
    groups = numbers(100, 9).groupby(lambda x: x % 5, shuffle="tasks", max_branch=3)
    assert sorted(groups.compute(scheduler=lowered))[0] == (0, list(range(0, 100, 5)))
    assert lowered.tasks is not None
    dependencies = lowered.tasks.graph.dependencies
    parts = [
        task
        for task, stage in enumerate(lowered.tasks.graph.stage_of)
        if lowered.tasks.stages[stage] == "shuffle-split"
    ]
    assert len(parts) == 2 * 9 * 3
    for i, part in enumerate(parts):
        assert dependencies[part] == [part - 1 - i % 3]


@pytest.mark.parametrize("item", [(len, [1, 2, 3]), ("x", 0), [(sum, [1])], {"a": 1}])
def test_data_is_data(lowered: Lowered, item: Any) -> None:
    """Also where it looks like a task or a key."""
    bag = db.from_sequence([item, item], npartitions=2)
    assert bag.compute(scheduler=lowered) == [item, item]
    assert bag.map(repr).compute(scheduler=lowered) == [repr(item)] * 2


class Unwalked(list[int]):
    """A list that can't be walked while a graph is made."""

    is_open = True

    def __iter__(self) -> Iterator[int]:
        assert self.is_open, "someone looked inside"
        return super().__iter__()


def test_items_are_not_looked_into(
    lowered: Lowered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lowering takes as long for large items as for small ones."""
    items = [Unwalked([1]), Unwalked([2])]
    handed = _hand_over(db.from_sequence(items, npartitions=1).map(len))
    monkeypatch.setattr(Unwalked, "is_open", False)
    assert lowered(*handed) == ([1, 1],)


# -- laziness, and what is shared ------------------------------------------------------


def test_take_computes_what_it_takes(lowered: Lowered) -> None:
    """A partition is lazy inside of a chain."""
    seen: list[int] = []

    def see(x: int) -> int:
        seen.append(x)
        return x

    bag = numbers(100, 2).map(see).map(inc).take(2, compute=False)
    assert bag.compute(scheduler=lowered) == [1, 2]
    assert seen == [0, 1]


@pytest.mark.parametrize(
    "look", [lambda items: isinstance(items, Iterator), lambda items: next(iter(items))]
)
def test_functions_get_what_dask_gives_them(
    lowered: Lowered, look: Callable[..., Any]
) -> None:
    """An iterator or a list, of which one can see what it is."""

    def wrap(items: Any) -> list[Any]:
        return [look(items)]

    for bag in (
        numbers(6, 2).map(inc).map_partitions(wrap),
        numbers(6, 2).map_partitions(wrap),
        numbers(6, 2).map_partitions(list).map_partitions(wrap),
    ):
        assert bag.compute(scheduler=lowered) == bag.compute(scheduler="sync")


def test_a_collection_stays_as_it_is(lowered: Lowered) -> None:
    """A function may change the partition that it is given."""

    def drain(items: list[int]) -> list[int]:
        taken = [*items]
        items.clear()
        return taken

    source = numbers(6, 2)
    for _ in range(2):
        bag = source.map_partitions(drain)
        assert bag.compute(scheduler=lowered) == list(range(6))
    found = source.to_delayed()[0].compute(scheduler=lowered)
    found.clear()
    assert source.compute(scheduler=lowered) == list(range(6))


def test_literals_are_not_shared_by_tasks(lowered: Lowered) -> None:
    """A list that a function changes is another one for each partition."""

    def collect(items: Any, seen: list[int]) -> list[int]:
        seen.extend(items)
        return seen

    bag = numbers(6, 2).map_partitions(collect, [])
    for _ in range(2):
        assert bag.compute(scheduler=lowered) == list(range(6))


def test_files_are_read_by_one_function(lowered: Lowered, tmp_path: Path) -> None:
    """Dask makes one for each file; one for all of them is part of the recipe."""
    paths = [str(tmp_path / f"{i}.txt") for i in range(3)]
    for path in paths:
        Path(path).write_text(f"{path}\nx\n")
    for some in (paths, paths[:1]):
        lines = db.read_text(some).compute(scheduler=lowered)
        assert lines == [line for path in some for line in (f"{path}\n", "x\n")]
        (recipe,) = {piece.recipe for piece in lowered.pieces[: len(some)]}
        assert stand_ins.read_lines in recipe.constants
    pairs = db.read_text(paths, include_path=True).compute(scheduler=lowered)
    assert pairs[0] == (f"{paths[0]}\n", paths[0])
    for piece in lowered.pieces:
        assert stand_ins.read_lines not in piece.recipe.constants


# -- what can be cut -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "can_be_cut"),
    [
        (lambda bag: bag.map(inc), True),
        (lambda bag: bag.map(add, 2).filter(inc).sum(), True),
        (lambda bag: bag.map(lambda x: [x, x]).flatten().distinct(), True),
        (lambda bag: bag.map(inc).frequencies(), True),
        # One of these looks at the items before it, or doesn't look at all of them, or
        # is the user's own.
        (lambda bag: bag.map(inc).take(2, compute=False), False),
        (lambda bag: bag.map(inc).any(), False),
        (lambda bag: bag.map(inc).fold(add), False),
        (lambda bag: bag.map_partitions(list), False),
        (lambda bag: bag.random_sample(0.5, 3), False),
        (lambda bag: db.map(add, bag, bag), False),
    ],
)
def test_what_can_be_cut(lowered: Lowered, make: Any, can_be_cut: bool) -> None:
    """Calls that take items one by one, and gather all of them in the end."""
    collection = make(numbers(12, 1))
    (expected,) = dask.compute(collection, scheduler="sync")
    dask.compute(collection, scheduler=lowered)
    first = lowered.pieces[0]
    assert (first.n_items == 12) is can_be_cut
    if can_be_cut:
        for sizes in ([], [1], [3, 4], [12], [5, 7]):
            values = {}
            rest = Rest(first)
            for i, size in enumerate(sizes):
                part, rest = rest.cut(size, i)
                values[i] = part({})
            assert rest(values) == first({})
        assert dask.compute(collection, scheduler=lowered) == (expected,)


# -- when it isn't taken ---------------------------------------------------------------


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[warnings.WarningMessage]]:
    """Return the warnings of a process that has given none so far."""
    monkeypatch.setattr(layers, "_warned", {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield caught


@pytest.mark.parametrize(
    "name",
    [
        "dask._expr:_HLGExprSequence",
        "dask._expr:HLGExpr",
        "dask._expr:HLGExpr.hlg",
    ],
)
def test_without_a_private_name_of_dasks(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    warned: list[warnings.WarningMessage],
) -> None:
    """The general way serves, and that is said once."""
    owners = name.partition(":")[2].split(".")[:-1]
    real = layers.look_up
    expression, keys = _hand_over(numbers(20, 4).map(inc))
    for _ in range(2):
        if owners:
            # Dask itself needs it; it is gone while the layers are read.
            monkeypatch.setattr(layers, "_add", _raise_attribute_error)
        else:
            monkeypatch.setattr(
                layers, "look_up", lambda asked: None if asked == name else real(asked)
            )
        assert run(read(expression, keys), keys) == (list(range(1, 21)),)
    assert [w.category for w in warned] == [RuntimeWarning]
    assert "the results are the same" in str(warned[0].message)


def _raise_attribute_error(*_: Any) -> None:
    raise AttributeError("no such thing in this release")


@pytest.mark.parametrize("name", ["reify", "map_chunk", "empty_safe_apply"])
def test_without_a_function_of_bags(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of Dask's that we only know by name may be others, or gone."""
    expression, keys = _hand_over(numbers(20, 4).map(inc).sum())
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules["dask.bag.core"], name)
        tasks = read(expression, keys)
    assert run(tasks, keys) == (sum(range(1, 21)),)


def _hand_over(collection: Any) -> tuple[Any, Any]:
    """Return what Dask hands to a scheduler."""
    handed: list[Any] = []

    def keep(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        handed.append((dsk, keys))
        return [None]

    dask.compute(collection, scheduler=keep)
    return handed[0]


def test_what_the_user_optimizes_otherwise(lowered: Lowered) -> None:
    """Optimizations of the user's own, or none, are Dask's business."""
    bag = numbers(20, 4).map(inc)
    with dask.config.set(bag_optimize=lambda dsk, keys, **kwargs: dict(dsk)):
        assert bag.compute(scheduler=lowered) == list(range(1, 21))
        assert not lowered.was_fast
    assert bag.compute(scheduler=lowered, optimize_graph=False) == list(range(1, 21))
    assert not lowered.was_fast
    mixed = dask.compute(bag, delayed(inc)(1), scheduler=lowered)
    assert mixed == (list(range(1, 21)), 2)
    assert lowered.was_fast


# -- the collector ---------------------------------------------------------------------


def test_the_collector_pauses() -> None:
    """It is back afterwards, and stays off if it was."""
    assert gc.isenabled()
    with PausedCollector(), PausedCollector():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with PausedCollector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(KeyError), PausedCollector():
        raise KeyError
    assert gc.isenabled()


def test_what_is_made_while_the_collector_pauses_is_old() -> None:
    """The collector doesn't walk a large graph once in each generation."""
    gc.collect()
    with PausedCollector():
        made = [[i] for i in range(MANY_OBJECTS + 1000)]
    ids = {id(one) for one in made}
    assert len(ids.intersection(map(id, gc.get_objects(2)))) == len(ids)
    assert gc.get_freeze_count() == 0
    with PausedCollector():
        few = [[i] for i in range(100)]
    assert not {id(one) for one in few}.intersection(map(id, gc.get_objects(2)))


def test_the_collector_leaves_large_graphs_alone() -> None:
    """As long as they run, and not what others have frozen."""
    with SparedGraph(MANY_TASKS - 1):
        assert not gc.get_freeze_count()
    with SparedGraph(0, is_open=True):
        assert gc.get_freeze_count()
    assert not gc.get_freeze_count()
    with SparedGraph(MANY_TASKS):
        assert gc.get_freeze_count()
        with SparedGraph(MANY_TASKS):
            pass
        assert gc.get_freeze_count()
    assert not gc.get_freeze_count()
    with pytest.raises(KeyError), SparedGraph(MANY_TASKS):
        raise KeyError
    assert not gc.get_freeze_count()
