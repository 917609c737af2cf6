"""From an expression of columns to a recipe and the pieces that follow it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from dask._task_spec import Alias, GraphNode, Task, TaskRef
from dask.utils import funcname

from amorsize_dask.execute import grouping, stand_ins
from amorsize_dask.execute.recipe import COPIERS, MAKERS, Cut, Piece, Recipe, Step
from amorsize_dask.lowering.columns import (
    Call,
    Column,
    Constant,
    Container,
    Expression,
    Leaf,
    Previous,
    Reference,
)
from amorsize_dask.lowering.functions import find_known, look_up
from amorsize_dask.lowering.traversal import RUN_FUSED

#: Functions that neither change their arguments nor give them to anyone as they are:
#: what they get need not be copied.
_HARMLESS = (
    "builtins:dict.get",
    "builtins:map",
    "builtins:filter",
    "builtins:zip",
    "itertools:starmap",
    "itertools:product",
    "tlz:concat",
    "tlz:pluck",
    "tlz:remove",
    "tlz:take",
    "dask.bag.core:map_chunk",
    "dask.bag.core:safe_take",
    "dask.bag.core:starmap_chunk",
)


#: Functions that take one iterable and give for each of its items something that only
#: this item decides: by the place of that iterable among their arguments.
_ELEMENTWISE = {
    "builtins:map": 1,
    "builtins:filter": 1,
    "itertools:starmap": 1,
    "tlz:remove": 1,
    "tlz:pluck": 1,
    "tlz:concat": 0,
    "dask.bag.core:starmap_chunk": 1,
}

#: Functions that look at all items they are given, cost little beside what made these,
#: and are no one's own: they run in the caller on what comes from several places.
_GATHERING = (
    "builtins:list",
    "builtins:sum",
    "builtins:max",
    "builtins:min",
    "builtins:len",
    "builtins:set",
    "builtins:sorted",
    "tlz:count",
    "tlz:frequencies",
    "dask.bag.chunk:var_chunk",
    "dask.bag.core:reify",
    "dask.bag.core:chunk_distinct",
    "dask.bag.core:dictitems",
    "dask.bag.core:finalize",
    "dask.bag.core:finalize_item",
    "dask.bag.core:merge_distinct",
    "dask.bag.core:merge_frequencies",
)

#: What calls a function, its first argument, with its second.
_CALLING = ("dask.bag.core:empty_safe_apply", "dask.bag.core:empty_safe_aggregate")

#: Functions of Dask, and those that stand in for them.
_STAND_INS: dict[str, Callable[..., Any]] = {
    "dask.bag.core:reify": stand_ins.reify,
    "dask.bag.core:empty_safe_apply": stand_ins.empty_safe_apply,
    "dask.bag.core:empty_safe_aggregate": stand_ins.empty_safe_aggregate,
    "dask.bag.core:finalize": stand_ins.finalize,
    "dask.bag.core:frequencies": stand_ins.frequencies,
    "dask.bag.core:merge_frequencies": stand_ins.merge_frequencies,
    "dask.bag.core:partition": grouping.partition,
    "dask.bag.core:collect": grouping.collect,
}


def make_pieces(name: str, links: Sequence[Expression], n: int) -> list[Piece]:
    """Make the tasks of a group.

    Parameters
    ----------
    name : str
        For people.
    links : sequence of Expression
        What the tasks do, by column: calls or containers, of which each may take the
        value of the one before.
    n : int
        How many tasks there are.
    """
    compiler = _Compiler()
    for link in links:
        compiler.compile(link)
    columns, keys = compiler.columns, tuple(compiler.keys)
    recipe = Recipe(
        constants=_stand_in(compiler.constants),
        n_arguments=len(columns),
        references=keys,
        steps=tuple(compiler.number_steps()),
        name=name,
        cut=compiler.find_cut(),
    )
    rows: Any = zip(*columns, strict=True) if columns else repeat((), n)
    if not keys:
        return list(map(Piece, repeat(recipe), rows))
    if len(keys) == 1:
        dependencies: Any = zip(columns[keys[0]], strict=True)
    else:
        found = zip(*(columns[i] for i in keys), strict=True)
        dependencies = (tuple(dict.fromkeys(row)) for row in found)
    return list(map(Piece, repeat(recipe), rows, dependencies))


class Calls:
    """Makes pieces of single calls: those of one function share a recipe."""

    def __init__(self) -> None:
        self._recipes: dict[tuple[int, tuple[bool, ...]], Recipe] = {}
        # By what arguments are, which tells all about them that matters here.
        self._by_types: dict[tuple[int, tuple[type, ...]], Recipe | None] = {}

    def convert(self, node: Task) -> Piece | None:
        """Return the same task as a piece; ``None`` if it is more than one call."""
        if node.kwargs or node.func is RUN_FUSED:
            return None
        place = id(node.func), tuple(map(type, node.args))
        try:
            recipe = self._by_types[place]
        except KeyError:
            recipe = self._by_types[place] = self._find(node)
        if recipe is None:
            return None
        arguments = list(node.args)
        for i in recipe.references:
            reference = arguments[i]
            is_alias = isinstance(reference, Alias)
            arguments[i] = reference.target if is_alias else reference.key
        return Piece(recipe, arguments)

    def _find(self, node: Task) -> Recipe | None:
        are_keys = tuple([isinstance(a, TaskRef | Alias) for a in node.args])
        if any(
            isinstance(argument, GraphNode) and not is_key
            for argument, is_key in zip(node.args, are_keys, strict=True)
        ):
            return None
        place = id(node.func), are_keys
        recipe = self._recipes.get(place)
        if recipe is None:
            recipe = self._recipes[place] = self._make(node.func, are_keys)
        return recipe

    @staticmethod
    def _make(function: Any, are_keys: Sequence[bool]) -> Recipe:
        n = len(are_keys)
        return Recipe(
            constants=(function,),
            n_arguments=n,
            references=tuple(i for i, is_key in enumerate(are_keys) if is_key),
            steps=(Step(0, tuple(range(1, n + 1)), {}, ()),),
            name=funcname(function),
        )


class _Compiler:
    """Lays an expression out as constants, columns and steps.

    While it works, places are tuples of a kind and a number, since how many constants
    there are isn't known before the end.
    """

    def __init__(self) -> None:
        self.constants: list[Any] = []
        self.columns: list[Sequence[Any]] = []
        #: Which of the columns are keys, in order.
        self.keys: dict[int, None] = {}
        self._steps: list[tuple[Any, list[Any], dict[str, Any]]] = []
        self._numbers: dict[int, int] = {}
        self._previous: Any = None
        self._sources: set[int] = set()
        self._harmless = find_known(_HARMLESS)

    def compile(self, link: Expression) -> None:
        """Add what a link needs."""
        todo: list[Any] = [link]
        places: list[Any] = []
        while todo:
            part = todo.pop()
            if isinstance(part, Call):
                part = _simplify(part)
                todo.append((part, len(part.arguments), len(part.keywords)))
                todo += [*part.keywords.values()][::-1]
                todo += part.arguments[::-1]
                todo.append(part.function)
            elif isinstance(part, Container):
                todo.append((part, len(part.items), 0))
                todo += part.items[::-1]
            elif isinstance(part, tuple):
                self._add_step(places, *part)
            else:
                places.append(self._add_leaf(part))
        (self._previous,) = places

    def number_steps(self) -> list[Step]:
        """Return the steps with places as numbers."""
        starts = {
            "constant": 0,
            "column": len(self.constants),
            "step": len(self.constants) + len(self.columns),
        }

        def number(place: tuple[str, int]) -> int:
            return starts[place[0]] + place[1]

        steps = []
        for function, positional, keywords in self._steps:
            used = dict.fromkeys([*positional, *keywords.values()])
            steps.append(
                Step(
                    number(function),
                    tuple(map(number, positional)),
                    {name: number(place) for name, place in keywords.items()},
                    tuple(number(p) for p in used if p[0] == "step" or self._is_key(p)),
                )
            )
        return steps

    def find_cut(self) -> Cut | None:
        """Return where the steps can be cut, if they can."""
        if not self._sources:
            return None
        elementwise = {
            number: _ELEMENTWISE[name]
            for number, name in find_known(tuple(_ELEMENTWISE)).items()
        }
        place: Any = None
        source: int | None = None
        last = 0
        for number, (function, positional, keywords) in enumerate(self._steps):
            called = self._find_constant(function)
            if called is repeat and source is not None:
                return None
            if called is repeat:
                continue
            at = elementwise.get(id(called))
            if at is None or keywords or at >= len(positional):
                break
            taken = positional[at]
            if source is None:
                if taken[0] != "column" or taken[1] not in self._sources:
                    return None
                source = taken[1]
            elif taken != place:
                return None
            others = [p for i, p in enumerate(positional) if i != at]
            if not all(self._is_the_same_for_all(p) for p in others):
                return None
            place, last = ("step", number), number
        if source is None or not self._is_gathered(last + 1, place):
            return None
        return Cut(source, last + 1)

    def _is_gathered(self, start: int, place: Any) -> bool:
        """Whether the steps from `start` on gather what is found at a place."""
        gathering, calling = find_known(_GATHERING), find_known(_CALLING)
        for number, (function, positional, keywords) in enumerate(self._steps):
            if number < start:
                continue
            called = self._find_constant(function)
            if id(called) in calling and positional:
                called = self._find_constant(positional[0])
                positional = positional[1:]
            if keywords or not positional or positional[0] != place:
                return False
            is_in_list = called is MAKERS[list] and len(positional) == 1
            if id(called) not in gathering and not is_in_list:
                return False
            place = ("step", number)
        return True

    def _find_constant(self, place: tuple[str, int]) -> Any:
        return self.constants[place[1]] if place[0] == "constant" else None

    def _is_the_same_for_all(self, place: tuple[str, int]) -> bool:
        """Whether each item meets the same at a place, and uses nothing of it up."""
        if place[0] == "step":
            return self._find_constant(self._steps[place[1]][0]) is repeat
        return place[0] == "constant"

    def _is_key(self, place: tuple[str, int]) -> bool:
        return place[0] == "column" and place[1] in self.keys

    def _add_step(
        self,
        places: list[Any],
        part: Call | Container,
        n_positional: int,
        n_keywords: int,
    ) -> None:
        values = [places.pop() for _ in range(n_positional + n_keywords)][::-1]
        positional, named = values[:n_positional], values[n_positional:]
        if isinstance(part, Container):
            function, keywords = self._add_constant(MAKERS[part.kind]), {}
            positional = self._protect(part.items, positional)
        else:
            function = places.pop()
            keywords = dict(zip(part.keywords, named, strict=True))
            if not self._is_harmless(part.function):
                positional = self._protect(part.arguments, positional)
        self._steps.append((function, positional, keywords))
        places.append(("step", len(self._steps) - 1))

    def _is_harmless(self, function: Expression) -> bool:
        return isinstance(function, Constant) and id(function.value) in self._harmless

    def _protect(self, arguments: list[Expression], places: list[Any]) -> list[Any]:
        """Copy what a function could change: it isn't this task's alone."""
        protected = []
        for argument, place in zip(arguments, places, strict=True):
            copied: Any = None
            if isinstance(argument, Column):
                kinds = {*map(type, argument.values)}
                copied = COPIERS.get(kinds.pop()) if len(kinds) == 1 else None
            elif isinstance(argument, Constant):
                copied = COPIERS.get(type(argument.value))
            if copied is not None:
                self._steps.append((self._add_constant(copied), [place], {}))
                place = ("step", len(self._steps) - 1)
            protected.append(place)
        return protected

    def _add_leaf(self, leaf: Leaf) -> Any:
        if _reads_lines(leaf):
            return self._add_constant(stand_ins.read_lines)
        match leaf:
            case Constant(value):
                return self._add_constant(value)
            case Column(values, is_source):
                if is_source:
                    self._sources.add(len(self.columns))
                self.columns.append(values)
            case Reference(keys):
                self.keys[len(self.columns)] = None
                self.columns.append(keys)
            case Previous():
                return self._previous
        return ("column", len(self.columns) - 1)

    def _add_constant(self, value: Any) -> Any:
        number = self._numbers.setdefault(id(value), len(self.constants))
        if number == len(self.constants):
            self.constants.append(value)
        return ("constant", number)


def _stand_in(constants: Sequence[Any]) -> tuple[Any, ...]:
    """Put functions that cost less, or need no Dask, in the place of Dask's own."""
    known = find_known(tuple(_STAND_INS))
    return tuple(
        _STAND_INS[known[id(c)]] if id(c) in known else _stand_in_for_hash(c)
        for c in constants
    )


