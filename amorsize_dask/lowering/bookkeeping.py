"""Which tasks only pass values along, and so belong where the values are.

Nothing here may run a user's code, nor work that is worth sending elsewhere. Functions
are known by identity. They are looked up in modules that someone else has imported: if
Dask's bag hasn't been, no graph has its functions. Names that a release of Dask doesn't
have are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from operator import getitem
from typing import Any

from dask._task_spec import Task

from amorsize_dask.execute.node import Key
from amorsize_dask.execute.recipe import COPIERS, MAKERS, Piece, Recipe
from amorsize_dask.lowering.aliases import Resolution
from amorsize_dask.lowering.functions import find_known, function_of, look_up, unwrap
from amorsize_dask.lowering.traversal import RUN_FUSED, Traversal


class Kind(Enum):
    """What a task does with the values that it needs."""

    #: It computes something.
    WORK = auto()
    #: It takes a part out of a value. A worker would get the whole of it.
    PART = auto()
    #: It waits for values and makes nothing of them.
    WAIT = auto()
    #: It reads what is on a cluster, through a client of this process.
    FUTURE = auto()
    #: It makes a folder that is removed with the process that made it, or never.
    FOLDER = auto()
    #: It puts references to values into a container.
    CONTAINER = auto()
    #: It puts the items of values one after another.
    CONCATENATION = auto()


_FUNCTIONS = {
    "amorsize_dask.execute.futures:read_future": Kind.FUTURE,
    "amorsize_dask.execute.stand_ins:finalize": Kind.CONCATENATION,
    "dask.bag.chunk:barrier": Kind.WAIT,
    "dask.graph_manipulation:chunks.checkpoint": Kind.WAIT,
    "builtins:dict.get": Kind.PART,
    "dask._task_spec:NestedContainer.to_container": Kind.CONTAINER,
    "dask._task_spec:_identity_cast": Kind.CONTAINER,
    "dask.bag.core:finalize_item": Kind.CONTAINER,
    "dask.delayed:single_key": Kind.CONTAINER,
    "dask.graph_manipulation:chunks.bind": Kind.CONTAINER,
    "dask.array.core:finalize": Kind.CONCATENATION,
    "dask.bag.core:finalize": Kind.CONCATENATION,
    "dask.dataframe.core:_concat": Kind.CONCATENATION,
    "tlz:concat": Kind.CONCATENATION,
}

#: Where a bag's partition is cut up; what takes the pieces gets the whole list.
_SPLIT = "dask.bag.core:split"

#: Called on a container or a concatenation they make one; called on a value they may
#: run the generator that it is.
_CASTS = (list, tuple, set, dict)


def find_bookkeeping(
    traversal: Traversal, resolution: Resolution, tasks: list[int]
) -> set[int]:
    """Return the tasks that belong into the caller.

    A part is taken there whoever needs it. What waits does so there unless it can be
    a link in the chain of what it waits for, and a container is made there unless it
    can be one in the chain of what needs it. A concatenation is made there if its value
    has to come there anyway, since only the user and other bookkeeping need it.

    Parameters
    ----------
    traversal, resolution
        The graph.
    tasks : list of int
        The nodes that are tasks, each after its dependencies.
    """
    kinds = _Kinds(traversal, resolution).find(tasks)
    if not kinds:
        return set()
    needed = resolution.needed
    bookkeeping: set[int] = set()
    has_working_user: set[int] = set()
    may_join_user: set[int] = set()
    for task in reversed(tasks):
        match kinds.get(task):
            case None:
                belongs_here = False
            case Kind.PART | Kind.FOLDER | Kind.FUTURE:
                belongs_here = True
            case Kind.WAIT:
                belongs_here = not resolution.follows(task)
            case Kind.CONTAINER:
                belongs_here = task not in may_join_user
            case Kind.CONCATENATION:
                belongs_here = task not in has_working_user
        if belongs_here:
            bookkeeping.add(task)
        elif not kinds.keys().isdisjoint(needed[task]):
            has_working_user.update(needed[task])
            if resolution.follows(task):
                may_join_user.add(needed[task][0])
    return bookkeeping


class _Kinds:
    """Tells the kinds of the tasks of one graph."""

    def __init__(self, traversal: Traversal, resolution: Resolution) -> None:
        self._traversal = traversal
        self._resolution = resolution
        # By the identity of functions, since not all of them can be hashed. The graph
        # keeps them alive meanwhile.
        self._kinds = {
            number: _FUNCTIONS[name]
            for number, name in find_known(tuple(_FUNCTIONS)).items()
        }
        for function in (*MAKERS.values(), *COPIERS.values()):
            self._kinds[id(function)] = Kind.CONTAINER
        self._recipes: dict[int, Kind] = {}
        # Functions that are at work whatever they are called with.
        self._at_work: set[int] = set()
        self._split = look_up(_SPLIT)

    def find(self, tasks: list[int]) -> dict[int, Kind]:
        """Return the kinds of those of the tasks that may be bookkeeping."""
        nodes, recipes, at_work = self._traversal.nodes, self._recipes, self._at_work
        kinds: dict[int, Kind] = {}
        # Looking up a member takes longer than all else here.
        work = Kind.WORK
        for task in tasks:
            node = nodes[task]
            # Nearly all tasks do what others do of which it is known already.
            if type(node) is Piece:
                known = recipes.get(id(node.recipe))
            else:
                known = work if id(getattr(node, "func", None)) in at_work else None
            kind = self.of(task) if known is None else known
            if kind is not work:
                kinds[task] = kind
        return kinds

    def of(self, task: int) -> Kind:
        """Return the kind of a task."""
        node = self._traversal.nodes[task]
        if isinstance(node, Piece):
            return self._of_piece(node)
        if not isinstance(node, Task):
            return Kind.WORK
        if node.func is RUN_FUSED:
            # Only at the end of a graph is it ever bookkeeping, and there are few.
            if task not in self._resolution.wanted:
                return Kind.WORK
            return _combine(Kind.CONTAINER, map(self._of_argument, _fused(node)))
        if node.func is getitem and self._takes_piece(node):
            return Kind.PART
        kind = self._of_node(node)
        if node.func is not getitem and self._of_function(node.func) is Kind.WORK:
            self._at_work.add(id(node.func))
        return kind

    def _of_node(self, node: Task) -> Kind:
        function = node.func
        kind = self._of_function(function)
        if kind is Kind.WORK:
            return kind
        if function in _CASTS and not isinstance(next(iter(node.args), None), Task):
            return Kind.WORK
        arguments = (*node.args, *node.kwargs.values())
        return _combine(kind, map(self._of_argument, arguments))

    def _of_function(self, function: Any) -> Kind:
        kind = self._kinds.get(id(function))
        if kind is None:
            kind = self._kinds[id(function)] = self._classify(function)
        return kind

    def _of_piece(self, piece: Piece) -> Kind:
        kind = self._recipes.get(id(piece.recipe))
        if kind is None:
            kind = self._of_recipe(piece.recipe)
            if piece.recipe.functions == [getitem] and self._has_pieces(
                piece.dependencies
            ):
                # All of them take pieces: they are of one layer.
                kind = Kind.PART
            self._recipes[id(piece.recipe)] = kind
        return kind

    def _of_recipe(self, recipe: Recipe) -> Kind:
        n_first = len(recipe.constants) + recipe.n_arguments
        kinds: list[Kind] = []
        for step in recipe.steps:
            if step.function >= len(recipe.constants):
                return Kind.WORK
            function = recipe.constants[step.function]
            kind = self._of_function(function)
            inputs = [*step.positional, *step.keywords.values()]
            if function in _CASTS and not (inputs and inputs[0] >= n_first):
                kind = Kind.WORK
            made = (kinds[i - n_first] if i >= n_first else None for i in inputs)
            kinds.append(kind if kind is Kind.WORK else _combine(kind, made))
        return kinds[-1]

    def _of_argument(self, argument: Any) -> Kind | None:
        """Return what is done to make an argument; ``None``: nothing."""
        return self._of_node(argument) if isinstance(argument, Task) else None

    def _classify(self, function: Any) -> Kind:
        if any(function is cast for cast in _CASTS):
            return Kind.CONTAINER
        module = getattr(unwrap(function), "__module__", None)
        if isinstance(module, str) and module.split(".")[0] == "partd":
            return Kind.FOLDER
        return Kind.WORK

    def _takes_piece(self, node: Task) -> bool:
        """Whether a getitem takes one piece of a bag's partition that was cut up."""
        if self._split is None or len(node.args) != 2:
            return False
        return isinstance(node.args[1], int) and self._has_pieces(node.dependencies)

    def _has_pieces(self, keys: Iterable[Key]) -> bool:
        """Whether keys are of one value, which is a partition that was cut up."""
        traversal, targets = self._traversal, self._resolution.targets
        producers = [traversal.number_of[key] for key in keys]
        return [
            function_of(traversal.nodes[targets[number]]) for number in producers
        ] == [self._split]


def _combine(kind: Kind, inner_kinds: Iterable[Kind | None]) -> Kind:
    """Return the kind of a task from its function's and its inner tasks' kinds."""
    for inner in inner_kinds:
        if inner in (None, Kind.CONTAINER, kind):
            continue
        if inner is not Kind.CONCATENATION or kind is not Kind.CONTAINER:
            return Kind.WORK
        kind = Kind.CONCATENATION
    return kind


def _fused(node: Task) -> Iterable[Any]:
    tasks: dict[Key, Any] = node.args[0]
    return tasks.values()
