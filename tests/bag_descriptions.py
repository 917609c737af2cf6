"""Descriptions of computations with bags, and how collections are made of them.

A description is a tree of `Call`. A `Computation` is shown as the code that does the
same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import bag_functions
import dask
import dask.bag as db
from bag_functions import delayed_again, generate, generate_mixed, optimized
from dask.delayed import Delayed

#: What occurs more than once and is longer is given a name where it is shown.
_SHORT = 25

# -- what is described -----------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Lambda:
    """A function that is written where it is used."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, repr=False)
class File:
    """A path in one of the folders that `build` is given, "texts" or "output"."""

    folder: str
    name: str

    def __repr__(self) -> str:
        return f"{self.folder} + '/{self.name}'"


@dataclass(frozen=True, repr=False)
class Call:
    """A call of a function, or of a method of what another call returns.

    Attributes
    ----------
    function : callable, description or str
        A name stands for a method; its object is the first argument.
    args, kwargs : tuple, dict
        Arguments; descriptions in them, also nested, stand for what they make.
    annotations : dict
        For `dask.annotate`, around this call and those in its arguments.
    """

    function: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.code

    @cached_property
    def code(self) -> str:
        """The call as code, which tells it from others."""
        return write_call(self, {})

    @property
    def inner(self) -> Iterator[Call]:
        """The calls in its arguments, each as often as it is there."""
        return _find_calls([*self.args, *self.kwargs.values()])

    def then(self, method: str, *args: Any, **kwargs: Any) -> Call:
        """Return a call of a method of what this one returns."""
        return Call(method, (self, *args), kwargs)


@dataclass(frozen=True, repr=False)
class Computation:
    """What is computed in one go.

    Attributes
    ----------
    collections : list of Call
        What `dask.compute` is called with.
    optimize_graph : bool
        As for `dask.compute`.
    """

    collections: list[Call]
    optimize_graph: bool = True

    def __repr__(self) -> str:
        n_users = Counter(call.code for call in self.collections)
        for call in self.calls:
            n_users.update(inner.code for inner in call.inner)
        names: dict[str, str] = {}
        lines = []
        for call in self.calls:
            if n_users[call.code] > 1 and len(call.code) > _SHORT:
                code = write_call(call, names)
                names[call.code] = f"x{len(names)}"
                lines.append(f"{names[call.code]} = {code}\n")
        asked = ", ".join(write(call, names) for call in self.collections)
        option = "" if self.optimize_graph else ", optimize_graph=False"
        return f"{''.join(lines)}dask.compute({asked}{option})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Let Hypothesis show it in this way as well."""
        printer.text(f"\n{self!r}\n")

    @cached_property
    def calls(self) -> list[Call]:
        """All calls, each once and after those in its arguments."""
        found: dict[str, Call] = {}

        def visit(call: Call) -> None:
            if call.code not in found:
                for inner in call.inner:
                    visit(inner)
                found[call.code] = call

        for call in self.collections:
            visit(call)
        return list(found.values())


def _find_calls(value: Any) -> Iterator[Call]:
    match value:
        case Call():
            yield value
        case list() | tuple():
            for part in value:
                yield from _find_calls(part)
        case dict():
            yield from _find_calls(list(value.values()))


def write(value: Any, names: Mapping[str, str]) -> str:
    """Return a value as code.

    Parameters
    ----------
    value : object
        A description, a function, or data that may contain some.
    names : mapping of str to str
        What to write for calls that have a name, by their code.
    """
    match value:
        case list():
            return f"[{', '.join(write(part, names) for part in value)}]"
        case tuple():
            comma = "," if len(value) == 1 else ""
            return f"({', '.join(write(part, names) for part in value)}{comma})"
        case dict():
            parts = [f"{key!r}: {write(part, names)}" for key, part in value.items()]
            return f"{{{', '.join(parts)}}}"
        case Call():
            return names.get(value.code) or write_call(value, names)
    name = getattr(value, "__qualname__", None)
    if name is None or not callable(value):
        return repr(value)
    is_public = getattr(value, "__module__", None) in ("dask.bag.core", "dask.bag.text")
    return f"db.{name.removeprefix('bag_')}" if is_public else name


