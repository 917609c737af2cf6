"""Which tasks make up a stage: those that share a name and a function."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from dask._task_spec import GraphNode
from dask.utils import apply, funcname, key_split

from amorsize_dask.execute.node import Key
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.lowering.functions import function_of
from amorsize_dask.lowering.traversal import RUN_FUSED

#: Stages above which names are no longer looked at, since they seem to be the tasks'
#: own, such as a file's name for each. Smaller: large queries lose stages that differ;
#: larger: so many stages must each be measured, on a task or two.
MAX_STAGES = 200

#: Letters of a stage's name; a long chain's is cut there. Dask's own limit for the keys
#: of fused tasks.
MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a graph.

    Attributes
    ----------
    stage_of
        For each task the number of its stage.
    names
        For each stage its name, for people.
    bookkeeping
        The stages whose tasks are bookkeeping.
    """

    stage_of: list[int]
    names: list[str]
    bookkeeping: frozenset[int]


def find_stages(
    tasks: Sequence[Sequence[int]],
    keys: Sequence[Key],
    nodes: Sequence[GraphNode | Piece],
    bookkeeping: AbstractSet[int],
    said: Sequence[Hashable] = (),
) -> Stages:
    """Sort tasks into stages.

    Parameters
    ----------
    tasks : sequence of sequence of int
        For each task its nodes by number: one, or the links of a chain.
    keys, nodes : sequence
        By number.
    bookkeeping : set of int
        Nodes that are bookkeeping. They are tasks of their own.
    said : sequence of object, optional
        For each task what the user has said of it, if that was anything.

    Returns
    -------
    Stages
        Tasks are of one stage if all their links share the prefix of their keys and
        the function, both or neither are bookkeeping, and the same was said of them.
        Digits at the end of a
        prefix don't count, so that "x1" and "x2" are of one stage if they call the
        same. Beyond `MAX_STAGES` only functions count.
    """
    kinds = _number(said) if said else [0] * len(tasks)
    found = _sort(tasks, keys, nodes, bookkeeping, kinds, _Steps(by_name=True))
    if len(found.names) > MAX_STAGES:
        found = _sort(tasks, keys, nodes, bookkeeping, kinds, _Steps(by_name=False))
    return found


def _sort(
    tasks: Sequence[Sequence[int]],
    keys: Sequence[Key],
    nodes: Sequence[GraphNode | Piece],
    bookkeeping: AbstractSet[int],
    kinds: Sequence[int],
    steps: _Steps,
) -> Stages:
    numbers: dict[tuple[Any, bool, int], int] = {}
    stage_of: list[int] = []
    before: Any = None
    stage = -1
    for links, kind in zip(tasks, kinds, strict=True):
        first = links[0]
        node, is_book = nodes[first], first in bookkeeping
        recipe = node.recipe if type(node) is Piece and len(links) == 1 else None
        # Pieces of one recipe stand together, mostly.
        if recipe is None or before != (recipe, is_book, kind):
            made: Any = steps.number(keys[first], node)
            if len(links) > 1:
                made = made, *(steps.number(keys[i], nodes[i]) for i in links[1:])
            stage = numbers.setdefault((made, is_book, kind), len(numbers))
            before = recipe, is_book, kind
        stage_of.append(stage)
    return Stages(
        stage_of,
        [_name(made, steps.names) for made, _, _ in numbers],
        frozenset(stage for (_, is_book, _), stage in numbers.items() if is_book),
    )


def _number(values: Sequence[Hashable]) -> list[int]:
    """Return for each value a number that equal ones share."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _name(made: int | tuple[int, ...], names: list[str]) -> str:
    """Return the name of a stage: those of its links, each once, as Dask does."""
    if isinstance(made, int):
        return names[made]
    joined = "-".join(dict.fromkeys(names[step] for step in made))
    return joined if len(joined) <= MAX_NAME else f"{joined[: MAX_NAME - 1]}…"


class _Steps:
    """Gives one number to all nodes that do the same.

    Attributes
    ----------
    names : list of str
        For each number a name.
    """

    def __init__(self, *, by_name: bool) -> None:
        self.names: list[str] = []
        self._by_name = by_name
        self._numbers: dict[tuple[str, Any], int] = {}
        self._known: dict[Any, int] = {}

    def number(self, key: Key, node: GraphNode | Piece) -> int:
        # The keys of a layer share their first part, and what they call.
        head = key[0] if type(key) is tuple and key else key
        if type(node) is Piece:
            place: Any = id(node.recipe)
        else:
            function = getattr(node, "func", None)
            place = head, id(function)
            if function is not RUN_FUSED and function is not apply:
                # Their arguments don't tell what they call. Each delayed value has a
                # key of its own.
                place = self._by_name and key_split(head), id(function)
        number = self._known.get(place)
        if number is None:
            number = self._known[place] = self._find(head, node)
        return number

    def _find(self, head: Key, node: GraphNode | Piece) -> int:
        function = function_of(node)
        if isinstance(node, Piece):
            identity: Any = tuple(map(_identify, node.recipe.functions))
            prefix = node.recipe.name
        else:
            identity = _identify(function)
            prefix = str(key_split(head))
        if not self._by_name:
            return self._add("", identity, funcname(function))
        family = prefix.rstrip("0123456789").rstrip("_.") or prefix
        number = self._add(family, identity, prefix)
        if self.names[number] != prefix:
            self.names[number] = family
        return number

    def _add(self, family: str, identity: Any, name: str) -> int:
        number = self._numbers.setdefault((family, identity), len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number


def _identify(function: Any) -> Any:
    """Return what is the same for all functions that do the same.

    A lambda that is made in a loop is another object each time; its code isn't. Nor do
    instances of one class differ, unless they have a name, as NumPy's ufuncs do.
    """
    code = getattr(function, "__code__", None)
    if code is not None:
        return id(code)
    if hasattr(function, "__name__"):
        return id(function)
    return id(type(function))
