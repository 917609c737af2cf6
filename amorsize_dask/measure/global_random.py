"""Whether a function seeds random numbers that all threads of a process share.

``np.random.seed(seed)`` followed by ``np.random.normal()`` gives the same numbers each
time, as long as no other thread seeds between the two. So two such calls must not be
under way in one process at the same time: in worker processes they are right.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

#: Functions that are followed from one that names them. Smaller: one that seeds deep
#: down isn't found; larger: more to read for a function of a large module.
MAX_FOLLOWED = 32

#: Methods that set what comes next, and what is beside them in the code: the module's
#: name. `torch.manual_seed` needs none.
_SEEDING = frozenset({"seed", "set_state", "setstate"})
_MODULES = frozenset({"random"})
_SEEDING_ALONE = frozenset({"manual_seed"})

#: Where those that are imported by their own names come from.
_HOMES = ("random", "numpy.random")

_known: WeakKeyDictionary[FunctionType, bool] = WeakKeyDictionary()


def seeds_globally(function: Callable[..., Any]) -> bool:
    """Whether a function, or one that it names, seeds the random numbers of a process.

    It is read from code alone: ``random.seed``, ``np.random.seed``, whatever
    ``random`` and ``np`` are, ``seed`` that was imported from one of them, and
    ``manual_seed``. Generators of one's own don't count.

    Parameters
    ----------
    function : callable
        What isn't written in Python, or called by it, isn't looked into.
    """
    plain = _unwrap(function)
    if plain is None:
        return False
    found = _known.get(plain)
    if found is None:
        found = _known[plain] = any(map(_seeds, _follow(plain)))
    return found


def _unwrap(function: Any) -> FunctionType | None:
    """Return the function in Python that a callable comes down to, if it is one."""
    while not isinstance(function, FunctionType):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif _answers(function, "__wrapped__"):
            function = function.__wrapped__  # of a cache, or a decorator in C
        else:
            methods = (vars(kind).get("__call__") for kind in type(function).__mro__)
            return next((m for m in methods if isinstance(m, FunctionType)), None)
    return function


def _follow(function: FunctionType) -> Iterator[FunctionType]:
    """Yield a function and those that it names, or closes over, some steps deep."""
    waiting = deque([function])
    seen: set[FunctionType] = set()
    while waiting and len(seen) < MAX_FOLLOWED:
        one = waiting.popleft()
        if one not in seen:
            seen.add(one)
            yield one
            waiting.extend(_find_named(one))


def _find_named(function: FunctionType) -> Iterator[FunctionType]:
    names = _find_names(function.__code__)
    values = [function.__globals__.get(name) for name in names]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            continue
    for value in values:
        if isinstance(value, ModuleType):
            inner = (vars(value).get(name) for name in names)
            yield from (one for one in inner if isinstance(one, FunctionType))
        elif value is not None:
            plain = _unwrap(value) if callable(value) else None
            if plain is not None:
                yield plain


def _find_names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _find_names(constant)
    return names


def _seeds(function: FunctionType) -> bool:
    names = _find_names(function.__code__)
    if names & _SEEDING_ALONE:
        return True
    if names & _SEEDING and names & _MODULES:
        return True
    # Imported by its own name, or another one.
    return any(_is_seeding(function.__globals__.get(name)) for name in names)


def _answers(value: Any, name: str) -> bool:
    """Whether a value has an attribute, and not for every name that it is asked for.

    Some have whatever one asks them for, as proxies of servers do, and others raise
    what they do for a missing key.
    """
    return not hasattr(type(value), "__getattr__") and hasattr(value, name)


def _is_seeding(value: Any) -> bool:
    if not _answers(value, "__name__") or value.__name__ not in _SEEDING:
        return False
    owner = type(getattr(value, "__self__", None)).__module__
    return f"{getattr(value, '__module__', '')}".startswith(_HOMES) or (
        owner.startswith(_HOMES)
    )
