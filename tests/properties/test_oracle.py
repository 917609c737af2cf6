"""Whatever is computed: each lane gives what `scheduler="sync"` gives, errors as well.

This is the way through the whole package, workers included. That lowering alone agrees
with Dask is in `test_lowering`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import add
from typing import Any, NoReturn

import dask
import dask.bag as db
import pytest
from dask._task_spec import Alias, GraphNode, Task, TaskRef
from dask.delayed import delayed
from dask.local import get_sync
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    Draw,
    GraphCase,
    bags,
    delayed_lists,
    digest,
    graphs,
    increment,
    is_odd,
)

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.lowering import read

Force = Callable[[str], AmorsizeScheduler]

FORCED = ("inline", "threads", "processes")


class Checked:
    """A scheduler that looks, after each compute, where its tasks have run.

    Parameters
    ----------
    scheduler : AmorsizeScheduler
        The one that computes.
    lane : str
        The only lane that it may use, or "auto".
    """

    def __init__(self, scheduler: AmorsizeScheduler, lane: str) -> None:
        self.lane = lane
        #: Lanes that were used in the last compute.
        self.used: set[str] = set()
        self.scheduler = scheduler

    def __call__(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        tasks = read(dsk, keys)
        values = self.scheduler(dsk, keys, **kwargs)
        record = self.scheduler.last_run
        assert record is not None
        assert record.error is None
        self.used = {lane for stage in record.stages for lane in stage.lanes}
        n_parts = record.n_tasks - len(tasks.keys)
        assert n_parts == 0 if tasks.graph.rest_stage is None else n_parts >= 0
        for number, stage in enumerate(record.stages):
            n_tasks = tasks.graph.stage_of.count(number)
            if number in tasks.graph.caller_stages:
                assert stage.lanes.keys() == {"inline"}
            elif self.lane != "auto":
                assert stage.lanes.keys() == {self.lane}
            # What is left of a task that was cut may be of another stage.
            if not n_parts:
                assert sum(stage.lanes.values()) == n_tasks
        return values


@pytest.fixture(scope="module", params=["auto", *FORCED])
def checked(forced: Force, request: pytest.FixtureRequest) -> Checked:
    """Return the scheduler of each lane in turn, with a check of where tasks run."""
    return Checked(forced(request.param), request.param)


def expect_same(ours: Any, theirs: Any) -> None:
    """Check that two results are equal, and of the same types all the way down."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, Iterator):
        ours, theirs = list(ours), list(theirs)
    if isinstance(theirs, Mapping):
        # Their order is a result as well.
        ours, theirs = list(ours.items()), list(theirs.items())
    if isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            expect_same(our, their)
    else:
        assert ours == theirs


# -- where tasks run -------------------------------------------------------------------


def locate(*_: Any) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


@pytest.mark.parametrize("lane", FORCED)
def test_a_forced_lane_is_what_it_is_called(forced: Force, lane: str) -> None:
    """The caller's thread, other threads of its process, or other processes.

    All that is said of lanes below is from records; this shows that these are true.
    """
    checked = Checked(forced(lane), lane)
    made = [delayed(locate)(i) for i in range(4)]
    bag = db.from_sequence(range(4), npartitions=2).map(locate)
    graph = {("x", i): (locate, i) for i in range(4)}
    places = set(
        dask.compute(*made, scheduler=checked)
        + tuple(bag.compute(scheduler=checked))
        + checked(graph, list(graph))
    )
    here = locate()
    if lane == "inline":
        assert places == {here}
    elif lane == "threads":
        assert {pid for pid, _ in places} == {here[0]}
        assert here not in places
    else:
        assert here[0] not in {pid for pid, _ in places}


# -- results ---------------------------------------------------------------------------


@settings(max_examples=30)
@given(case=graphs())
def test_graphs(case: GraphCase, checked: Checked) -> None:
    """Graphs of tuples, nodes, aliases and data; bare, flat and nested keys."""
    expect_same(checked(case.dsk, case.keys), get_sync(case.dsk, case.keys))
    if checked.lane != "auto" and any(map(calls_digest, wanted(case))):
        assert checked.lane in checked.used


