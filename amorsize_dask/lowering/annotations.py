"""What the user has said of single tasks, by `dask.annotate` or by ``retries={...}``.

Layers have annotations as long as no one has optimized them, so they are read before:
by key, since an annotation may be a function of the key. Tasks of which different
things were said are never made one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dask.base import get_annotations, is_dask_collection
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from amorsize_dask.arguments import check_lanes, check_priority, check_retries
from amorsize_dask.core.model import Lane
from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.functions import look_up


@dataclass(frozen=True, slots=True)
class Annotation:
    """What was said of a task; all of it may be left out."""

    #: How often it is run again after an exception.
    retries: int | None = None
    #: The lanes in which it may run.
    lanes: tuple[Lane, ...] | None = None
    #: Tasks with a higher one go first.
    priority: float = 0.0


#: Of most tasks.
NOTHING = Annotation()

#: What is read of an annotation, the attribute that it becomes, and what checks it.
#: Others have no meaning on one machine, or are someone else's.
_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "retries": ("retries", lambda value: check_retries(value, "annotation retries")),
    "lane": ("lanes", lambda value: check_lanes(value, "annotation lane")),
    "priority": ("priority", check_priority),
}


class Annotations:
    """The annotations of a graph's tasks.

    Parameters
    ----------
    by_key : mapping of key to Annotation, optional
        For each task of which something was said.
    default : Annotation, optional
        For all others.
    """

    def __init__(
        self,
        by_key: Mapping[Key, Annotation] | None = None,
        default: Annotation = NOTHING,
    ) -> None:
        self._by_key = by_key or {}
        self._default = default

    def __bool__(self) -> bool:
        """Whether anything was said of single tasks or of all."""
        return bool(self._by_key) or self._default != NOTHING

    def of(self, key: Key) -> Annotation:
        """Return the annotation of a task."""
        return self._by_key.get(key, self._default)

    def are_alike(self, key: Key, other: Key) -> bool:
        """Whether the same was said of two tasks."""
        return self.of(key) == self.of(other)


NO_ANNOTATIONS = Annotations()


def find_annotations(
    expression: Any, retries: Mapping[Any, int] | None = None
) -> Annotations:
    """Return the annotations in what `compute` hands to a scheduler.

    Those that are in force while this is called hold for tasks without their own.

    Parameters
    ----------
    expression : Expr, HighLevelGraph or Mapping
        It isn't optimized for that.
    retries : mapping of key or collection to int, optional
        Goes before the annotations. Of a collection all keys are meant.

    Raises
    ------
    ArgumentError
        For a value that can't be used.
    """
    in_force = get_annotations()
    default = _apply(NOTHING, in_force, None) if in_force else NOTHING
    by_key: dict[Key, Annotation] = {}
    for layer in _layers(expression):
        said = getattr(layer, "annotations", None)
        if said and not said.keys().isdisjoint(_KINDS):
            _read_layer(layer, said, default, by_key)
    for named, n in (retries or {}).items():
        for key in _keys_of(named):
            by_key[key] = replace(by_key.get(key, default), retries=check_retries(n))
    return Annotations(by_key, default)


def _layers(expression: Any) -> Iterator[Any]:
    if type(expression) is dict:
        return
    layered = look_up("dask._expr:HLGExpr")
    stack, seen = [expression], set[int]()
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if layered is not None and isinstance(part, layered):
            part = part.hlg
        # Anything else may take the name for that of a column.
        if isinstance(part, HighLevelGraph):
            yield from part.layers.values()
            continue
        expr = look_up("dask._expr:Expr")
        if expr is not None and isinstance(part, expr):
            stack += [op for op in part.operands if isinstance(op, expr)][::-1]


def _read_layer(
    layer: Iterable[Key],
    said: Mapping[str, Any],
    default: Annotation,
    by_key: dict[Key, Annotation],
) -> None:
    if not any(callable(said.get(kind)) for kind in _KINDS):
        by_key.update(dict.fromkeys(layer, _apply(default, said, None)))
        return
    for key in layer:
        by_key[key] = _apply(default, said, key)


def _apply(
    annotation: Annotation, said: Mapping[str, Any], key: Key | None
) -> Annotation:
    for kind, (name, check) in _KINDS.items():
        value = said.get(kind)
        if callable(value):
            if key is None:
                continue  # In force for all, it would have to be asked for each.
            value = value(key)
        if value is not None:
            annotation = replace(annotation, **{name: check(value)})
    return annotation


def _keys_of(named: Any) -> Iterable[Key]:
    if is_dask_collection(named):
        return list(flatten(named.__dask_keys__()))
    return [named]
