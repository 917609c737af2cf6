"""Which function it is, by its code and not by its name.

What earlier runs have measured of a function is looked up by its fingerprint, and a
saved configuration says by it whether the function is still the same. So it holds for
what makes a function take as long as it does: its code, that of the functions of its
own module which it names, and the arguments that it is bound to, if they are plain. A
function that was renamed or moved within its file is still the same; one whose code has
changed is another.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from types import CodeType, FunctionType, MethodType
from typing import Any

#: Functions that are followed from one that names them. Smaller: a change in what a
#: function calls isn't noticed; larger: more to read for a function of a large module.
MAX_FOLLOWED = 32

#: Codes whose digests are kept. Smaller: those of large programs are taken again, 10 µs
#: each; larger: memory for functions that are long gone.
MAX_KEPT = 4096

#: Bits from which on a whole number counts by its digits in base 16: Python makes no
#: text of very long ones in base 10, and takes long for long ones.
LONG_BITS = 1000

#: Most characters of a bound value that count. Smaller: long texts that differ late are
#: taken for the same; larger: a bound text of megabytes is read at each run.
MAX_CHARACTERS = 200

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_FUNCTIONS = (FunctionType, partial, MethodType)


def fingerprint_function(function: Callable[..., Any]) -> str:
    """Return a fingerprint of a function.

    Parameters
    ----------
    function : callable
        A function, lambda, method, partial, class or callable object; or one that is
        made in C, which is known by its name.

    Returns
    -------
    str
        16 hexadecimal digits, the same in each process of this release of Python.
    """
    facts: list[object] = []
    seen: list[object] = []
    waiting: deque[object] = deque([function])
    while waiting and len(seen) < MAX_FOLLOWED:
        one = waiting.popleft()
        if not any(one is other for other in seen):
            seen.append(one)
            facts.append(_describe(one, waiting))
    return digest(facts)


def _describe(function: Any, named: deque[object]) -> tuple[object, ...]:
    """Return what makes a function what it is; add those it names to the others."""
    if isinstance(function, FunctionType):
        named.extend(_find_named(function))
        by_name = (function.__kwdefaults__ or {}).values()
        values = (*(function.__defaults__ or ()), *by_name, *_read_cells(function))
        return _digest_code(function.__code__), *_describe_values(values, named)
    if isinstance(function, MethodType):
        named.append(function.__func__)
        return ("method", type(function.__self__).__qualname__)
    if isinstance(function, partial):
        named.append(function.func)
        values = (*function.args, *function.keywords.values())
        return "partial", *function.keywords, *_describe_values(values, named)
    is_class = isinstance(function, type)
    kind = function if is_class else type(function)
    method = getattr(kind, "__init__" if is_class else "__call__", None)
    if isinstance(method, FunctionType):
        named.append(method)
    # Some objects have whatever one asks for, or raise anything for what they haven't.
    asked = kind if hasattr(kind, "__getattr__") else function
    wrapped = getattr(asked, "__wrapped__", None)
    if isinstance(wrapped, _FUNCTIONS):
        named.append(wrapped)  # of a cache, or a decorator in C
    module = getattr(asked, "__module__", None) or kind.__module__
    return module, getattr(asked, "__qualname__", kind.__qualname__)


def _find_named(function: FunctionType) -> list[object]:
    """Return the functions of its own module that a function names."""
    found = map(function.__globals__.get, function.__code__.co_names)
    # Those of libraries change with releases only, and there are many of them.
    return [
        value
        for value in found
        if isinstance(value, FunctionType) and value.__module__ == function.__module__
    ]


def _read_cells(function: FunctionType) -> list[object]:
    """Return what a function closes over, as far as it is there yet."""
    values = []
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            continue
    return values


def _describe_values(values: Iterable[object], named: deque[object]) -> list[object]:
    """Return what counts of bound values: themselves if plain, else their types."""
    facts: list[object] = []
    for value in values:
        if isinstance(value, _FUNCTIONS):
            named.append(value)
            facts.append("function")
        elif isinstance(value, str | bytes):
            facts.append(value[:MAX_CHARACTERS])
        else:
            plain = isinstance(value, _PLAIN)
            facts.append(_shorten(value) if plain else type(value).__qualname__)
    return facts


def _shorten(value: object) -> object:
    """Return a value, or of a very long number some digits and how long it is."""
    if isinstance(value, int) and value.bit_length() > LONG_BITS:
        return hex(value)[:MAX_CHARACTERS], value.bit_length()
    return value


@lru_cache(MAX_KEPT)
def _digest_code(code: CodeType) -> str:
    """Return a digest of code and of the functions in it, whatever lines it is on."""
    constants = [_describe_constant(value) for value in code.co_consts]
    return digest([code.co_code, code.co_names, code.co_freevars, constants])


def _describe_constant(value: object) -> object:
    if isinstance(value, CodeType):
        return _digest_code(value)
    if isinstance(value, tuple):
        return [_describe_constant(one) for one in value]
    if isinstance(value, frozenset):
        # Its items are in another order in each process.
        return sorted(repr(_describe_constant(one)) for one in value)
    return _shorten(value)


def digest(facts: object) -> str:
    """Return 16 hexadecimal digits that are the same for what has the same `repr`."""
    return _digest_text(repr(facts))


@lru_cache(MAX_KEPT)
def _digest_text(text: str) -> str:
    data = text.encode("utf-8", "backslashreplace")
    return hashlib.sha256(data).hexdigest()[:16]
