"""State that one call of a function leaves for the next: what can't be shared out.

In another process such a call changes a copy, and nobody ever sees it. What a function
may write to is read from its code; whether it really does, and at each call, is
seen by looking at that before and after. So what is made once, at the first call, such
as a model that is loaded, is no state.
"""

from __future__ import annotations

import dis
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

#: Containers that a function may add to. Growing dicts and sets are mostly caches,
#: which work in each process by itself.
_CONTAINERS = (list, bytearray, deque)

#: Functions within functions and their code that are looked at. Smaller: a loop in a
#: comprehension isn't seen; larger: a file of generated code takes long.
MOST_CODES = 20

#: Methods by which they change, and the writing of an item.
_CHANGES = {"append", "extend", "insert", "appendleft", "pop", "popleft", "remove"}


class SharedState:
    """What calls of a function may change that its other calls see.

    Parameters
    ----------
    func : callable
        A function, a method, or a partial of one. Nothing is known of others, such as
        those that are written in C.

    Attributes
    ----------
    names : tuple of str
        What it may write to, by its code.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        while isinstance(func, partial):
            func = func.func
        self._self: Any = None
        if isinstance(func, MethodType):
            self._self, func = func.__self__, func.__func__
        elif not isinstance(func, FunctionType):
            # An object with a method that makes it callable.
            self._self, func = func, vars(type(func)).get("__call__", func)
        self._globals: dict[str, Any] = {}
        self._cells: dict[str, Any] = {}
        self._written: set[str] = set()
        self._attributes: set[str] = set()
        self._read: set[str] = set()
        if isinstance(func, FunctionType):
            self._globals = func.__globals__
            cells = func.__closure__ or ()
            self._cells = dict(zip(func.__code__.co_freevars, cells, strict=True))
            self._scan(func.__code__)
        self._before: dict[str, Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What the function may write to, by its code."""
        return tuple(sorted(self._look()))

    def _scan(self, code: CodeType) -> None:
        changes_containers = False
        for part in _find_codes(code):
            changes_containers |= not _CHANGES.isdisjoint(part.co_names)
            for step in dis.get_instructions(part):
                name = str(step.argval)
                is_outer = step.opname == "STORE_DEREF" and name in self._cells
                if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or is_outer:
                    self._written.add(name)
                elif step.opname == "STORE_ATTR":
                    self._attributes.add(name)
                elif step.opname.startswith("LOAD_"):
                    self._read.add(name)
        if not changes_containers:
            self._read = set()

    def _find(self, name: str) -> Any:
        if name in self._cells:
            try:
                return self._cells[name].cell_contents
            except ValueError:
                return None  # it has no value yet
        return self._globals.get(name)

    def _look(self) -> dict[str, Any]:
        """Return what is to be seen now of all that the function may change."""
        own = getattr(self._self, "__dict__", {})
        seen: dict[str, Any] = {}
        for name in self._read:
            for shown, value in (
                (name, self._find(name)),
                (f"self.{name}", own.get(name)),
            ):
                if isinstance(value, _CONTAINERS):
                    seen[shown] = len(value)
        seen.update((name, self._find(name)) for name in self._written)
        if self._self is not None:
            seen.update((f"self.{name}", own.get(name)) for name in self._attributes)
        return seen

    def note_first_call(self) -> None:
        """Look at what the first call has left."""
        if self.names:
            self._before = self._look()

    def describe_changes(self) -> str | None:
        """Return what calls after the first have changed, for people."""
        if self._before is None:
            return None
        after = self._look()
        changed = [
            name
            for name, value in self._before.items()
            if not _is_same(value, after.get(name))
        ]
        return ", ".join(sorted(changed)) or None


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    simple = (int, float, str, bytes, bool, tuple)
    return isinstance(one, simple) and isinstance(other, simple) and one == other


def _find_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a function's code and that of what is defined in it."""
    todo = [code]
    for _ in range(MOST_CODES):
        if not todo:
            return
        found = todo.pop()
        yield found
        todo += [const for const in found.co_consts if isinstance(const, CodeType)]
