"""Random computations with the whole of the bag API, but for what needs other packages.

All that is drawn is deterministic: which scheduler computes it must not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from operator import add
from random import Random
from typing import Any

import dask.bag as db
from bag_choices import (
    DELAYED,
    DELAYED_PARTITIONS,
    FOLDS,
    ITEMS,
    KEYS,
    KINDS,
    MAPS,
    ON_PARTITIONS,
    PREDICATES,
    RISKY,
    atoms,
    literals,
)
from bag_descriptions import Call, Computation, File, Lambda
from bag_functions import (
    append,
    count_items,
    delayed_again,
    generate_mixed,
    handmade,
    last_two,
    last_two_of_all,
    length,
    mix,
    mix_each,
    name_group,
    optimized,
    record,
    sort_groups,
    zip_again,
)
from dask.delayed import delayed
from hypothesis import strategies as st
from strategies import Draw, increment, total

#: One in so many functions is a risky one. Smaller: most computations fail, and show
#: little; larger: few fail.
_RISK = 30

#: For reductions and folds: the trees of bags this small have one level without it.
_SPLITS = st.sampled_from([None, None, 2, 3, False])

# -- bags as they grow -----------------------------------------------------------------

#: More make examples slow and show nothing else.
_MAX_ITEMS = 150
_MAX_PARTITIONS = 12


@dataclass(frozen=True)
class Made:
    """A description of a bag and what is known about the bag.

    Attributes
    ----------
    code : Call
        The description.
    items : str
        The kind of its items.
    n_partitions, n_items : int
        How many it has; at most, if that isn't known.
    shape : object
        Bags of the same shape have partitions of the same lengths.
    """

    code: Call
    items: str
    n_partitions: int
    n_items: int
    shape: Any

    def each(self, method: str, *args: Any, items: str = "", **kwargs: Any) -> Made:
        """Return the bag after a method that makes one item of each."""
        return replace(
            self,
            code=self.code.then(method, *args, **kwargs),
            items=items or self.items,
        )

    def reshaped(self, code: Call, **changes: Any) -> Made:
        """Return another bag made of this, with other partitions."""
        return replace(self, code=code, shape=code.code, **changes)

    def then(
        self,
        method: str,
        *args: Any,
        changes: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Made:
        """Return the bag after a method that makes other partitions."""
        return self.reshaped(self.code.then(method, *args, **kwargs), **(changes or {}))


class Growing:
    """The bags and values of one example so far, and what is drawn next.

    Parameters
    ----------
    draw : callable
        As Hypothesis gives it to a composite strategy.
    """

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.bags: list[Made] = []
        self.values: list[Call] = []
        #: What came last, bag or value.
        self.latest: Call

    def pick(self, options: list[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def flip(self) -> bool:
        return self.draw(st.booleans())

    def number(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def some(self, **strategies: st.SearchStrategy[Any]) -> dict[str, Any]:
        """Draw some of these keyword arguments."""
        return {
            name: self.draw(strategy)
            for name, strategy in strategies.items()
            if self.flip()
        }

    def seldom(self) -> bool:
        """Draw whether to do what mostly fails."""
        return self.number(0, _RISK) == _RISK

    def function(self, options: list[Any]) -> Any:
        """Draw one of these functions, or seldom one that may fail."""
        return self.pick(RISKY if self.seldom() else options)

    def key(self, bag: Made) -> Any:
        return self.function(KEYS[bag.items])

    def scalar(self) -> Any:
        """Draw a literal, an item or a delayed value."""
        if self.values and self.number(0, 2) == 2:
            return self.pick(self.values)
        if self.number(0, 3) == 3:
            return self.pick(DELAYED)
        return self.draw(literals)

    def named(self) -> dict[str, Any]:
        """Draw keyword arguments that aren't bags."""
        names = self.draw(st.lists(st.sampled_from("xyz"), max_size=2, unique=True))
        named = {name: self.scalar() for name in names}
        if named and self.number(0, 4) == 4:
            named["nested"] = {"a": [self.scalar(), 1]}
        return named

    def like(self, bag: Made) -> Made:
        """Draw a bag that has the same shape, or seldom only as many partitions."""
        if self.seldom():
            return self.pick(self.others(n_partitions=bag.n_partitions))
        return self.pick(self.others(shape=bag.shape))

    def others(self, **facts: Any) -> list[Made]:
        """Return the bags of which this is known, the last one first."""
        return [
            bag
            for bag in self.bags[::-1]
            if bag.items != "iter"
            and all(getattr(bag, name) == value for name, value in facts.items())
        ]

    def grow(self) -> None:
        """Draw one more bag, or a value."""
        if self.number(0, 9) == 9:
            self.keep(_source(self))
            return
        bag = self.bags[-1] if self.number(0, 3) else self.pick(self.bags)
        self.keep(self.pick(_STEPS_FOR[bag.items])(self, bag))

    def keep(self, made: Made | Call | None) -> None:
        """Add what was made, unless it is nothing or too large."""
        if isinstance(made, Made):
            if made.n_items <= _MAX_ITEMS and made.n_partitions <= _MAX_PARTITIONS:
                self.bags.append(made)
                self.latest = made.code
        elif made is not None:
            self.values.append(made)
            self.latest = made


