"""Reads what Dask hands over and makes it the graph that we run.

The only place that touches private names of Dask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask.utils import ensure_dict

from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.annotations import (
    NO_ANNOTATIONS,
    Annotations,
    find_annotations,
)
from amorsize_dask.lowering.bags import shorten
from amorsize_dask.lowering.collector import PausedCollector
from amorsize_dask.lowering.expression import materialize, quote_values
from amorsize_dask.lowering.keys import flatten, nest
from amorsize_dask.lowering.layers import Layers, is_old, read_layers, try_fast
from amorsize_dask.lowering.lower import lower

__all__ = [
    "find_annotations",
    "lower",
    "materialize",
    "nest",
    "quote_values",
    "read",
    "read_fast",
]


def read(
    expression: Any, keys: Any, annotations: Annotations = NO_ANNOTATIONS
) -> TaskGraph:
    """Lower an expression, HighLevelGraph or dict in one go.

    For a run without callbacks, which see the graph in between. Bags and delayed
    values are read without Dask's own graph of them; all else goes the general way.

    Raises
    ------
    ArgumentError, KeyError, ValueError, RuntimeError
        See `materialize` and `lower`.
    """
    with PausedCollector():
        dsk = try_fast(lambda: read_fast(expression, keys, annotations))
        if dsk is None:
            dsk = materialize(expression, may_fuse=not annotations)
        return lower(dsk, keys, annotations=annotations)


def read_fast(
    expression: Any, keys: Any, annotations: Annotations = NO_ANNOTATIONS
) -> Mapping[Key, Any] | None:
    """Return a graph that the keys can be lowered from, if there is a fast way to it.

    Returns
    -------
    mapping or None
        Pieces and Dask's nodes by key. ``None`` for anything but bags, delayed values
        and graphs of tuples, which only the general way can read.
    """
    if isinstance(expression, Mapping):
        # A graph in Dask's old form, that no one optimizes.
        if not is_old(expression):
            return None
        only = Layers({"": ensure_dict(expression)})
        return shorten(only, flatten(keys), are_chained=False)
    layers = read_layers(expression)
    if layers is None:
        return None
    if not layers.has_bags:
        return layers.merge()
    return shorten(layers, flatten(keys), annotations=annotations)
