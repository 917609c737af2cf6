"""What all partitions of a stage go through, and one partition's share of it.

A `Recipe` is there once for a stage, and is sent to a worker once: see `Sender`. What
is left for each task is a `Piece`: the recipe, and what differs from task to task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

from amorsize_dask.execute.node import Key


class Step(NamedTuple):
    """One call. All numbers are places in what a recipe knows while it runs.

    Known are its constants first, then a piece's arguments, then the value of each
    step that has run.
    """

    function: int
    positional: Sequence[int]
    keywords: Mapping[str, int]
    #: What nothing needs after this step.
    spent: Sequence[int]


class Cut(NamedTuple):
    """Where a recipe can be cut, so that its items are worked on in several places."""

    #: Which of a piece's arguments is the list that its items come from.
    source: int
    #: How many steps take each item by itself; what they give is what would be given
    #: for parts of the list, put together. The steps after them look at all items.
    n_steps: int


class Recipe:
    """Calls that are made one after the other, each on values of those before.

    They are a list and not nested, so that there may be any number of them.

    Parameters
    ----------
    constants : sequence
        Functions and values that are the same for all pieces.
    n_arguments : int
        What each piece has of its own.
    references : sequence of int
        Which of these are keys of values, as places among the arguments.
    steps : sequence of Step
        At least one; the value of the last is the task's.
    name : str
        For people.
    cut : Cut, optional
        Where it can be cut, if it can.
    """

    __slots__ = (
        "_is_plain",
        "constants",
        "cut",
        "n_arguments",
        "name",
        "references",
        "steps",
    )

    def __init__(
        self,
        constants: Sequence[Any],
        n_arguments: int,
        references: Sequence[int],
        steps: Sequence[Step],
        name: str,
        cut: Cut | None = None,
    ) -> None:
        self.constants = constants
        self.n_arguments = n_arguments
        self.references = references
        self.steps = steps
        self.name = name
        self.cut = cut
        function, positional, keywords, _ = steps[0]
        # Whether all is one call of a constant, with the arguments as they are.
        self._is_plain = (
            len(steps) == len(constants) == 1
            and function == 0
            and [*positional] == [*range(1, 1 + n_arguments)]
            and not keywords
        )

    def __reduce__(self) -> tuple[Any, ...]:
        sender = _sending.sender
        if sender is not None:
            return fetch, (sender.number_of(self),)
        return Recipe, (
            self.constants,
            self.n_arguments,
            self.references,
            self.steps,
            self.name,
            self.cut,
        )

    def run(self, arguments: Sequence[Any], values: Mapping[Key, Any]) -> Any:
        """Make the calls.

        Parameters
        ----------
        arguments : sequence
            A piece's own.
        values : mapping of key to value
            Has the values of the keys among them.
        """
        if not self._is_plain:
            return _follow(self.steps, self._begin(arguments, values))
        if self.references:
            arguments = list(arguments)
            for i in self.references:
                arguments[i] = values[arguments[i]]
        return self.constants[0](*arguments)

    def start(
        self, arguments: Sequence[Any], values: Mapping[Key, Any]
    ) -> Iterable[Any]:
        """Make the calls up to the cut; return what they give for each item."""
        assert self.cut is not None
        known = self._begin(arguments, values)
        items: Iterable[Any] = _follow(self.steps[: self.cut.n_steps], known)
        return items

    def finish(
        self, arguments: Sequence[Any], values: Mapping[Key, Any], items: Iterable[Any]
    ) -> Any:
        """Make the calls after the cut, given what those before it have given."""
        assert self.cut is not None
        n_steps = self.cut.n_steps
        known = self._begin(arguments, values)
        known += [None] * (n_steps - 1)
        known.append(items)
        return _follow(self.steps[n_steps:], known)

    def _begin(self, arguments: Sequence[Any], values: Mapping[Key, Any]) -> list[Any]:
        known = [*self.constants, *arguments]
        if self.references:
            n_constants = len(self.constants)
            for i in self.references:
                known[n_constants + i] = values[arguments[i]]
        return known

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """What its steps call, in order, as far as that is the same for all pieces."""
        constants = self.constants
        return [
            constants[step.function]
            for step in self.steps
            if step.function < len(constants)
        ]


class Sender:
    """What a worker has been sent of the recipes that it needs.

    While it is active in a thread, recipes are pickled as numbers there.

    Parameters
    ----------
    run : str, optional
        A name that no other run has, where a worker has recipes of several runs.
    """

    def __init__(self, run: str = "") -> None:
        # By identity: a run keeps its recipes for as long as it lasts.
        self._numbers: dict[int, Hashable] = {}
        self._next = count()
        self._run = run
        self._new: list[Recipe] = []
        #: Those that have been referred to since someone has taken them from here.
        self.used: dict[Hashable, None] = {}

    def number_of(self, recipe: Recipe) -> Hashable:
        """Return the number of a recipe, a new one if the worker doesn't have it."""
        number = self._numbers.get(id(recipe))
        if number is None:
            number = next(self._next)
            if self._run:
                number = (self._run, number)
            self._numbers[id(recipe)] = number
            self._new.append(recipe)
        self.used[number] = None
        return number

    @contextmanager
    def active(self) -> Iterator[None]:
        """Pickle recipes as numbers in this thread."""
        _sending.sender = self
        try:
            yield
        finally:
            _sending.sender = None

    def take_new(self) -> list[tuple[Hashable, Recipe]]:
        """Return the recipes that are to be sent before those numbers are."""
        new, self._new = self._new, []
        return [(self._numbers[id(recipe)], recipe) for recipe in new]

    def forget(self, recipes: Sequence[tuple[Hashable, Recipe]]) -> None:
        """Take note that recipes couldn't be sent after all."""
        for _, recipe in recipes:
            self._numbers.pop(id(recipe), None)