# -- where bags come from --------------------------------------------------------------


def _source(growing: Growing) -> Made:
    return growing.pick(_SOURCES)(growing)


def _from_sequence(growing: Growing) -> Made:
    kind = growing.pick(KINDS)
    items = growing.draw(st.lists(ITEMS[kind], max_size=10))
    kwargs: dict[str, Any] = growing.draw(
        st.sampled_from([1, 2, 3, 4]).map(lambda n: {"npartitions": n})
        | st.integers(1, 4).map(lambda n: {"partition_size": n})
        | st.just({})
    )
    n_partitions = db.from_sequence(items, **kwargs).npartitions
    shape = len(items), n_partitions, kwargs.get("partition_size")
    code = Call(db.from_sequence, (items,), kwargs)
    return Made(code, kind, n_partitions, len(items), shape)


def _range(growing: Growing) -> Made:
    n_partitions = growing.number(1, 4)
    n = growing.number(n_partitions, 12)
    code = Call(db.range, (n,), {"npartitions": n_partitions})
    return Made(code, "int", n_partitions, n, ("range", n, n_partitions))


def _read_text(growing: Growing) -> Made:
    names = growing.pick(
        [["a.txt"], ["a.txt", "b.txt", "c.txt"], ["c.txt", "d.txt"], ["e.txt.gz"]]
    )
    path: Any = [File("texts", name) for name in names]
    if growing.number(0, 3) == 3:
        path = File("texts", "*.txt")
    kwargs = growing.some(
        include_path=st.just(True),
        linedelimiter=st.sampled_from(["\n", "o", "b\n"]),
        encoding=st.just("latin-1"),
    )
    kwargs |= growing.draw(
        st.just({})
        | st.integers(1, 3).map(lambda n: {"files_per_partition": n})
        # Not in the middle of what takes two bytes.
        | st.sampled_from([8, 100]).map(lambda n: {"blocksize": n})
    )
    items = "any" if kwargs.get("include_path") else "str"
    code = Call(db.read_text, (path,), kwargs)
    return Made(code, items, 8, 20, code.code)


def _from_delayed(growing: Growing) -> Made:
    # None of them twice: an iterator would have two users.
    parts = growing.draw(
        st.lists(
            st.sampled_from(DELAYED_PARTITIONS), min_size=1, max_size=4, unique_by=repr
        )
    )
    code = Call(db.from_delayed, (parts[0] if growing.flip() else parts,))
    n_partitions = len(parts) if code.args[0] is parts else 1
    return Made(code, "int", n_partitions, 3 * n_partitions, code.code)


def _handmade(growing: Growing) -> Made:
    code = Call(handmade, (growing.number(0, 2),))
    return Made(code, "int", 3, 12, code.code)


_SOURCES = [
    _from_sequence,
    _from_sequence,
    _from_sequence,
    _range,
    _read_text,
    _from_delayed,
    _handmade,
]


# -- what is done with bags ------------------------------------------------------------


def _map(growing: Growing, bag: Made) -> Made:
    function, items = growing.pick(MAPS[bag.items])
    if growing.seldom():
        function = growing.pick(RISKY)
        items = bag.items if bag.items == "iter" else "any"
    return bag.each("map", function, items=items)