def wanted(case: GraphCase) -> Iterator[Any]:
    """Yield what the graph has for those keys that are asked for."""
    rest = [case.keys]
    while rest:
        key = rest.pop()
        if isinstance(key, list):
            rest += key
        else:
            yield case.dsk[key]


def calls_digest(node: Any) -> bool:
    """Whether something in a graph is a task of the user's."""
    if isinstance(node, Task):
        return node.func is digest
    return type(node) is tuple and node[0] is digest


@settings(max_examples=20)
@given(values=delayed_lists())
def test_delayed_values(values: list[Any], checked: Checked) -> None:
    """Several delayed values at once, with shared parts, also in containers."""
    nested = values[0], {"a": values[-1], "b": [values[1:], 1]}
    expect_same(
        dask.compute(*nested, scheduler=checked),
        dask.compute(*nested, scheduler="sync"),
    )


@settings(max_examples=30)
@given(bag=bags())
def test_bags(bag: Any, checked: Checked) -> None:
    """Bags and reductions of bags, items and groups in sync's order.

    All are compared exactly: what is unordered in a bag (distinct items, groups) has
    the order of a dict or of a set of small integers, which is the same everywhere.
    """
    expect_same(bag.compute(scheduler=checked), bag.compute(scheduler="sync"))


@settings(max_examples=20)
@given(bag=bags(max_steps=2))
def test_bags_without_optimization(bag: Any, checked: Checked) -> None:
    """Partitions that are iterators on their way from one task to the next."""
    ours = bag.compute(scheduler=checked, optimize_graph=False)
    expect_same(ours, bag.compute(scheduler="sync", optimize_graph=False))


@settings(max_examples=20)
@given(steps=st.lists(st.integers(0, 3), max_size=4), items=st.lists(st.integers(0, 9)))
def test_iterators(steps: list[int], items: list[int], checked: Checked) -> None:
    """A result that is an iterator is still one, not begun and of the same type."""
    dsk: dict[Any, Any] = {}
    # Of the results of a stage one is measured, so there are several.
    for i in range(4):
        dsk["data", i] = [*items, i]
        dsk["step-0", i] = (iter, ("data", i))
        for j, step in enumerate(steps):
            before = (f"step-{j}", i)
            dsk[f"step-{j + 1}", i] = (
                (map, increment, before),
                (filter, is_odd, before),
                (map, digest, (zip, before, ("data", i))),
                (map_slowly, digest, before),
            )[step]
    keys = [(f"step-{len(steps)}", i) for i in range(4)]
    expect_same(checked(dsk, keys), get_sync(dsk, keys))


def map_slowly(function: Callable[..., int], items: Iterable[int]) -> Iterator[int]:
    # Long enough for the result to be measured, which must not use it up.
    time.sleep(0.001)
    return map(function, items)


def generate(n: int) -> Iterator[int]:
    yield from range(n)


def test_generators_of_the_caller(checked: Checked) -> None:
    """A generator can't be sent, so it is made in the caller, and works there."""
    scheduler = checked.scheduler
    if checked.lane == "processes":
        # The shared one may not run anything in the caller.
        scheduler = AmorsizeScheduler(lanes=("processes",))
    with scheduler:
        made = [delayed(generate)(n) for n in range(4)]
        for n, value in enumerate(dask.compute(*made, scheduler=scheduler)):
            expect_same(value, generate(n))


STRINGS = [f"{i % 7} {'ab'[i % 2]}" for i in range(40)]

#: What the result's order comes from are hashes of strings, which no two processes
#: have in common: under `sync` as well it is another one in each run.
UNORDERED: list[Callable[[db.Bag], db.Bag]] = [
    lambda bag: bag.distinct(),
    lambda bag: bag.frequencies(),
    lambda bag: bag.foldby(len, add, ""),
    lambda bag: bag.groupby(str.upper, shuffle="tasks").starmap(name_group),
    lambda bag: bag.groupby(str.upper, shuffle="disk").starmap(name_group),
]


