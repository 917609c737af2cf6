"""Making chains of groups: tasks that alone need another one's value run with it.

As in Dask's bags, a partition stays lazy inside of a chain: what would make a list of
it between two links is left out.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Container as AnyOf
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain as concatenate
from itertools import count
from typing import Any

from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.columns import (
    Call,
    Column,
    Constant,
    Container,
    Expression,
    Previous,
    Reference,
    references,
)
from amorsize_dask.lowering.groups import Group, join_names


def inline_sources(groups: Iterable[Group], sources: Mapping[Key, list[Any]]) -> None:
    """Give tasks that read a partition of a sequence that partition."""
    for group in groups:
        if group.is_computed:
            group.links = [
                _replace(link, lambda leaf: _inline(leaf, sources))
                for link in group.links
            ]


def _inline(leaf: Reference, sources: Mapping[Key, list[Any]]) -> Expression:
    if all(key in sources for key in leaf.keys):
        return Column([sources[key] for key in leaf.keys], is_source=True)
    return leaf


def make_lazy(groups: Iterable[Group]) -> None:
    """Leave out what makes lists of arguments that are computed within the task."""
    makers = _list_makers()
    for group in groups:
        group.links = [_make_arguments_lazy(link, makers) for link in group.links]


def chain(groups: list[Group], kept: AnyOf[Key]) -> list[Group]:
    """Join groups with those whose tasks' values they alone need.

    Parameters
    ----------
    groups : list of Group
        All that are computed.
    kept : container of key
        Keys whose values someone else needs.

    Returns
    -------
    list of Group
        Where only some of a group's tasks can be joined it is split.
    """
    joiner = _Joiner(groups, kept)
    return joiner.join()


class _Joiner:
    def __init__(self, groups: list[Group], kept: AnyOf[Key]) -> None:
        self._groups: dict[int, Group] = dict(enumerate(groups))
        self._numbers = count(len(groups))
        self._kept = kept
        self._makers = _list_makers()
        self._n_users = Counter(
            concatenate.from_iterable(
                leaf.keys
                for group in groups
                for link in group.links
                for leaf in references(link)
            )
        )
        self._owner: dict[Key, int] = {}
        for number, group in self._groups.items():
            self._owner.update(dict.fromkeys(group.keys, number))

    def join(self) -> list[Group]:
        todo = list(self._groups)
        while todo:
            number = todo.pop()
            if number in self._groups:
                todo += self._join_one(number)
        return list(self._groups.values())

    def _join_one(self, number: int) -> list[int]:
        """Join a group with what it needs; return the groups to look at again."""
        group = self._groups[number]
        reference = self._find_only(group)
        if reference is None:
            return []
        keys = reference.keys
        distinct = {*map(self._owner.get, keys)}
        (owner, *more) = distinct
        if more or {*map(self._n_users.get, keys)} != {1} or self._are_kept(keys):
            owners = [self._owner_for(key) for key in keys]
            if len(set(owners)) > 1:
                return self._split(number, owners)
            (owner,) = set(owners)
        if owner is None or owner == number:
            return []
        needed = self._groups[owner]
        if len(needed.keys) > len(keys):
            wanted = set(keys)
            return [number, *self._split(owner, [key in wanted for key in needed.keys])]
        if needed.keys != keys:
            row = {key: i for i, key in enumerate(needed.keys)}
            needed = needed.select([row[key] for key in keys])
        del self._groups[owner]
        # The keys of what was needed are gone; no one else knew them.
        self._groups[number] = Group(
            join_names(needed.name, group.name),
            group.keys,
            [
                *needed.links[:-1],
                _make_lazy(needed.links[-1], self._makers),
                _replace(group.links[0], lambda _: Previous()),
                *group.links[1:],
            ],
            needed.is_linear,
        )
        return [number]

    def _are_kept(self, keys: Sequence[Key]) -> bool:
        return any(map(self._kept.__contains__, keys))

    def _owner_for(self, key: Key) -> int | None:
        """Return the group of a key whose value only one task needs."""
        if self._n_users[key] > 1 or key in self._kept:
            return None
        return self._owner.get(key)

    def _find_only(self, group: Group) -> Reference | None:
        """Return the one reference of a group that may be joined with another."""
        if not group.is_linear:
            return None
        found = references(group.links[0])
        return found[0] if len(found) == 1 else None

    def _split(self, number: int, classes: list[Any]) -> list[int]:
        """Split a group by what its tasks are; return the new groups."""
        group = self._groups.pop(number)
        rows: dict[Any, list[int]] = {}
        for row, kind in enumerate(classes):
            rows.setdefault(kind, []).append(row)
        made = [next(self._numbers) for _ in rows]
        for new, some in zip(made, rows.values(), strict=True):
            self._groups[new] = group.select(some)
            self._owner.update(dict.fromkeys(self._groups[new].keys, new))
        return made


def _replace(expression: Expression, function: Any) -> Expression:
    """Return an expression with other leaves in the place of references."""
    match expression:
        case Reference():
            made: Expression = function(expression)
            return made
        case Call(called, arguments, keywords):
            return Call(
                _replace(called, function),
                [_replace(argument, function) for argument in arguments],
                {name: _replace(value, function) for name, value in keywords.items()},
            )
        case Container(kind, items):
            return Container(kind, [_replace(item, function) for item in items])
    return expression


def _list_makers() -> tuple[Any, ...]:
    return (list, getattr(sys.modules.get("dask.bag.core"), "reify", list))


def _make_lazy(expression: Expression, makers: tuple[Any, ...]) -> Expression:
    """Return what computes a value without what makes a list of it."""
    match expression:
        case Call(Constant(function), [Call() as inner]) if any(
            function is maker for maker in makers
        ):
            return inner
    return expression


def _make_arguments_lazy(expression: Expression, makers: tuple[Any, ...]) -> Expression:
    match expression:
        case Call(function, arguments, keywords):
            return Call(
                function,
                [
                    _make_arguments_lazy(_make_lazy(argument, makers), makers)
                    for argument in arguments
                ],
                keywords,
            )
        case Container(kind, items) if kind is list:
            lazy = [_make_arguments_lazy(_make_lazy(i, makers), makers) for i in items]
            return Container(list, lazy)
    return expression