def _stand_in_for_hash(constant: Any) -> Any:
    """Return what pairs items with the hash of their group, if that is what it is."""
    if type(constant) is not partial or constant.args:
        return constant
    if constant.func is not look_up("dask.bag.chunk:groupby_tasks_group_hash"):
        return constant
    defaults = look_up("dask.bag.core:groupby_tasks.__defaults__") or ()
    match constant.keywords:
        case {"hash": hashed, "grouper": grouper} if any(
            hashed is default for default in defaults
        ):
            return partial(grouping.pair_with_hash, grouper=grouper)
    return constant


def _reads_lines(leaf: Leaf) -> bool:
    """Whether it is what `read_text` reads files with: one function for each file."""
    match leaf:
        case Constant(value):
            functions: Sequence[Any] = [value]
        case Column(values):
            functions = values
        case _:
            return False
    return bool(functions) and all(
        type(function) is partial
        and function.func is look_up("dask.bag.text:file_to_blocks")
        and function.args == (False,)
        and function.keywords == {"delimiter": None}
        for function in functions
    )


def _simplify(call: Call) -> Call:
    """Return the call of a faster function that does the same.

    Dask's `map_chunk` iterates in Python and makes sure that bags are of the same
    length. With one bag, whatever is repeated beside it, that is the builtin `map`.
    """
    map_chunk = getattr(sys.modules.get("dask.bag.core"), "map_chunk", None)
    match call:
        case Call(
            Constant(function),
            [
                Constant(mapped),
                Container(_, iterables),
                Constant(None),
                Constant(kwargs),
            ],
        ) if function is map_chunk and map_chunk is not None:
            if sum(not _is_repeat(iterable) for iterable in iterables) == 1:
                mapped = partial(mapped, **kwargs) if kwargs else mapped
                return Call(Constant(map), [Constant(mapped), *iterables])
    return call


def _is_repeat(expression: Expression) -> bool:
    match expression:
        case Call(Constant(function), [_]):
            return function is repeat
    return False
