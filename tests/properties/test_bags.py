r"""Random bags, by the fast way of lowering and the general one: all is as under sync.

Each computation runs in each lane, and in a scheduler that chooses among them. For more
examples than there are by default, other ones in each run:

    AMORSIZE_BAG_EXAMPLES=5000 pytest -o faulthandler_timeout=0 \
        tests/properties/test_bags.py -k computations

``AMORSIZE_BAG_LANES=auto,inline`` leaves out the others, ``--hypothesis-seed=N`` runs
the same examples again.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import add
from pathlib import Path
from typing import Any

import dask
import dask.bag as db
import pytest
from bag_descriptions import Computation, build
from bag_functions import (
    append,
    fail,
    keep_first,
    record,
    type_name,
    write_texts,
)
from bag_strategies import computations
from dask.delayed import delayed
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import reverse
from test_oracle import expect_same

from amorsize_dask import AmorsizeScheduler, lowering

LANES = os.environ.get("AMORSIZE_BAG_LANES", "auto,inline,threads,processes").split(",")
N_EXAMPLES = int(os.environ.get("AMORSIZE_BAG_EXAMPLES", "0"))


# -- two ways --------------------------------------------------------------------------


@dataclass
class Way:
    """How bags are lowered.

    Attributes
    ----------
    name : str
        "fast", where that way can be taken, or "general".
    n_fast : int
        How often the fast way was taken.
    """

    name: str
    n_fast: int = 0

    @property
    def is_dasks(self) -> bool:
        """Whether Dask's own optimization is part of it."""
        return self.name == "general"