def _map_many(growing: Growing, bag: Made) -> Made:
    """Map with several bags, items, delayed values and literals, also by name."""
    args = [
        growing.like(bag).code if growing.flip() else growing.scalar()
        for _ in range(growing.number(0, 2))
    ]
    kwargs = growing.named()
    if growing.number(0, 3) == 3:
        kwargs["bag"] = growing.like(bag).code
    function = growing.pick([mix, mix, record])
    return bag.each(
        "map", function, *args, items="int" if function is mix else "any", **kwargs
    )


def _map_first(growing: Growing, bag: Made) -> Made:
    """Map with a literal before the bag, for which there is no method."""
    code = Call(db.map, (mix, growing.draw(literals), bag.code))
    return replace(bag, code=code, items="int")


def _starmap(growing: Growing, bag: Made) -> Made:
    if bag.items == "group":
        return bag.each("starmap", name_group, items="any")
    if bag.items == "pair" and growing.flip():
        return bag.each("starmap", growing.pick([add, max]), items="int")
    if bag.items not in ("pair", "str", "list") and not growing.seldom():
        bag = bag.each("map", Lambda("lambda x: (x, 1)"), items="any")
    return bag.each("starmap", mix, items="int", **growing.named())


def _filter(growing: Growing, bag: Made) -> Made:
    method = growing.pick(["filter", "remove"])
    return bag.then(method, growing.function(PREDICATES[bag.items]))


def _pluck(growing: Growing, bag: Made) -> Made:
    match bag.items:
        case "pair":
            key, items = growing.pick([(0, "int"), (1, "int"), ([1, 0], "pair")])
        case "dict":
            key, items = growing.pick([("a", "int"), ("b", "any"), (["a"], "any")])
        case _:
            key, items = growing.pick([0, 1, -1]), "any"
    # Some don't have it.
    if items == "any" and not growing.seldom():
        return bag.each("pluck", key, growing.draw(atoms), items=items)
    return bag.each("pluck", key, items=items)


def _unzip(growing: Growing, bag: Made) -> Made:
    return replace(bag, code=Call(zip_again, (bag.code.then("unzip", 2),)))


def _text(growing: Growing, bag: Made) -> Made:
    text = Call(getattr, (bag.code, "str"))
    method = growing.pick(["upper", "split", "match", "strip"])
    if method == "match":
        return bag.reshaped(text.then("match", "*o*"))
    return replace(
        bag, code=text.then(method), items="any" if method == "split" else "str"
    )


def _flatten(growing: Growing, bag: Made) -> Made:
    items = "str" if bag.items == "str" else "int"
    return bag.then("flatten", changes={"items": items, "n_items": 3 * bag.n_items})


def _map_partitions(growing: Growing, bag: Made) -> Made:
    if bag.items == "int" and growing.number(0, 3) == 3:
        function = growing.pick([Call(partial, (map, increment)), sorted, total])
        return bag.then("map_partitions", function)
    if growing.number(0, 4) == 4:
        return bag.then("map_partitions", count_items, changes={"items": "int"})
    return bag.then(
        "map_partitions",
        growing.function(ON_PARTITIONS),
        changes={"n_items": 2 * bag.n_items},
    )


def _map_partitions_many(growing: Growing, bag: Made) -> Made:
    """Map partitions with other bags, items, delayed values and literals."""
    args = [
        growing.like(bag).code if growing.flip() else growing.scalar()
        for _ in range(growing.number(0, 2))
    ]
    if args and growing.number(0, 4) == 4:
        args[-1] = [growing.scalar(), {"a": growing.scalar()}]
    kwargs = growing.named()
    if growing.number(0, 3) == 3:
        kwargs["bag"] = growing.like(bag).code
    function = growing.pick([mix_each, generate_mixed])
    return bag.then(
        "map_partitions", function, *args, changes={"items": "int"}, **kwargs
    )


def _random_sample(growing: Growing, bag: Made) -> Made:
    seed = growing.pick([7, Call(Random, (7,))])
    return bag.then(
        "random_sample", growing.pick([0.5, 0, 1.0, 0.2]), random_state=seed
    )