class _Sending(threading.local):
    sender: Sender | None = None


_sending = _Sending()

#: The recipes that this process, a worker, has been sent, by number.
received: dict[Hashable, Recipe] = {}


def fetch(number: Hashable) -> Recipe:
    """Return a recipe that was sent to this process before."""
    return received[number]


def _follow(steps: Sequence[Step], known: list[Any]) -> Any:
    for function, positional, keywords, spent in steps:
        if keywords:
            named = {name: known[i] for name, i in keywords.items()}
            value = known[function](*[known[i] for i in positional], **named)
            del named
        else:
            value = known[function](*[known[i] for i in positional])
        known.append(value)
        for i in spent:
            known[i] = None
    return value


class Piece:
    """A task that is one partition's share of a recipe.

    Parameters
    ----------
    recipe : Recipe
        What the partitions share.
    arguments : sequence
        What is this one's own, keys among them.
    dependencies : collection of key
        These keys, each once; only where graphs are lowered they are looked at.
    """

    __slots__ = ("arguments", "dependencies", "recipe")

    def __init__(
        self,
        recipe: Recipe,
        arguments: Sequence[Any],
        dependencies: Sequence[Key] = (),
    ) -> None:
        self.recipe = recipe
        self.arguments = arguments
        self.dependencies = dependencies

    def __call__(self, values: Mapping[Key, Any]) -> Any:
        """Run the recipe; `values` has the values of the keys."""
        return self.recipe.run(self.arguments, values)

    @property
    def n_items(self) -> int:
        """How many items it can be cut into; 0 if it can't be cut."""
        cut = self.recipe.cut
        return 0 if cut is None else len(self.arguments[cut.source])

    def __reduce__(self) -> tuple[Any, ...]:
        return Piece, (self.recipe, self.arguments)

    def substitute(self, names: Mapping[Key, Key]) -> Piece:
        """Return the same with other keys in the place of some."""
        arguments = list(self.arguments)
        for i in self.recipe.references:
            arguments[i] = names.get(arguments[i], arguments[i])
        dependencies = [names.get(key, key) for key in self.dependencies]
        return Piece(self.recipe, arguments, dependencies)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.recipe.name}>"


def _make_list(*items: Any) -> list[Any]:
    return list(items)


def _make_tuple(*items: Any) -> tuple[Any, ...]:
    return items


def _make_set(*items: Any) -> set[Any]:
    return set(items)


def _make_frozenset(*items: Any) -> frozenset[Any]:
    return frozenset(items)


def _make_dict(*items: Any) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


#: What puts values into containers; a dict's keys and values in turn.
MAKERS: dict[type, Callable[..., Any]] = {
    list: _make_list,
    tuple: _make_tuple,
    set: _make_set,
    frozenset: _make_frozenset,
    dict: _make_dict,
}


def _copy_list(value: list[Any]) -> list[Any]:
    return value.copy()


def _copy_set(value: set[Any]) -> set[Any]:
    return value.copy()


def _copy_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    return value.copy()


#: What copies a container that isn't the task's own.
COPIERS: dict[type, Callable[..., Any]] = {
    list: _copy_list,
    set: _copy_set,
    dict: _copy_dict,
}
