"""What a task is for those who run it: a key, and something to call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

#: A Dask key: a string, a number or a tuple of these.
Key = Hashable

#: What runs a task: called with the values of its dependencies by key. Dask's graph
#: nodes are such callables; they are pickled to be sent to a worker.
Node = Callable[[Mapping[Any, Any]], Any]