def _repartition(growing: Growing, bag: Made) -> Made:
    n = growing.number(1, 7)
    return bag.then("repartition", npartitions=n, changes={"n_partitions": n})


def _repartition_by_size(growing: Growing, bag: Made) -> Made | None:
    # Dask measures long partitions by a random sample of their items. And how much a
    # list takes depends on how it was made, so only the items are looked at.
    if bag.n_items > 10:
        return None
    size = growing.pick([100, 200, "1 kB"])
    code = bag.code.then("repartition", partition_size=size)
    return Made(
        code.then("repartition", npartitions=1), "int", 1, bag.n_items, code.code
    )


def _accumulate(growing: Growing, bag: Made) -> Made:
    kwargs = growing.some(initial=_initial(bag)) if growing.flip() else {}
    return bag.then(
        "accumulate",
        growing.function(FOLDS[bag.items]),
        changes={"n_items": bag.n_items + 1, "items": _folded(bag)},
        **kwargs,
    )


def _initial(bag: Made) -> st.SearchStrategy[Any]:
    return ITEMS.get(bag.items, st.none())


def _folded(bag: Made) -> str:
    return bag.items if bag.items in ("int", "str", "pair", "list") else "any"


def _concat(growing: Growing, bag: Made) -> Made:
    other = growing.pick(growing.others())
    return bag.reshaped(
        Call(db.concat, ([bag.code, other.code],)),
        items=bag.items if bag.items == other.items else "any",
        n_partitions=bag.n_partitions + other.n_partitions,
        n_items=bag.n_items + other.n_items,
    )


def _zip(growing: Growing, bag: Made) -> Made:
    # Partitions of other lengths end with the shortest.
    other = growing.pick(growing.others(n_partitions=bag.n_partitions))
    both = {bag.items, other.items}
    return bag.reshaped(
        Call(db.zip, (bag.code, other.code)), items="pair" if both == {"int"} else "any"
    )


def _product(growing: Growing, bag: Made) -> Made:
    other = growing.pick(growing.others())
    both = {bag.items, other.items}
    return bag.then(
        "product",
        other.code,
        changes={
            "items": "pair" if both == {"int"} else "any",
            "n_partitions": bag.n_partitions * other.n_partitions,
            "n_items": bag.n_items * other.n_items,
        },
    )


def _join(growing: Growing, bag: Made) -> Made:
    changes = {"items": "any", "n_items": 3 * bag.n_items}
    if bag.items == "int" and growing.flip():
        changes["items"] = "pair"
        other = growing.pick(
            [
                (1, 2, 5),
                [0, 3, 4],
                Call(delayed, ((1, 2, 3),)),
                Call(delayed, (list,)).then("__call__", [1, 2]),
                Call(db.from_sequence, ([1, 2, 4],), {"npartitions": 1}),
                *(b.code for b in growing.others(items="int", n_partitions=1)),
            ]
        )
        return bag.then("join", other, growing.key(bag), changes=changes)
    other = growing.pick([["", "a", "abc"], (("x", "y"), ())])
    return bag.then("join", other, growing.key(bag), on_other=len, changes=changes)


def _groupby(growing: Growing, bag: Made) -> Made | None:
    key = growing.key(bag)
    if not callable(key) and not isinstance(key, Call | Lambda):
        return None
    changes: dict[str, Any] = {"items": "group"}
    if growing.flip():
        branch = growing.some(max_branch=st.just(2))
        if branch:
            changes["n_partitions"] = 2 * bag.n_partitions
        return bag.then("groupby", key, shuffle="tasks", changes=changes, **branch)
    options = growing.some(npartitions=st.integers(1, 4), blocksize=st.just(2))
    changes["n_partitions"] = options.get("npartitions", bag.n_partitions)
    groups = bag.then("groupby", key, shuffle="disk", changes=changes, **options)
    return groups.then("map_partitions", sort_groups)


def _frequencies(growing: Growing, bag: Made) -> Made:
    options = growing.some(split_every=_SPLITS, sort=st.booleans())
    items = "pair" if bag.items == "int" else "any"
    return bag.then("frequencies", changes=_one(items, bag), **options)


