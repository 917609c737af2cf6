"""The fast way to lower bags: from layers to pieces, without Dask's graph of them.

::

    layers --- sort ---> groups of alike tasks --- chain ---> fewer groups of longer
    tasks --- make_pieces ---> a graph of pieces, which `lower` numbers and orders
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dask._task_spec import Alias, DataNode, GraphNode, convert_legacy_task

from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.annotations import NO_ANNOTATIONS, Annotations
from amorsize_dask.lowering.chains import chain, inline_sources, make_lazy
from amorsize_dask.lowering.columns import Column, Constant, Reference, references
from amorsize_dask.lowering.groups import Group, Sorted, sort
from amorsize_dask.lowering.layers import Layers
from amorsize_dask.lowering.recipes import make_pieces
from amorsize_dask.lowering.traversal import is_future, make_reader


def shorten(
    layers: Layers,
    wanted: Iterable[Key],
    *,
    are_chained: bool = True,
    annotations: Annotations = NO_ANNOTATIONS,
) -> dict[Key, Any]:
    """Make the graph of bags one of few, long tasks.

    Parameters
    ----------
    layers : Layers
        Those of bags, and of what they depend on; or one of any graph in Dask's old
        form.
    wanted : iterable of key
        What the user asked for.
    are_chained : bool, optional
        Make lazy chains, as Dask's optimization of bags does. Without it each task
        stays one.
    annotations : Annotations, optional
        What was said of tasks: those of which it differs are not chained.

    Returns
    -------
    dict
        Pieces, aliases and Dask's nodes by key: all that the wanted keys need. Keys in
        the middle of chains are gone.
    """
    kept = set(wanted)
    dsk = layers.merge()
    found = sort(layers, dsk)
    others = {key: _convert(key, value, dsk) for key, value in found.others.items()}
    if are_chained:
        _cull(found, others, kept)
    computed = [group for group in found.groups if group.is_computed]
    nodes: dict[Key, Any] = dict(others)
    targets = _add_values(found.groups, nodes)
    _resolve(computed, targets)
    kept.update(*(node.dependencies for node in nodes.values()))
    if annotations:
        kept |= _find_borders(computed, annotations)
    inline_sources(computed, found.sources)
    if are_chained:
        make_lazy(computed)
        computed = chain(computed, kept)
    for group in computed:
        pieces = make_pieces(group.name, group.links, len(group.keys))
        nodes.update(zip(group.keys, pieces, strict=True))
        has_keys = found.sources and any(map(references, group.links))
        for piece in pieces if has_keys else ():
            kept.update(piece.dependencies)
    for key in kept & found.sources.keys():
        # What is asked for must not be the list that the collection keeps.
        nodes[key] = DataNode(key, list(found.sources[key]))
    return nodes


def _find_borders(groups: Iterable[Group], annotations: Annotations) -> set[Key]:
    """Return the keys that a task needs of which something else was said."""
    return {
        needed
        for group in groups
        for link in group.links
        for reference in references(link)
        for needed, key in zip(reference.keys, group.keys, strict=True)
        if not annotations.are_alike(needed, key)
    }


def _convert(key: Any, value: Any, dsk: Mapping[Key, Any]) -> GraphNode:
    if is_future(value):
        return make_reader(key, value)
    node = convert_legacy_task(key, value, dsk)
    return node if isinstance(node, GraphNode) else DataNode(key, node)


def _add_values(groups: Iterable[Group], nodes: dict[Key, Any]) -> dict[Key, Key]:
    """Add the tasks that compute nothing; return whom keys stand for."""
    targets: dict[Key, Key] = {}
    for group in groups:
        match group.links[-1]:
            case Reference(keys):
                targets |= zip(group.keys, keys, strict=True)
            case Column(values):
                nodes.update(
                    zip(group.keys, map(DataNode, group.keys, values), strict=True)
                )
            case Constant(value):
                nodes.update((key, DataNode(key, value)) for key in group.keys)
    for alias, target in targets.items():
        nodes[alias] = Alias(alias, target)  # type: ignore[arg-type] # keys, as Dask's
    return targets


def _resolve(groups: Iterable[Group], targets: Mapping[Key, Key]) -> None:
    """Let tasks refer to the value itself where they refer to another name of it."""
    if not targets:
        return
    for group in groups:
        for reference in references(group.links[-1]):
            if not targets.keys().isdisjoint(reference.keys):
                reference.keys = [_follow(key, targets) for key in reference.keys]


def _follow(key: Key, targets: Mapping[Key, Key]) -> Key:
    seen = {key}
    while (target := targets.get(key)) is not None and target not in seen:
        seen.add(target)
        key = target
    return key


def _cull(found: Sorted, others: dict[Key, Any], wanted: set[Key]) -> None:
    """Leave out what the wanted keys don't need."""
    needed = wanted.union(
        *(
            leaf.keys
            for group in found.groups
            for link in group.links
            for leaf in references(link)
        ),
        *(node.dependencies for node in others.values()),
    )
    # If each task is needed by another one, all are.
    if all(needed.issuperset(group.keys) for group in found.groups) and (
        needed >= others.keys()
    ):
        return
    needed = _find_needed(found, others, wanted)
    for key in others.keys() - needed:
        del others[key]
    found.groups[:] = [
        group.select(rows) if len(rows) < len(group.keys) else group
        for group in found.groups
        if (rows := [row for row, key in enumerate(group.keys) if key in needed])
    ]


def _find_needed(
    found: Sorted, others: Mapping[Key, Any], wanted: set[Key]
) -> set[Key]:
    columns: list[list[Any]] = [
        [leaf.keys for link in group.links for leaf in references(link)]
        for group in found.groups
    ]
    place = {
        key: (number, row)
        for number, group in enumerate(found.groups)
        for row, key in enumerate(group.keys)
    }
    needed: set[Key] = set()
    todo = list(wanted)
    while todo:
        key = todo.pop()
        if key in needed:
            continue
        needed.add(key)
        if key in place:
            number, row = place[key]
            todo += [column[row] for column in columns[number]]
        elif key in others:
            todo += others[key].dependencies
    return needed