def name_group(name: str, members: list[str]) -> tuple[str, list[str]]:
    return name, sorted(members)


@pytest.mark.parametrize("number", range(len(UNORDERED)))
def test_groups_by_strings(checked: Checked, number: int) -> None:
    """Groups are whole though workers hash strings to other numbers than the caller."""
    bag = UNORDERED[number](db.from_sequence(STRINGS, npartitions=5))
    expect_same(
        sorted(bag.compute(scheduler=checked)), sorted(bag.compute(scheduler="sync"))
    )


def wait(x: int) -> int:
    time.sleep(0.005)
    return x + 1


def spin(x: int, y: int) -> int:
    end = time.thread_time() + 0.01
    while time.thread_time() < end:
        pass
    return digest(x, y)


def test_several_lanes_in_one_run(forced: Force) -> None:
    """Stages that wait and stages that compute, some of it sampled in the caller."""
    checked = Checked(forced("auto"), "auto")
    dsk: dict[Any, Any] = {}
    for i in range(40):
        dsk["wait", i] = (wait, i)
        dsk["spin", i] = (spin, ("wait", i), ("wait", max(0, i - 1)))
    dsk["all"] = (digest, [("spin", i) for i in range(40)])
    expect_same(checked(dsk, "all"), get_sync(dsk, "all"))
    assert checked.used >= {"inline", "threads"}


# -- data that Dask takes for tasks ----------------------------------------------------

_ATOMS = st.integers(0, 9) | st.sampled_from(["k", "n", ("k", 0), ("k", 1), None, 1.5])


def _nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "k"]), inner)
        | st.tuples(st.just(echo), inner)
        | st.tuples(st.just(echo), inner, inner)
    )


def echo(*values: Any) -> list[Any]:
    return ["echo", *values]


data = st.recursive(_ATOMS, _nest, max_leaves=6)


@settings(max_examples=30)
@given(value=data, key=st.sampled_from(["data", "argument", "user"]))
def test_data_in_graphs(value: Any, key: str, checked: Checked) -> None:
    """Tuples with a function, and names of keys, are data where Dask takes them so."""
    dsk = {
        "k": 3,
        ("k", 0): (increment, "k"),
        "data": value,
        "argument": (echo, value),
        "user": (echo, "data"),
    }
    expect_same(checked(dsk, key), get_sync(dsk, key))


@settings(max_examples=15)
@given(values=st.lists(data, min_size=1, max_size=3))
def test_data_in_collections(values: list[Any], checked: Checked) -> None:
    """Whether Dask runs an item of a delayed list, so it is here."""
    made = delayed(echo)(values), delayed(values)
    expect_same(
        dask.compute(*made, scheduler=checked), dask.compute(*made, scheduler="sync")
    )


@settings(max_examples=15)
@given(values=st.lists(data, min_size=1, max_size=5))
def test_data_in_bags(values: list[Any], checked: Checked) -> None:
    """The items of a sequence are data, also those that look like tasks to Dask."""
    bag = db.from_sequence(values, npartitions=2)
    expect_same(bag.compute(scheduler=checked), values)
    expect_same(bag.map(echo).compute(scheduler=checked), [echo(v) for v in values])


# -- errors ----------------------------------------------------------------------------


class TwoPartError(Exception):
    """Its arguments are not those of its constructor."""

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.second = second


class NoException(BaseException):
    """As KeyboardInterrupt and its like, which ``except Exception`` lets through."""


def raise_plain(x: int) -> NoReturn:
    raise ValueError(f"not {x}")


def raise_with_cause(x: int) -> NoReturn:
    try:
        {}[x]
    except KeyError as error:
        raise RuntimeError(x) from error


def raise_with_note(x: int) -> NoReturn:
    error = KeyError(x)
    error.add_note("a note")
    raise error


def raise_group(x: int) -> NoReturn:
    raise ExceptionGroup("several", [ValueError(x), TwoPartError("inner", x)])


def raise_two_part(x: int) -> NoReturn:
    raise TwoPartError("first", x)