def _one(items: str, bag: Made) -> dict[str, Any]:
    """Return what is known of a bag that was reduced to one partition."""
    return {"items": items, "n_partitions": 1, "n_items": bag.n_items}


def _topk(growing: Growing, bag: Made) -> Made:
    options = growing.some(split_every=_SPLITS)
    if growing.flip():
        options["key"] = growing.key(bag)
        if bag.items == "pair" and growing.flip():
            options["key"] = Lambda("lambda x, y: x - y")
    k = growing.number(1, 4)
    return bag.then("topk", k, changes=_one(bag.items, bag), **options)


def _distinct(growing: Growing, bag: Made) -> Made:
    args = (growing.key(bag),) if growing.flip() else ()
    return bag.then("distinct", *args, changes=_one(bag.items, bag))


def _foldby(growing: Growing, bag: Made) -> Made:
    options = growing.some(split_every=_SPLITS)
    if growing.flip():
        args = (growing.key(bag), append, (), add)
        if growing.flip():
            options["combine_initial"] = ()
        return bag.then("foldby", *args, changes=_one("any", bag), **options)
    binop = growing.function(FOLDS[bag.items])
    if growing.flip():
        options["combine"] = growing.pick(FOLDS[_folded(bag)])
    if growing.flip():
        options["initial"] = growing.draw(_initial(bag))
    if growing.flip():
        options["combine_initial"] = growing.draw(_initial(bag))
    return bag.then(
        "foldby", growing.key(bag), binop, changes=_one("any", bag), **options
    )


def _take(growing: Growing, bag: Made) -> Made:
    n = growing.pick([1, 1, -1, min(2, bag.n_partitions)])
    options = {"npartitions": n, "compute": False, "warn": growing.flip()}
    changes = _one(bag.items, bag)
    return bag.then("take", growing.number(0, 5), changes=changes, **options)


def _reduce_to_bag(growing: Growing, bag: Made) -> Made:
    options = growing.some(split_every=_SPLITS)
    if growing.flip():
        code = bag.code.then("fold", append, add, (), out_type=db.Bag, **options)
        return bag.reshaped(code, **_one(bag.items, bag))
    options |= growing.some(name=st.just("reduced"))
    code = bag.code.then(
        "reduction", last_two, last_two_of_all, out_type=db.Bag, **options
    )
    return bag.reshaped(code, **_one(bag.items, bag))


def _again(growing: Growing, bag: Made) -> Made:
    """Take the bag apart or compute it, and go on with what has come out."""
    code = growing.pick(
        [
            Call(delayed_again, (bag.code,)),
            Call(delayed_again, (bag.code,), {"optimize_graph": False}),
            bag.code.then("persist"),
            bag.code.then("persist", optimize_graph=False),
            Call(optimized, (bag.code,)),
        ]
    )
    return replace(bag, code=code)


def _annotate(growing: Growing, bag: Made) -> Made:
    annotations = growing.pick([{"priority": 1}, {"retries": 2}, {"note": "a"}])
    return replace(bag, code=replace(bag.code, annotations=annotations))


# -- values that are made of bags ------------------------------------------------------


def _reduce(growing: Growing, bag: Made) -> Call:
    method = growing.pick(["sum", "count", "max", "min", "any", "all"])
    return bag.code.then(method, **growing.some(split_every=_SPLITS))


def _average(growing: Growing, bag: Made) -> Call:
    method = growing.pick(["mean", "var", "std"])
    options = growing.some(ddof=st.just(1)) if method != "mean" else {}
    return bag.code.then(method, **options)


def _fold(growing: Growing, bag: Made) -> Call:
    options = growing.some(split_every=_SPLITS)
    if growing.number(0, 4) == 4:
        return bag.code.then("fold", append, add, initial=(), **options)
    if growing.flip():
        options["combine"] = growing.pick(FOLDS[_folded(bag)])
    if growing.flip():
        options["initial"] = growing.draw(_initial(bag))
    return bag.code.then("fold", growing.function(FOLDS[bag.items]), **options)


def _reduction(growing: Growing, bag: Made) -> Call:
    options = growing.some(split_every=_SPLITS, name=st.just("reduced"))
    return bag.code.then("reduction", list, list, **options)


