"""Whether functions, items and results can be sent, and how many bytes they are."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from amorsize_dask.errors import describe_error
from amorsize_dask.measure.size import PickledSize, measure_known, measure_pickled

#: Bytes of a value that are pickled to measure it. Smaller: of large values only a
#: guess is known; larger: measuring takes as long as the calls.
SIZED_BYTES = 1_000_000

#: Characters of an error's text that are shown.
SHOWN = 80


def measure_sent(value: Any) -> PickledSize:
    """Measure a value as it is sent; of a large one only a part is looked at.

    Raises
    ------
    Exception
        What the pickler raises.
    """
    size = measure_pickled(value, SIZED_BYTES)
    if size.is_complete:
        return size
    n_bytes = max(size.n_bytes, measure_known(value))
    seconds = size.seconds * n_bytes / size.n_bytes
    return PickledSize(n_bytes, seconds, False, size.is_plain, size.n_beside_bytes)


def describe_function(func: Callable[[Any], Any]) -> tuple[int, str | None, str | None]:
    """Return a function's pickled bytes, and why it can't be sent, or not by `pickle`.

    Sent means sent by us: what `pickle` can't do, lambdas and closures, cloudpickle
    mostly can.
    """
    try:
        size = measure_sent(func)
    except Exception as error:
        reason = f"the function can't be pickled: {shorten_error(error)}"
        return 0, reason, reason
    if size.is_plain:
        return size.n_bytes, None, None
    try:
        pickle.dumps(func)
        reason = "it takes cloudpickle"
    except Exception as error:
        reason = shorten_error(error)
    return size.n_bytes, None, f"the function can't be pickled: {reason}"


def shorten_error(error: BaseException) -> str:
    """Return an error's type and as much of its text as people read."""
    text = describe_error(error)
    return f"{text[:SHOWN]}..." if len(text) > SHOWN else text