@pytest.fixture(params=["fast", "general"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Let a test lower bags by the fast way, then by the general one alone."""
    way = Way(request.param)
    read_fast = lowering.read_fast

    def read(expression: Any, keys: Any, annotations: Any) -> Any:
        graph = None if way.is_dasks else read_fast(expression, keys, annotations)
        way.n_fast += graph is not None
        return graph

    monkeypatch.setattr(lowering, "read_fast", read)
    return way


@pytest.fixture(scope="module")
def schedulers(_module_leaves_nothing: None) -> Iterator[dict[str, AmorsizeScheduler]]:
    """Return a scheduler for each lane; what can't be sent may run in the caller."""
    made = {
        lane: AmorsizeScheduler()
        if lane == "auto"
        else AmorsizeScheduler(lanes=(lane,))
        for lane in LANES
    }
    yield made
    for scheduler in made.values():
        scheduler.close()


# -- as under sync ---------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What has come out of a computation.

    Attributes
    ----------
    error : type or None
        Of what was raised, by building or by computing.
    values : tuple
        What there is without an error.
    files : dict
        What was written, by name.
    """

    error: type[BaseException] | None
    values: tuple[Any, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Runner:
    """Runs computations.

    Attributes
    ----------
    folder : Path
        Where texts are, and where there is room for what is written.
    """

    folder: Path

    def run(
        self, computation: Computation, scheduler: Any, *, with_lists: bool, n: int = 1
    ) -> list[Outcome]:
        """Build what is to be computed and compute it so many times, or once fail."""
        output = self.folder / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        outcomes = []
        with dask.config.set(scheduler=scheduler), warnings.catch_warnings():
            # Of taking more than there is. In workers they aren't ours to catch.
            warnings.simplefilter("ignore", UserWarning)
            try:
                collections = build(
                    computation, self.folder / "texts", output, with_lists=with_lists
                )
                for _ in range(n):
                    values = dask.compute(
                        *collections, optimize_graph=computation.optimize_graph
                    )
                    files = {path.name: path.read_bytes() for path in output.iterdir()}
                    outcomes.append(Outcome(None, values, dict(sorted(files.items()))))
            except Exception as error:
                outcomes.append(Outcome(type(error)))
        return outcomes


def compute(scheduler: Any, *collections: Any) -> Outcome:
    """Compute what writes no files."""
    try:
        return Outcome(None, dask.compute(*collections, scheduler=scheduler))
    except Exception as error:
        return Outcome(type(error))


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("bags")
    (folder / "texts").mkdir()
    write_texts(folder / "texts")
    return Runner(folder)


def expect_same_outcome(ours: Outcome, theirs: Outcome) -> None:
    assert ours.error is theirs.error
    expect_same(ours.values, theirs.values)
    assert ours.files == theirs.files


@pytest.mark.timeout(0 if N_EXAMPLES else 120)
def test_computations(
    way: Way, runner: Runner, schedulers: dict[str, AmorsizeScheduler]
) -> None:
    """Values and their types, files and errors are those of sync, in each lane."""
    n_tasks: Counter[str] = Counter()

    @settings(max_examples=N_EXAMPLES or 50, derandomize=not N_EXAMPLES, database=None)
    @given(computation=computations())
    def check(computation: Computation) -> None:
        (theirs,) = runner.run(computation, "sync", with_lists=True)
        for lane, scheduler in schedulers.items():
            # A second time, since it must not have changed the collections. Iterators
            # that are persisted are used up by the first.
            n = 2 if lane == "inline" and "persist" not in repr(computation) else 1
            for ours in runner.run(
                computation, scheduler, with_lists=way.is_dasks, n=n
            ):
                try:
                    expect_same_outcome(ours, theirs)
                except AssertionError as error:
                    error.add_note(f"{lane}: {ours}\nsync: {theirs}")
                    raise
            if (record := scheduler.last_run) is not None and lane in record.lanes:
                n_tasks[lane] += record.lanes[lane].n_tasks

    check()
    assert all(n_tasks[lane] for lane in LANES if lane != "auto")
    assert bool(way.n_fast) is not way.is_dasks


# -- data is data ----------------------------------------------------------------------


#: In the same graph as the items, which may look like its keys.
OTHER = db.from_sequence([5, 6], npartitions=1)
TOTAL = OTHER.sum()

look_like_tasks = st.sampled_from(
    [(fail,), (len, [1, 2, 3]), (add, 1, 2), (tuple, (fail,)), ((len,), "ab")]
)
look_like_keys = st.sampled_from([(OTHER.name, 0), TOTAL.key, (OTHER.name, 9)])
data = st.recursive(
    look_like_tasks | look_like_keys | st.sampled_from([None, 1, "text", ()]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
        | inner.map(lambda value: (fail, value))
    ),
    max_leaves=4,
)

Partitions = list[list[Any]]


@dataclass(frozen=True)
class Step:
    """What is done with a bag, and the same with a list of partitions."""

    name: str
    with_bag: Callable[[db.Bag], db.Bag]
    with_lists: Callable[[Partitions], Partitions]

    def __repr__(self) -> str:
        return self.name


def each(function: Callable[[list[Any]], Any]) -> Callable[[Partitions], Partitions]:
    return lambda partitions: [list(function(items)) for items in partitions]


def whole(function: Callable[[list[Any]], Any]) -> Callable[[Partitions], Partitions]:
    return lambda partitions: [
        list(function([x for items in partitions for x in items]))
    ]


def group(items: list[Any]) -> Iterable[tuple[str, tuple[Any, ...]]]:
    groups: dict[str, tuple[Any, ...]] = {}
    for x in items:
        groups[type_name(x)] = (*groups.get(type_name(x), ()), x)
    return groups.items()


def is_something(x: Any) -> bool:
    return x is not None


STEPS = [
    Step(
        "map",
        lambda bag: bag.map(record),
        each(lambda items: map(record, items)),
    ),
    Step(
        "map_with_item",
        lambda bag: bag.map(record, TOTAL, b=TOTAL),
        each(lambda items: [record(x, 11, b=11) for x in items]),
    ),
    Step(
        "filter",
        lambda bag: bag.filter(is_something),
        each(lambda items: filter(is_something, items)),
    ),
    Step(
        "remove",
        lambda bag: bag.remove(bool),
        each(lambda items: [x for x in items if not x]),
    ),
    Step(
        "flatten",
        lambda bag: bag.map(lambda x: [x, x]).flatten(),
        each(lambda items: [y for x in items for y in (x, x)]),
    ),
    Step(
        "pluck",
        lambda bag: bag.map(lambda x: {"k": x}).pluck("k"),
        each(lambda items: items),
    ),
    Step(
        "map_partitions",
        lambda bag: bag.map_partitions(reverse),
        each(reverse),
    ),
    Step(
        "zip",
        lambda bag: db.zip(bag, bag),
        each(lambda items: zip(items, items, strict=True)),
    ),
    Step(
        "concat",
        lambda bag: db.concat([OTHER, bag]),
        lambda partitions: [[5, 6], *partitions],
    ),
    Step(
        "repartition",
        lambda bag: bag.repartition(npartitions=1),
        whole(lambda items: items),
    ),
    Step(
        "take",
        lambda bag: bag.take(2, npartitions=-1, compute=False, warn=False),
        whole(lambda items: items[:2]),
    ),
    Step(
        "distinct",
        lambda bag: bag.distinct(key=repr),
        whole(lambda items: {repr(x): x for x in items}.values()),
    ),
    Step(
        "topk",
        lambda bag: bag.topk(9, key=repr),
        whole(lambda items: sorted(items, key=repr, reverse=True)[:9]),
    ),
    Step(
        "foldby",
        lambda bag: bag.foldby(type_name, append, (), add),
        whole(group),
    ),
]


@settings(max_examples=N_EXAMPLES or 60)
@given(
    partitions=st.lists(st.lists(data, min_size=1, max_size=1), min_size=1, max_size=4),
    steps=st.lists(st.sampled_from(STEPS), max_size=3),
)
def test_items_are_data(
    partitions: Partitions, steps: list[Step], schedulers: dict[str, AmorsizeScheduler]
) -> None:
    """An item that looks like a task or a key to Dask is what it is in Python."""
    bag = db.from_sequence([x for (x,) in partitions], partition_size=1)
    for step in steps:
        bag, partitions = step.with_bag(bag), step.with_lists(partitions)
    expected = [x for items in partitions for x in items]
    for scheduler in schedulers.values():
        # With the other bag, whose keys the items may look like.
        ours = dask.compute(bag, OTHER, TOTAL, scheduler=scheduler)
        expect_same(ours, (expected, [5, 6], 11))


#: Arguments are different: Dask writes tasks into tasks as it writes data.
ARGUMENTS: list[Callable[[Any], Any]] = [
    lambda value: OTHER.map(record, value),
    lambda value: OTHER.map(record, b=value),
    lambda value: OTHER.map(record, TOTAL, b=[value]),
    lambda value: db.zip(OTHER, OTHER).starmap(record, b=value),
    lambda value: OTHER.map_partitions(record, value),
    lambda value: OTHER.map_partitions(record, b=value),
    lambda value: OTHER.accumulate(record, initial=value),
    lambda value: OTHER.foldby(type_name, record, value, keep_first),
    lambda value: OTHER.join([value], type_name),
    lambda value: delayed(record)(OTHER, value),
]


def test_arguments_that_look_like_tasks(
    way: Way, schedulers: dict[str, AmorsizeScheduler]
) -> None:
    """Whether Dask runs them, or finds a key in them, so it is here."""
    # Older releases look for the keys of each collection by itself.
    made = OTHER.map(record, TOTAL.key)
    is_found = compute("sync", made, TOTAL).values[:1] != compute("sync", made).values
    others = (TOTAL,) if is_found else ()

    @settings(max_examples=N_EXAMPLES or 40, derandomize=not N_EXAMPLES)
    @given(value=data, number=st.integers(0, len(ARGUMENTS) - 1))
    def check(value: Any, number: int) -> None:
        made = ARGUMENTS[number](value)
        theirs = compute("sync", made, *others)
        for scheduler in schedulers.values():
            expect_same_outcome(compute(scheduler, made, *others), theirs)

    check()