def _apply(growing: Growing, bag: Made) -> Call | None:
    items = [value for value in growing.values if value.function in _ITEM_METHODS]
    if not items:
        return None
    value = growing.pick(items)
    if growing.flip():
        return value.then("to_delayed", **growing.some(optimize_graph=st.just(False)))
    return value.then("apply", mix)


_ITEM_METHODS = {
    *("sum", "count", "max", "min", "any", "all", "mean", "var", "std", "fold"),
    *("reduction", "apply"),
}


def _delayed(growing: Growing, bag: Made) -> Call:
    function = Call(delayed, (mix,), {"pure": True})
    if growing.flip():
        return function.then("__call__", bag.code, x=growing.scalar())
    return function.then("__call__", bag.code.then("to_delayed"))


#: For items of any kind, more often what is most used.
_STEPS = [
    *(_map, _map, _map, _map, _filter, _filter, _map_many, _map_many, _map_many),
    *(_reduce, _reduce, _map_partitions, _map_partitions, _map_partitions_many),
    *(_map_first, _starmap, _starmap, _random_sample, _repartition, _repartition),
    *(_accumulate, _concat, _zip, _zip, _product, _join, _groupby, _groupby),
    *(_frequencies, _topk, _distinct, _foldby, _foldby, _take, _reduce_to_bag),
    *(_again, _annotate, _fold, _fold, _reduction, _apply, _delayed),
]

_Step = Callable[[Growing, Made], Made | Call | None]

#: For items of one kind alone.
_STEPS_FOR: dict[str, list[_Step]] = {
    "int": [*_STEPS, _repartition_by_size, _average],
    "str": [*_STEPS, *(_text, _text, _pluck, _flatten)],
    "pair": [*_STEPS, *(_pluck, _pluck, _unzip, _flatten)],
    "list": [*_STEPS, *(_pluck, _flatten, _flatten)],
    "dict": [*_STEPS, *(_pluck, _pluck, _pluck)],
    # An iterator can be read once.
    "iter": [_map, _flatten],
    "group": _STEPS,
    "any": _STEPS,
}


# -- what is asked for -----------------------------------------------------------------


def _taken(growing: Growing, bag: Made) -> Call:
    npartitions = growing.pick([1, -1])
    return bag.code.then(
        "take", growing.number(0, 5), npartitions=npartitions, warn=growing.flip()
    )


def _listed(growing: Growing, bag: Made) -> Call:
    return Call(list, (bag.code,))


def _unpartitioned(growing: Growing, bag: Made) -> Call:
    """Have a number in the place of each partition."""
    return bag.code.then("map_partitions", length)


def _written(growing: Growing, bag: Made) -> Call:
    if bag.items != "str" and not growing.seldom():
        bag = bag.each("map", str, items="str")
    options = growing.some(
        name_function=st.just(Lambda("lambda i: f'part-{i}'")),
        last_endline=st.just(True),
        encoding=st.sampled_from([None, "utf-16"]),
        compute=st.just(False),
    )
    return bag.code.then("to_textfiles", File("output", "*.txt"), **options)


_ENDS: list[Callable[[Growing, Made], Call]] = [
    *(_taken, _listed, _unpartitioned, _written),
]


@st.composite
def computations(draw: Draw, max_steps: int = 7) -> Computation:
    """Draw one or several bags and values of bags, mostly with shared parts.

    Some of them fail, when they are built or when they are computed.
    """
    growing = Growing(draw)
    growing.keep(_source(growing))
    # Of few steps there are few examples; of as many as there may be, most differ.
    for _ in range(min(max_steps, growing.number(0, 3 * max_steps))):
        growing.grow()
    last = growing.bags[-1]
    asked = [growing.latest]
    if (
        growing.latest is last.code
        and last.items != "iter"
        and not growing.number(0, 5)
    ):
        asked = [growing.pick(_ENDS)(growing, last)]
    others = [*growing.values, *(bag.code for bag in growing.bags)][::-1]
    asked += draw(st.lists(st.sampled_from(others), max_size=2))
    return Computation(asked, optimize_graph=draw(st.integers(0, 4)) < 4)
