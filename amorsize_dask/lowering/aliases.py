"""Keys that stand for others: whose value they are, and which key it goes by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from amorsize_dask.lowering.traversal import Traversal


@dataclass(slots=True)
class Resolution:
    """A traversal's nodes with aliases out of the way, all by number.

    Attributes
    ----------
    targets
        For each node itself, for an alias the node at the end of its chain.
    inputs
        For each node but aliases the targets of its dependencies, each once.
    needed
        The same without constants.
    n_users
        For each target how many nodes have it among their inputs.
    names
        For each target the node under whose key its value goes.
    wanted
        The targets of what the user asked for.
    """

    targets: list[int]
    inputs: list[Sequence[int]]
    needed: list[Sequence[int]]
    n_users: list[int]
    names: list[int]
    wanted: frozenset[int]

    def follows(self, number: int) -> bool:
        """Whether a task needs one task only, and no one else needs that one."""
        needed = self.needed[number]
        return (
            len(needed) == 1
            and self.n_users[needed[0]] == 1
            and needed[0] not in self.wanted
        )


def resolve(
    traversal: Traversal, wanted: Iterable[int], *, may_rename: bool
) -> Resolution:
    """Follow aliases to their targets.

    Parameters
    ----------
    traversal : Traversal
        The nodes.
    wanted : iterable of int
        What the user asked for, aliases included.
    may_rename : bool
        Let a value go by the key of an alias if all who need it know it by that one
        key, as after each of Dask's own fusions. Nodes that need it then stay as they
        are. Otherwise each value goes by its own key.
    """
    dependencies, constants = traversal.dependencies, traversal.constants.keys()
    n = len(dependencies)
    targets = list(range(n))
    inputs, needed = dependencies.copy(), dependencies.copy()
    n_users = [0] * n
    if not traversal.aliases:
        for number, found in enumerate(dependencies):
            for target in found:
                n_users[target] += 1
            if constants and not constants.isdisjoint(found):
                needed[number] = [i for i in found if i not in constants]
        return Resolution(targets, inputs, needed, n_users, targets, frozenset(wanted))
    names = [-1] * n if may_rename else targets.copy()

    def name(number: int) -> None:
        target = targets[number]
        # Known by two keys, it goes by its own.
        names[target] = number if names[target] in (-1, number) else target

    for number in traversal.sequence:
        found = dependencies[number]
        if not found:
            continue
        if number in traversal.aliases:
            targets[number] = targets[found[0]]
            continue
        resolved = [targets[dependency] for dependency in found]
        if resolved != found:
            resolved = list(dict.fromkeys(resolved))
        inputs[number] = needed[number] = resolved
        if not constants.isdisjoint(resolved):
            needed[number] = [i for i in resolved if i not in constants]
        for target in resolved:
            n_users[target] += 1
        if may_rename:
            for dependency in found:
                name(dependency)
    wanted = list(wanted)
    if may_rename:
        for number in wanted:
            name(number)
    asked = frozenset(targets[number] for number in wanted)
    return Resolution(targets, inputs, needed, n_users, names, asked)
