"""Reads what Dask hands over and makes it the graph that we run.

The only place that touches private names of Dask.
"""

from __future__ import annotations

from typing import Any

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.lowering.expression import materialize, quote_values
from amorsize_dask.lowering.keys import nest
from amorsize_dask.lowering.lower import lower

__all__ = ["lower", "materialize", "nest", "quote_values", "read"]


def read(expression: Any, keys: Any) -> TaskGraph:
    """Lower an expression, HighLevelGraph or dict in one go.

    For a run without callbacks, which see the graph in between. What reads some kinds
    of expressions directly, without Dask's graph of them, belongs here, before the
    general way.

    Raises
    ------
    ArgumentError, KeyError, ValueError, RuntimeError
        See `materialize` and `lower`.
    """
    return lower(materialize(expression), keys)
