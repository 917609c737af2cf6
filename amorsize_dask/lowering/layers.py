"""The layers that a Dask expression is made of, before Dask optimizes them.

Dask's optimization of bags and delayed values leaves out what isn't needed and makes
chains; it walks all data for that. Here both are done again anyway, so its own way
around can be left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from typing import Any, TypeVar

from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.functions import look_up

Read = TypeVar("Read")

#: Dask's names for what is read here.
_SEQUENCE = "dask._expr:_HLGExprSequence"
_LAYERED = "dask._expr:HLGExpr"
_PLAIN_LAYER = "dask.highlevelgraph:MaterializedLayer"
_OPTIMIZE_DELAYED = "dask.delayed:optimize"
_OPTIMIZE_BAG = "dask.bag.core:optimize"


@dataclass(slots=True)
class Layers:
    """A graph that hasn't been optimized.

    Attributes
    ----------
    by_name : dict of str to mapping
        Each layer's tasks, as the collections have them.
    has_bags : bool
        Whether some of them would be optimized as bags are.
    """

    by_name: dict[str, Mapping[Key, Any]] = field(default_factory=dict)
    has_bags: bool = False

    def merge(self) -> Mapping[Key, Any]:
        """Return the tasks of all layers, perhaps as one of them has them."""
        if len(self.by_name) == 1:
            return next(iter(self.by_name.values()))
        merged: dict[Key, Any] = {}
        for layer in self.by_name.values():
            merged.update(layer)
        return merged


def read_layers(expression: Any) -> Layers | None:
    """Return the layers of bags and delayed values.

    Parameters
    ----------
    expression : object
        What Dask hands to a scheduler.

    Returns
    -------
    Layers or None
        ``None`` if there is anything else in the expression, or if the user has set
        optimizations of their own, or none.
    """
    sequence, layered = look_up(_SEQUENCE), look_up(_LAYERED)
    if sequence is None or layered is None:
        _warn_once()
        return None
    if not isinstance(expression, sequence | layered):
        return None
    parts = expression.operands if isinstance(expression, sequence) else [expression]
    optimizers = [look_up(_OPTIMIZE_DELAYED), look_up(_OPTIMIZE_BAG)]
    found = Layers()
    for part in parts:
        if not isinstance(part, layered):
            return None
        optimizer = part.low_level_optimizer
        if optimizer is None or not any(optimizer is known for known in optimizers):
            return None
        found.has_bags |= optimizer is optimizers[1]
        _add(part.hlg.layers, found.by_name)
    return found


def is_old(dsk: Mapping[Key, Any]) -> bool:
    """Whether a graph is of tuples that are tasks, as before Dask had nodes."""
    return any(type(value) is tuple for value in islice(dsk.values(), 10))


def _add(layers: Mapping[str, Any], by_name: dict[str, Mapping[Key, Any]]) -> None:
    plain = look_up(_PLAIN_LAYER)
    for name, layer in layers.items():
        # Getting at the dict inside saves a call for each key.
        by_name[name] = layer.mapping if type(layer) is plain else dict(layer)


def try_fast(read: Callable[[], Read | None]) -> Read | None:
    """Read Dask's private structures; if they have changed, say so and give up.

    Parameters
    ----------
    read : callable
        Does the reading, and runs no code of the user's.
    """
    try:
        return read()
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        _warn_once(error)
        return None


def _warn_once(error: Exception | None = None) -> None:
    message = (
        f"amorsize_dask doesn't know how Dask {version('dask')} keeps bags and "
        "delayed values. They are lowered by Dask's own optimization: the results are "
        "the same, large graphs start later."
    )
    if error is not None:
        message += f" What was met is {type(error).__name__}: {error}"
    warnings.warn_explicit(
        message, RuntimeWarning, __file__, 1, registry=_warned, source=None
    )


_warned: dict[Any, Any] = {}
