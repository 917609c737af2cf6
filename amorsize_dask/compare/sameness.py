"""Whether two ways of doing something have had the same results."""

from __future__ import annotations

import pickle
import sys
from typing import Any

#: Protocol of the pickles that are compared. Later ones tell arrays that may be written
#: from those that may not, which are the same results.
_PROTOCOL = 4


def are_same(one: Any, other: Any) -> bool:
    """Whether two results are equal, also if they have arrays, tables or NaN in them.

    Parameters
    ----------
    one, other : object
        Values of any kind. What compares as equal is the same; so are lists, tuples and
        dicts whose items are, what has an `equals` that says so, and what has the same
        pickle.
    """
    if one is other or _compare_as_equal(one, other):
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            are_same(value, other[key]) for key, value in one.items()
        )
    try:
        if hasattr(one, "equals"):
            return bool(one.equals(other))
        return pickle.dumps(one, _PROTOCOL) == pickle.dumps(other, _PROTOCOL)
    except Exception:
        return False


def _compare_as_equal(one: Any, other: Any) -> bool:
    """Whether `==` says yes; what answers with an array of answers hasn't said so."""
    try:
        answer = one == other
    except Exception:
        return False
    numpy = sys.modules.get("numpy")
    scalars = (bool,) if numpy is None else (bool, numpy.bool_)
    return isinstance(answer, scalars) and bool(answer)
