"""Random graphs and collections for property tests: the functions are at module level.

Everything here is deterministic, so that two schedulers must agree on the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import add
from typing import Any

import dask.bag as db
from dask._task_spec import Alias, DataNode, Dict, List, Task, TaskRef
from dask.delayed import Delayed, delayed
from hypothesis import strategies as st

#: Results stay below this number, however deep a graph is.
MODULUS = 1_000_003

Draw = Callable[[st.SearchStrategy[Any]], Any]


# -- what the tasks do -----------------------------------------------------------------


def digest(*values: Any, **named: Any) -> int:
    """Return a number that depends on all values, their order and their nesting."""
    total = 17
    for value in (*values, *sorted(named.items())):
        if isinstance(value, str):
            number = sum(map(ord, value))
        elif isinstance(value, Mapping):
            number = 3 + digest(*value.items())
        elif isinstance(value, Iterable):
            number = 5 + digest(*value)
        else:
            number = int(value)
        total = (31 * total + number) % MODULUS
    return total


def increment(x: int) -> int:
    return x + 1


def double(x: int) -> int:
    return 2 * x % MODULUS


def is_odd(x: int) -> bool:
    return x % 2 == 1


def modulo_3(x: int) -> int:
    return x % 3


def pair(x: int) -> tuple[int, int]:
    return x, x % 7


def up_to_3(x: int) -> list[int]:
    return [x] * (x % 3)


def reverse(partition: Iterable[int]) -> list[int]:
    return list(partition)[::-1]


def total(partition: Iterable[int]) -> list[int]:
    return [sum(partition)]


def halve(value: int) -> tuple[int, int]:
    return divmod(value, 2)


# -- graphs ----------------------------------------------------------------------------


@dataclass(frozen=True)
class GraphCase:
    """A graph and what to ask it for.

    Attributes
    ----------
    dsk : dict
        The graph.
    keys : key or list of these, nested
        What to compute.
    """

    dsk: dict[Any, Any]
    keys: Any


_SMALL = st.integers(0, 9)

#: Which of the keys before one means: taken modulo how many there are, so that small
#: numbers are near and chains come about.
_BACK = st.integers(0, 30)

_ARGUMENTS = st.tuples(
    st.sampled_from(["key", "key", "key", "data", "keys", "task", "alias", "dict"]),
    _BACK,
    _BACK,
)

_NODES = st.tuples(
    st.sampled_from(
        ["tuple", "tuple", "node", "node", "named", "key", "alias", "data", "keys"]
    ),
    st.lists(_ARGUMENTS, max_size=3),
    st.integers(0, 3),
)

_DATA: list[Callable[[Any, int], Any]] = [
    lambda name, i: i,
    lambda name, i: [i, i + 1],
    lambda name, i: DataNode(name, i),
    lambda name, i: (i, "text"),
]


@st.composite
def graphs(draw: Draw, max_size: int = 15) -> GraphCase:
    """Draw graphs as dicts: tuples and nodes, aliases, data, nested keys and tasks."""
    drawn = draw(st.lists(_NODES, min_size=1, max_size=max_size))
    names: list[Any] = []
    dsk = {}
    for i, (kind, arguments, form) in enumerate(drawn):
        name = [f"k{i}", ("p", i), f"layer-{i}", ("q", i, "a")][form]
        if not names or not arguments:
            kind = "data"
        dsk[name] = _make_node(kind, name, arguments, names, form)
        names.append(name)
    # Any order in the dict.
    order = sorted(names, key=lambda name: digest(str(name), draw(_SMALL)))
    dsk = {name: dsk[name] for name in order}
    key = st.sampled_from(names)
    keys = draw(key | st.lists(key | st.lists(key, max_size=3), max_size=3))
    return GraphCase(dsk, keys)


def _make_node(
    kind: str,
    name: Any,
    arguments: list[tuple[str, int, int]],
    known: list[Any],
    form: int,
) -> Any:
    def key(back: int) -> Any:
        return known[-1 - back % len(known)]

    def old(kind: str, i: int, j: int) -> Any:
        match kind:
            case "data":
                return i
            case "keys":
                return [key(i), [key(j), 1]]
            case "task":
                return (digest, key(i), (digest, key(j)))
            case "dict":
                return {"a": [key(i)], "b": j}
        return key(i)

    def new(kind: str, i: int, j: int) -> Any:
        match kind:
            case "data":
                return i
            case "keys":
                return List(TaskRef(key(i)), List(TaskRef(key(j)), 1))
            case "task":
                return Task(None, digest, Task(None, digest, b=TaskRef(key(i))))
            case "dict":
                return Dict({"a": TaskRef(key(i)), "b": j})
            case "alias":
                return Alias(key(i))
        return TaskRef(key(i))

    match kind:
        case "data":
            return _DATA[form](name, len(known))
        case "key":
            return key(arguments[0][1])
        case "alias":
            return Alias(name, key(arguments[0][1]))
        case "keys":
            return [key(i) for _, i, _ in arguments]
        case "tuple":
            return (digest, *(old(*argument) for argument in arguments))
        case "named":
            return Task(name, digest, b=new(*arguments[0]), a=form)
    return Task(name, digest, *(new(*argument) for argument in arguments))


@st.composite
def delayed_lists(draw: Draw, max_size: int = 12) -> list[Delayed]:
    """Draw several delayed values that share parts of their graphs."""
    values: list[Delayed] = [delayed(draw(_SMALL), pure=True)]
    for _ in range(draw(st.integers(1, max_size))):
        one = st.sampled_from(values)
        function = draw(st.sampled_from([digest, digest, digest, increment, halve]))
        if function is digest:
            argument = (
                one
                | one
                | _SMALL
                | st.lists(one, max_size=3)
                | st.tuples(one, _SMALL)
                | one.map(lambda value: {"a": value})
            )
            made = delayed(digest, pure=True)(*draw(st.lists(argument, max_size=3)))
        elif function is increment:
            made = delayed(increment, pure=True)(draw(one))
        else:
            made = delayed(halve, pure=True, nout=2)(draw(one))[draw(st.integers(0, 1))]
        values.append(made)
    if draw(st.booleans()):
        values.append(delayed(values[-3:], pure=True))
    chosen = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
    return [*chosen, values[-1]]


# -- bags ------------------------------------------------------------------------------

#: From a bag of integers to another one.
_STEPS: list[Callable[[db.Bag], db.Bag]] = [
    lambda bag: bag.map(increment),
    lambda bag: bag.map(lambda x: 3 * x % MODULUS),
    lambda bag: bag.map(double),
    lambda bag: bag.map(add, 5),
    lambda bag: bag.map(add, bag.map(double)),
    lambda bag: bag.map(add, bag.sum()),
    lambda bag: bag.filter(is_odd),
    lambda bag: bag.remove(is_odd),
    lambda bag: bag.map_partitions(reverse),
    lambda bag: bag.map(pair).starmap(add),
    lambda bag: bag.map(pair).pluck(1),
    lambda bag: bag.map(up_to_3).flatten(),
    lambda bag: db.zip(bag, bag.map(double)).starmap(add),
    # Without the list Dask may hand one iterator to several tasks.
    lambda bag: db.concat([bag, bag.map(increment)]).map_partitions(list),
    lambda bag: bag.distinct(),
    lambda bag: bag.accumulate(add, initial=1),
]

#: From a bag of integers to a value or to a bag of anything.
_ENDS: list[Callable[[db.Bag], Any]] = [
    lambda bag: bag,
    lambda bag: bag.sum(),
    lambda bag: bag.count(),
    # Folding nothing but empty partitions is an error.
    lambda bag: bag.map_partitions(total).fold(add, initial=0),
    lambda bag: bag.reduction(sum, sum, split_every=2),
    lambda bag: bag.frequencies(sort=True),
    lambda bag: bag.topk(3),
    lambda bag: bag.foldby(modulo_3, add, 0),
    lambda bag: bag.groupby(modulo_3, shuffle="tasks").map(
        lambda group: (group[0], sorted(group[1]))
    ),
    lambda bag: delayed(digest)(bag),
    lambda bag: delayed(digest)(bag.to_delayed()),
]


@st.composite
def bags(draw: Draw, max_steps: int = 4) -> Any:
    """Draw a bag, or what a bag was reduced to: something with a ``compute`` method."""
    items = draw(st.lists(st.integers(0, 50), min_size=1, max_size=12))
    bag = db.from_sequence(items, npartitions=draw(st.integers(1, 4)))
    for _ in range(draw(st.integers(0, max_steps))):
        if draw(st.integers(0, 4)):
            bag = draw(st.sampled_from(_STEPS))(bag)
        else:
            bag = bag.repartition(npartitions=draw(st.integers(1, 6)))
    return draw(st.sampled_from(_ENDS))(bag)