def write_call(call: Call, names: Mapping[str, str]) -> str:
    """Return a call as code, also if it has a name itself."""
    args = [write(value, names) for value in call.args]
    if not isinstance(call.function, str):
        function = write(call.function, names)
    elif call.function == "__call__":
        function = args.pop(0)
    else:
        function = f"{args.pop(0)}.{call.function}"
    args += [f"{name}={write(value, names)}" for name, value in call.kwargs.items()]
    code = f"{function}({', '.join(args)})"
    return f"annotate({call.annotations}, {code})" if call.annotations else code


# -- what is made of it ----------------------------------------------------------------


def build(
    computation: Computation, texts: Path, output: Path, *, with_lists: bool
) -> list[Any]:
    """Make the collections that a computation is about.

    Parameters
    ----------
    computation : Computation
        Some of it may be computed here: what is persisted, or made into a list.
    texts, output : Path
        Folders with files to read, and for files to write.
    with_lists : bool
        Whether Dask's own optimization is used. It hands some iterators to several
        users, each of which then finds what the others have left: `db.zip(x, x)` with
        `x = bag.map(f)` gives every other pair, twice no item. Where it would, a list
        is made here.

    Returns
    -------
    list of Bag, Item, Delayed or anything
        As many as the computation has collections.
    """
    builder = _Builder(computation, texts, output, with_lists)
    return [builder.make(call) for call in computation.collections]


#: They optimize what they are given.
_OPTIMIZING = (optimized, delayed_again, "to_delayed", "persist")

#: Methods that several tasks use one partition for.
_SPREADING = ("product", "join", "unzip")


class _Builder:
    def __init__(
        self, computation: Computation, texts: Path, output: Path, with_lists: bool
    ) -> None:
        calls = computation.calls
        self._folders = {"texts": texts, "output": output}
        # By their code: the same twice is one collection, as it is by Dask's names.
        self._made: dict[str, Any] = {}
        self._with_lists = with_lists or any(
            call.function in _OPTIMIZING for call in calls
        )
        self._n_users = Counter(call.code for call in computation.collections)
        #: What one task gets twice.
        self._twice: set[str] = set()
        for call in calls:
            counted = Counter(inner.code for inner in call.inner)
            self._twice |= {code for code, n in counted.items() if n > 1}
            self._n_users += counted
            if call.function in _SPREADING:
                self._n_users += counted

    def make(self, value: Any) -> Any:
        match value:
            case Call():
                made = self._made.get(value.code)
                if made is None:
                    made = self._call(value)
                    # A delayed iterator is made anew for each that uses it.
                    if not isinstance(made, Delayed):
                        self._made[value.code] = made
                return made
            case Lambda():
                return eval(value.text, vars(bag_functions))
            case File():
                return str(self._folders[value.folder] / value.name)
            case list():
                return [self.make(part) for part in value]
            case tuple():
                return tuple(self.make(part) for part in value)
            case dict():
                return {key: self.make(part) for key, part in value.items()}
        return value

    def _call(self, call: Call) -> Any:
        annotations = call.annotations
        with dask.annotate(**annotations) if annotations else nullcontext():
            args = [self.make(value) for value in call.args]
            kwargs = {name: self.make(value) for name, value in call.kwargs.items()}
            function = self.make(call.function)
            if isinstance(function, str):
                function = getattr(args.pop(0), function)
            made = function(*args, **kwargs)
            if isinstance(made, db.Bag) and self._needs_lists(call):
                made = made.map_partitions(list)
        return made

    def _needs_lists(self, call: Call) -> bool:
        """Whether a bag's iterators would have several users."""
        if self._n_users[call.code] < 2:
            return False
        if _returns_iterators(call):
            return True
        return self._with_lists and (
            call.code in self._twice
            # Aliases of what only here becomes a link of a chain.
            or call.function in (db.concat, "repartition", *_OPTIMIZING)
        )


def _returns_iterators(call: Call) -> bool:
    """Whether a function of the user's own makes iterators of a bag's partitions."""
    if call.function != "map_partitions":
        return False
    function = call.args[1]
    if isinstance(function, Lambda):
        return "for" in function.text
    return function in (generate, generate_mixed, iter) or isinstance(function, Call)