def raise_stop(x: int) -> NoReturn:
    raise StopIteration(x)


def raise_no_exception(x: int) -> NoReturn:
    raise NoException(x)


raisers = st.sampled_from(
    [
        raise_plain,
        raise_with_cause,
        raise_with_note,
        raise_group,
        raise_two_part,
        raise_stop,
        raise_no_exception,
    ]
)


def fail(raiser: Callable[[int], NoReturn], *values: Any) -> NoReturn:
    raiser(digest(*values))


def fail_at(x: Any, bad: Any, raiser: Callable[[int], NoReturn]) -> Any:
    if x == bad:
        raiser(digest(x))
    return x


def describe(error: BaseException | None) -> Any:
    """Return all of an exception that must be the same everywhere."""
    if error is None:
        return None
    notes = getattr(error, "__notes__", [])
    return (
        type(error),
        str(error),
        # Exceptions among them aren't equal to each other.
        repr(error.args),
        [note for note in notes if not note.startswith("amorsize: ")],
        getattr(error, "second", None),
        [describe(inner) for inner in getattr(error, "exceptions", ())],
        describe(error.__cause__),
        describe(error.__context__),
        error.__suppress_context__,
    )


def catch(compute: Callable[[], Any]) -> BaseException | None:
    try:
        compute()
    except BaseException as error:
        return error
    return None


def expect_same_error(
    checked: Checked, compute: Callable[[Callable[..., Any]], Any]
) -> None:
    """Check that a compute fails as under sync, in the lane that is to be used."""
    theirs = catch(lambda: compute(get_sync))
    ours = catch(lambda: compute(checked.scheduler))
    assert describe(ours) == describe(theirs)
    if ours is not None:
        (note,) = (n for n in ours.__notes__ if n.startswith("amorsize: "))
        if checked.lane != "auto":
            assert note.endswith(f"in lane {checked.lane}")
        record = checked.scheduler.last_run
        assert record is not None
        assert record.error is ours


@st.composite
def failing_graphs(draw: Draw) -> GraphCase:
    """Draw a graph one task of which raises, and ask for that."""
    case = draw(graphs())
    name, raiser = draw(st.sampled_from(list(case.dsk))), draw(raisers)
    node = case.dsk[name]
    failing: Any = (fail, raiser, node)
    if isinstance(node, GraphNode):
        inner = TaskRef(node.target) if isinstance(node, Alias) else node
        failing = Task(name, fail, raiser, inner)
    return GraphCase({**case.dsk, name: failing}, [case.keys, name])


@settings(max_examples=30)
@given(case=failing_graphs())
def test_errors_in_graphs(case: GraphCase, checked: Checked) -> None:
    """The exception of a task is the same, with cause, context and notes."""
    expect_same_error(checked, lambda get: get(case.dsk, case.keys))


@settings(max_examples=20)
@given(values=delayed_lists(max_size=6), raiser=raisers)
def test_errors_in_delayed_values(
    values: list[Any], raiser: Callable[[int], NoReturn], checked: Checked
) -> None:
    """Also if others need the value that there isn't, or nothing to do with it."""
    failing = delayed(fail)(raiser, values[0])
    asked = delayed(digest)(values[-1], failing), *values
    expect_same_error(checked, lambda get: dask.compute(*asked, scheduler=get))


@st.composite
def failing_bags(draw: Draw) -> Any:
    """Draw a bag or a value made of one, with a function that raises at one item."""
    made, raiser = draw(bags(max_steps=2)), draw(raisers)
    values = made.compute(scheduler="sync")
    if isinstance(made, db.Bag):
        bad = draw(st.sampled_from(values)) if values else None
        return made.map(fail_at, bad, raiser).map(echo)
    return delayed(fail_at)(made, values, raiser)


@settings(max_examples=20)
@given(made=failing_bags())
def test_errors_in_bags(made: Any, checked: Checked) -> None:
    """Also what no error is: a StopIteration only ends its partition."""
    expect_same_error(checked, lambda get: made.compute(scheduler=get))
